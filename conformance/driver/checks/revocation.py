"""What an SDK does when its key or its environment is taken away: its stream ends, it does not spin."""

import asyncio

from ..flags import ALICE, ask
from ..process import Failed, eventually
from ..shim import Shim

WATCHED = 20
# Of one SDK in that time: its retries, of which none has needed more than four, and no loop.
MOST = 20


async def key_revoked(case):
    return await taken_away(case, lambda environment, key: f"environments/{environment}/keys/{key}")


async def environment_removed(case):
    return await taken_away(case, lambda environment, _: f"environments/{environment}")


async def taken_away(case, path):
    site = case.site("steady")
    environment, key = site.lease()
    shim = await Shim(site.port).start()
    app = await case.open(shim.url, key, ALICE)
    await site.streaming(environment)
    streams = shim.streams()
    await site.saas.admin("DELETE", path(environment, key))
    await eventually("the end of its stream", shim.ended(streams))
    before = len(shim.requests)
    await asyncio.sleep(WATCHED)
    requests = len(shim.requests) - before
    # It still evaluates, with what it has.
    given = await app.values([ask("string-flag-1")])
    await app.close()
    await shim.stop()
    if requests > MOST:
        raise Failed(f"it asked {requests} times in {WATCHED} s")
    if given != ["green"]:
        raise Failed(f"afterwards it gives {given}")
    return f"{requests} requests in {WATCHED} s"
