"""What an SDK sees of changes: through the stream, none missed, however the pieces arrive."""

import asyncio
import sys

from ..flags import ALICE, ask, flag, group, in_group, listed, serving
from ..paths import CLIENTS
from ..process import Failed, eventually, start
from ..shim import Shim

PATCHES = 20
BURST = 50
REFUSALS = 1_200


async def through_stream(case):
    """Twenty patches, a create, a delete and a change of a group, each seen before the next, and none
    of them by the chance of a poll."""
    site = case.site("steady")
    environment, key = site.lease()
    saas = site.saas
    await saas.create(environment, "flag", flag("patched", PATCHES + 1))
    await saas.create(environment, "target-segment", group("friends"))
    await saas.create(environment, "flag", in_group("for-friends", "friends"))
    await site.serves(environment, key, "for-friends")
    shim = await Shim(site.port).start()
    app = await case.open(shim.url, key, ALICE)
    await site.streaming(environment)
    await app.until([ask("patched"), ask("for-friends")], ["value-0", "value-0"])
    delays = []
    for number in range(1, PATCHES + 1):
        await saas.patch(environment, "flag", "patched", serving(number))
        delays.append(await app.until([ask("patched")], [f"value-{number}"]))
    await saas.patch(environment, "target-segment", "friends", {"included": listed(["alice"])})
    await app.until([ask("for-friends")], ["value-1"])
    for _ in range(3):
        await saas.create(environment, "flag", flag("created"))
        await app.until([ask("created")], ["value-0"])
        before = polls(shim)
        await saas.delete(environment, "flag", "created")
        await app.until([ask("created")], ["the default"])
        if case.sdk.browser or polls(shim) == before:
            break
    else:
        raise Failed("it saw a deletion by polling only")
    if not case.sdk.browser:
        # Browsers do not poll while they stream; the others fetch what an event names.
        for name, events in (("patched", PATCHES), ("friends", 1), ("created", 1)):
            await eventually(f"{events} fetches of {name}, one an event", lambda: fetched(shim, name, events))
    await app.close()
    await shim.stop()
    delays.sort()
    return f"a patch took {delays[len(delays) // 2] * 1000:.0f} ms, at most {delays[-1] * 1000:.0f}"


def polls(shim):
    paths = [request.path.partition("?")[0] for request in shim.asked()]
    return sum(path.endswith(("/feature-configs", "/target-segments")) for path in paths)


async def fetched(shim, name, times):
    paths = [request.path.partition("?")[0] for request in shim.asked()]
    return sum(path.endswith(f"/{name}") for path in paths) >= times


async def together(case):
    """A heartbeat and an event in one TCP segment and in one HTTP chunk, in both orders."""
    ways = [(first, chunked) for first in ("heartbeat", "event") for chunked in (False, True)]
    await asyncio.gather(*(joined(case, *way) for way in ways))


async def joined(case, first, chunked):
    site = case.site("steady")
    environment, key = site.lease()
    await site.saas.create(environment, "flag", flag("patched", 5))
    await site.serves(environment, key, "patched")
    shim = await Shim(site.port, first, chunked).start()
    app = await case.open(shim.url, key, ALICE)
    await site.streaming(environment)
    # The first heartbeat, and the event of what was created before it came.
    await eventually("the begin of the stream", lambda: begun(shim))
    way = f"the {first} first in one {'chunk' if chunked else 'segment'}"
    try:
        for number in (1, 3):
            shim.holding = True
            if first == "heartbeat":
                await eventually("a heartbeat", lambda: holds(shim))
            await site.saas.patch(environment, "flag", "patched", serving(number))
            await app.until([ask("patched")], [f"value-{number}"])
            # It may know the value early, by a fetch for an event before: wait for the one that is held.
            wanted = (number + 1) // 2
            await eventually("both in one piece", lambda: joins(shim, wanted))
            # What comes alone afterwards is not lost either.
            await site.saas.patch(environment, "flag", "patched", serving(number + 1))
            await app.until([ask("patched")], [f"value-{number + 1}"])
        streams = len(shim.asked("/stream"))
        if streams != 1:
            raise Failed(f"it opened {streams} streams")
        await app.close()
    except Failed as fault:
        raise Failed(f"{way}: {fault}") from None
    finally:
        await shim.stop()


async def begun(shim):
    return shim.pieces >= 2


async def joins(shim, times):
    return shim.joined >= times


async def holds(shim):
    return shim.holds


async def burst(case):
    """Fifty flags changed at once, three times: all seen, on the same stream."""
    site = case.site("steady")
    shim = await Shim(site.port).start()
    await bursts(case, site, url=shim.url)
    streams = len(shim.asked("/stream"))
    await shim.stop()
    if streams != 1:
        raise Failed(f"it opened {streams} streams")


async def bursts(case, site, url=None, **more):
    environment, key = site.lease()
    names = [f"burst-{n}" for n in range(BURST)]
    for name in names:
        await site.saas.create(environment, "flag", flag(name, 4), announce=name == names[-1])
    await site.serves(environment, key, names[-1])
    app = await case.open(url or site.url, key, ALICE, **more)
    await site.streaming(environment)
    questions = [ask(name) for name in names]
    for number in (1, 2, 3):
        await asyncio.gather(*(site.saas.patch(environment, "flag", name, serving(number)) for name in names))
        await app.until(questions, [f"value-{number}"] * BURST)
    await app.close()


async def neighbour(case):
    """A client beside it asks without a pause for what it is refused: this SDK notices nothing."""
    site = case.site("steady")
    environment, key = site.lease()
    await site.saas.create(environment, "flag", flag("patched", PATCHES + 1))
    await site.serves(environment, key, "patched")
    app = await case.open(site.url, key, ALICE)
    await site.streaming(environment)
    spinner = await start(
        f"{case.client.name}-spinner", [sys.executable, CLIENTS / "spinner.py", site.url, REFUSALS], pipes=True
    )
    said = asyncio.create_task(spinner.communicate())
    seen = 0
    while not said.done() or seen < 5:
        number = seen % PATCHES + 1
        await site.saas.patch(environment, "flag", "patched", serving(number))
        await app.until([ask("patched")], [f"value-{number}"])
        seen += 1
    said = (await said)[0].decode().strip()
    await app.close()
    if spinner.returncode:
        raise Failed(f"the neighbour: {said}")
    return f"{seen} patches beside {said}"
