"""An application with the published Python SDK (the language: ../README.md)."""

import json
import logging
import os
import sys
import threading
import time

from featureflags.client import CfClient
from featureflags.config import Config
from featureflags.evaluations.auth_target import Target

logging.disable(logging.CRITICAL)
apps = {}
printer = threading.Lock()


def open_app(todo):
    config = Config(base_url=todo["url"], events_url=todo["url"], tls_trusted_cas_file=todo.get("ca"))
    deadline = time.monotonic() + todo["seconds"]

    def start():  # the constructor waits for authentication
        apps[todo["app"]] = CfClient(todo["key"], config=config)

    threading.Thread(target=start, daemon=True).start()
    while time.monotonic() < deadline:
        sdk = apps.get(todo["app"])
        if sdk is not None and sdk.is_initialized():
            return {"ready": True}
        time.sleep(0.01)
    return {"ready": False}


def evaluate(sdk, ask):
    who = ask["target"]
    target = Target(identifier=who["identifier"], name=who.get("name", ""), attributes=who.get("attributes") or {})
    call = {
        "boolean": sdk.bool_variation,
        "string": sdk.string_variation,
        "int": sdk.number_variation,
        "json": sdk.json_variation,
    }[ask["kind"]]
    try:
        return call(ask["flag"], target, ask["default"])
    except Exception as fault:
        return {"raised": repr(fault)}


def values(sdk, todo):
    return [evaluate(sdk, ask) for ask in todo["ask"]]


def until(sdk, todo):
    began = time.monotonic()
    deadline = began + todo["seconds"]
    while True:
        last = values(sdk, todo)
        if last == todo["values"]:
            return {"seen": True}
        if time.monotonic() > deadline:
            return {"seen": False, "last": last}
        time.sleep(0.01 if time.monotonic() < began + 1 else 0.1)


def do(todo):
    if todo["do"] == "open":
        return open_app(todo)
    sdk = apps[todo["app"]]
    if todo["do"] == "values":
        return {"values": values(sdk, todo)}
    if todo["do"] == "until":
        return until(sdk, todo)
    if todo["do"] == "close":
        apps.pop(todo["app"]).close()
        return {}
    raise ValueError(f"nobody knows how to {todo['do']}")


def carry_out(todo):
    try:
        answer = do(todo)
    except Exception as fault:
        answer = {"error": repr(fault)}
    with printer:
        print(json.dumps({"id": todo["id"], **answer}), flush=True)


for line in sys.stdin:
    threading.Thread(target=carry_out, args=(json.loads(line),), daemon=True).start()
os._exit(0)
