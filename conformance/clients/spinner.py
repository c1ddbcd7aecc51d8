"""A small client that behaves like the Go SDK after 15 minutes of refusals: it asks for the stream with
a token that is refused, without any pause, but for the `Retry-After` of a 429 that Go's HTTP client
keeps to; and, beside that, one that does not even keep to that. Arguments: the relay, how many seconds."""

import http.client
import sys
import threading
import time
import urllib.parse

relay, seconds = urllib.parse.urlsplit(sys.argv[1]), float(sys.argv[2])
until = time.monotonic() + seconds
counts = {"polite": 0, "rude": 0}
statuses = set()


def ask(name, token, keeps_to_retry_after):
    connection = None
    while time.monotonic() < until:
        try:
            connection = connection or http.client.HTTPConnection(relay.hostname, relay.port, timeout=10)
            connection.request("GET", "/stream", headers={"Authorization": f"Bearer {token}", "API-Key": "gone"})
            answer = connection.getresponse()
            body = answer.read()
            wait = answer.getheader("Retry-After")
            if answer.status not in (401, 429) or body:
                print(f"unexpected: {answer.status} with {body[:80]!r}", flush=True)
            if answer.status == 429 and not wait:
                print("a 429 without Retry-After", flush=True)
            statuses.add(answer.status)
            counts[name] += 1
            if answer.getheader("Connection") == "close":
                connection = None
            if wait and keeps_to_retry_after:
                time.sleep(max(0, min(float(wait), until - time.monotonic())))
        except OSError:
            connection = None


# Tokens with the right shape that nobody signed.
polite, rude = (f"eyJhbGciOiJIUzI1NiJ9.eyJ{name}.c2ln{time.time_ns()}" for name in ("A", "B"))
threads = [
    threading.Thread(target=ask, args=("polite", polite, True)),
    threading.Thread(target=ask, args=("rude", rude, False)),
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
if statuses != {401, 429}:
    print(f"unexpected statuses {statuses}")
print(f"beside it {counts['polite']} requests with Retry-After kept to, {counts['rude']} without, in {seconds:.0f} s")
if counts["polite"] > 5:
    print("Retry-After did not calm the polite one")
