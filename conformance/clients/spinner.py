"""A small client that behaves like the Go SDK after 15 minutes of refusals: it asks for the stream with
a token that is refused, without any pause but for the `Retry-After` of a 429, which Go's HTTP client
keeps to; and, beside that, one that does not even keep to that, 600 times a second.

Arguments: the relay, and how many refusals the second one collects. Ends with 1, and says why, where an
answer is not what is promised."""

import collections
import http.client
import sys
import threading
import time
import urllib.parse

A_SECOND = 600
relay, wanted = urllib.parse.urlsplit(sys.argv[1]), int(sys.argv[2])
over = threading.Event()
statuses = {"polite": collections.Counter(), "rude": collections.Counter()}
faults = collections.Counter()


def ask(name, pause):
    """Asks until it is over; `pause` is told the answer's `Retry-After`."""
    # A token with the right shape that nobody signed.
    headers = {"Authorization": f"Bearer eyJhbGciOiJIUzI1NiJ9.eyJ{name}.c2ln{time.time_ns()}", "API-Key": "gone"}
    connection = None
    while not over.is_set():
        try:
            connection = connection or http.client.HTTPConnection(relay.hostname, relay.port, timeout=30)
            connection.request("GET", "/stream", headers=headers)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as fault:
            faults[f"{name} met {fault!r}"] += 1
            connection = None
            over.wait(0.1)
            continue
        wait = answer.getheader("Retry-After")
        statuses[name][answer.status] += 1
        if body:
            faults[f"{answer.status} with {body[:80]!r}"] += 1
        if answer.status == 429 and not wait:
            faults["429 without Retry-After"] += 1
        if answer.getheader("Connection") == "close":
            connection = None
        pause(float(wait or 0))


def keeps_to_it(wait):
    over.wait(wait)


def asks_on(_):
    asked = statuses["rude"].total()
    if asked >= wanted:
        over.set()
    time.sleep(max(0, began + asked / A_SECOND - time.monotonic()))


began = time.monotonic()
threads = [
    threading.Thread(target=ask, args=("polite", keeps_to_it)),
    threading.Thread(target=ask, args=("rude", asks_on)),
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for name, seen in statuses.items():
    if seen[401] != 1 or set(seen) - {401, 429}:
        faults[f"the {name} one was answered {dict(seen)}, not one 401 and then 429"] += 1
polite, rude = (seen.total() for seen in statuses.values())
if polite > 2 + (time.monotonic() - began) // 60:
    faults[f"Retry-After did not calm the polite one: {polite} requests"] += 1
if faults:
    print("; ".join(f"{fault} ({times})" for fault, times in faults.most_common(5)))
    sys.exit(1)
print(f"{rude} requests that are refused, and {polite} where Retry-After is kept to")
