"""A small HTTP client for the driver's own requests."""

import asyncio
import http.client
import json
import ssl
import urllib.parse

from .paths import TLS


def _request(method, url, body, headers):
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=str(TLS / "trusted.pem"))
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=60, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    try:
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


async def request(method, url, value=None, headers=None):
    """Status and body of an answer; `value` is sent as JSON."""
    headers = dict(headers or {})
    body = None
    if value is not None:
        body = json.dumps(value)
        headers["Content-Type"] = "application/json"
    return await asyncio.to_thread(_request, method, url, body, headers)


async def get_json(url):
    status, body = await request("GET", url)
    if status != 200:
        raise OSError(f"{url} answered {status}")
    return await asyncio.to_thread(json.loads, body)
