"""A plain server: serves fixed flags and groups to SDKs, and no more. It shares nothing with the relay."""

import asyncio
import base64
import json
import re


class Plain:
    """`environments`: SDK key (which is the environment's name too) to `(flags, groups)`."""

    def __init__(self):
        self.environments = {}
        self.streams = True
        self._server = None

    async def start(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def stop(self):
        self._server.close()

    async def _serve(self, reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = re.search(r"(?im)^content-length: *(\d+)", head)
                body = await reader.readexactly(int(length.group(1))) if length else b""
                path = head.split(" ")[1].partition("?")[0]
                await self.before(path)
                if path == "/stream" and self.streams:
                    return await self._stream(writer)
                status, value = self._answer(path, "rules=v2" in head, body)
                text = json.dumps(value).encode()
                writer.write(
                    f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(text)}\r\n\r\n".encode() + text
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return None
        finally:
            writer.close()

    async def before(self, path):
        """Is called before an answer."""

    def _answer(self, path, v2, body):
        if path == "/client/auth":
            return "200 OK", {"authToken": token(json.loads(body)["apiKey"])}
        if path.startswith("/metrics/"):
            return "200 OK", {}
        found = re.fullmatch(r"/client/env/([^/]+)/(feature-configs|target-segments)", path)
        if not found:
            return "404 Not Found", {"error": "unknown"}
        flags, groups = self.environments[found.group(1)]
        if found.group(2) == "feature-configs":
            return "200 OK", [{**flag, "variationToTargetMap": flag.get("variationToTargetMap") or []} for flag in flags]
        return "200 OK", [with_rules(group, v2) for group in groups]

    async def _stream(self, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n\n:\n\n")
        while True:
            await writer.drain()
            await asyncio.sleep(10)
            writer.write(b"\n:\n\n")


def token(environment):
    def encode(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    claims = {"environment": environment, "clusterIdentifier": "1"}
    return f"{encode({'alg': 'HS256', 'typ': 'JWT'})}.{encode(claims)}.c2lnbmF0dXJl"


def with_rules(group, v2):
    """One form of a group's rules, as SaaS gives it."""
    serving = group.get("servingRules") or []
    if v2 and serving:
        return {**group, "rules": []}
    group = {name: value for name, value in group.items() if name != "servingRules"}
    made = [rule["clauses"][0] for rule in serving if rule["clauses"]]
    return {**group, "rules": group.get("rules") or made}
