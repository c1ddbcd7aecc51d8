"""An application with the published Python SDK: says what it sees as JSON lines."""

import json
import os
import sys
import time

from featureflags.client import CfClient
from featureflags.config import with_base_url, with_events_url, with_stream_enabled
from featureflags.evaluations.auth_target import Target


def say(**fields):
    print(json.dumps(fields), flush=True)


url, key, patched = os.environ["RELAY"], os.environ["SDK_KEY"], os.environ["PATCHED"]
client = CfClient(key, with_base_url(url), with_events_url(url), with_stream_enabled(True))
client.wait_for_initialization()
target = Target(identifier="alice", name="Alice", attributes={"email": "alice@harness.io", "plan": "gold"})


def evaluate():
    return {
        "bool-flag-0": client.bool_variation("bool-flag-0", target, False),
        "string-flag-1": client.string_variation("string-flag-1", target, "default"),
        "number-flag-2": client.number_variation("number-flag-2", target, -1),
        "json-flag-3": client.json_variation("json-flag-3", target, {}),
    }


say(event="ready", values=evaluate())
before = client.bool_variation(patched, target, False)
deadline = time.monotonic() + 30
while client.bool_variation(patched, target, before) == before:
    if time.monotonic() > deadline:
        say(event="missed")
        sys.exit(1)
    time.sleep(0.01)
say(event="changed", value=client.bool_variation(patched, target, before))
client.close()
os._exit(0)
