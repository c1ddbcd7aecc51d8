"""Defects of SDKs: which answers each excuses, and the run of its reproduction on a plain server."""

import json

from reproductions.plain import Plain

from .flags import ALICE
from .paths import HERE
from .process import Failed


def listed():
    return json.loads((HERE / "reproductions" / "evaluation.json").read_text())


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
