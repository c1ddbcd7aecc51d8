"""Defects of SDKs: which answers each excuses, and the run of its reproduction on a plain server."""

import json

from reproductions import closing, giving_up
from reproductions.plain import Plain

from .client import Client
from .flags import ALICE
from .paths import HERE
from .process import Failed


def listed():
    files = ("evaluation.json", "behaviour.json")
    return [entry for name in files for entry in json.loads((HERE / "reproductions" / name).read_text())]


def of(sdk):
    """The defects of an SDK, with their numbers in the list."""
    return [(number, entry) for number, entry in enumerate(listed(), 1) if sdk.key in entry["sdks"]]


def excuse(sdk, line):
    """The number of the defect that makes an SDK answer a line of the vectors wrongly."""
    prefix, _, flag = line
    for number, entry in of(sdk):
        if flag in entry["shown_by"].get(prefix, []):
            return number
    return None


async def reproduce(case, vectors, wrong):
    """Each of the wrong answers has to come from a plain server as well, that has one flag only."""
    server = await Plain().start()
    try:
        for (question, _, line), value in wrong:
            key = question["flag"]
            server.environments[key] = vectors.only(key)
            app = await case.open(server.url, key, ALICE)
            given = await app.values([question])
            await app.close()
            if given != [value]:
                raise Failed(f"{' / '.join(line)} is {value!r} at the relay, but {given[0]!r} at a plain server")
    finally:
        await server.stop()


async def closing_panics(case):
    """An SDK that is closed while it polls ends its process: so it is closed only while it streams."""
    client = await Client(f"{case.client.name}-closing", case.sdk).start()
    try:
        if not await closing.panics(client, ALICE):
            raise Failed("it does not panic any more: strike the defect, and close it always")
    finally:
        await client.stop()
    return "it panics, as at any server"


def streams_again(sdk, seconds):
    """Whether an SDK comes back to its stream after that was refused for so long."""
    gives_up = any(entry.get("check") == "cut" for _, entry in of(sdk))
    return not gives_up or seconds < giving_up.PATIENCE


async def gives_its_stream_up(case):
    """An SDK that only polls after its stream was refused: then no stream is waited for."""
    if not await giving_up.gives_up(case.app(), ALICE):
        raise Failed("it asks for its stream again: strike the defect, and wait for the stream after each cut")
    return "it only polls, as at any server"
