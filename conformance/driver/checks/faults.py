"""What an SDK notices of faults, and how it comes back: cuts, restarts, outages, a cold start."""

import asyncio

from .. import web
from ..flags import ALICE, ask, flag, serving
from ..process import Failed, end, eventually
from ..shim import Shim
from .evaluation import QUESTIONS, compare

# The slowest SDK comes back a minute after the fault has gone.
BACK = 150


async def cuts(case):
    """All connections cut for 1, 5 and 60 seconds: it is back, with what changed meanwhile."""
    took = await asyncio.gather(*(cut(case, seconds) for seconds in (1, 5, 60)))
    return "back after " + ", ".join(f"{seconds:.1f}" for seconds in took) + " s"


async def cut(case, seconds):
    site = case.site("steady")
    environment, key = site.lease()
    await site.saas.create(environment, "flag", flag("patched", 3))
    await site.serves(environment, key, "patched")
    shim = await Shim(site.port).start()
    app = await case.open(shim.url, key, ALICE)
    try:
        await site.streaming(environment)
        away = asyncio.create_task(shim.cut(seconds))
        await asyncio.sleep(0.1)
        await site.saas.patch(environment, "flag", "patched", serving(1))
        await away
        took = await app.until([ask("patched")], ["value-1"], BACK)
        await site.streaming(environment, 1, BACK)
        await site.saas.patch(environment, "flag", "patched", serving(2))
        await app.until([ask("patched")], ["value-2"])
        await app.close()
    except Failed as fault:
        raise Failed(f"after a cut of {seconds} s: {fault}") from None
    finally:
        await shim.stop()
    return took


async def restart(world, check):
    """The relay stops (SIGTERM, then SIGKILL) and comes back: so do all SDKs, with what changed."""
    site = world.sites["restart"]
    opened = {}

    async def begin(case):
        environment, key = site.lease()
        await site.saas.create(environment, "flag", flag("patched", 4))
        await site.serves(environment, key, "patched")
        app = await case.open(site.url, key, ALICE)
        await site.streaming(environment)
        opened[case] = (app, environment, key)

    cases = await world.each(check, world.cases, begin)
    for number, signal in ((1, "terminate"), (2, "kill")):

        async def change():
            for case in cases:
                await site.saas.patch(opened[case][1], "flag", "patched", serving(number))
            await asyncio.sleep(1)

        await site.restart(signal, change)

        async def back(case):
            app, environment, _ = opened[case]
            try:
                took = await app.until([ask("patched")], [f"value-{number}"], BACK)
                await site.streaming(environment, 1, BACK)
            except Failed as fault:
                raise Failed(f"after {signal}: {fault}") from None
            return f"back {took:.1f} s after {signal}"

        cases = await world.each(check, cases, back, last=number == 2)
    return opened


async def outage(world, check, opened):
    """SaaS, then Redis, gone for a while: evaluations, streams and new SDKs notice nothing."""
    site = world.sites["restart"]
    fresh, before = {}, {}

    async def during(case):
        app, environment, key = opened[case]
        before[case] = await site.streams(environment)
        fresh[case] = await case.open(site.url, key, ALICE)
        for one in (app, fresh[case]):
            given = await one.values([ask("patched")])
            if given != ["value-2"]:
                raise Failed(f"without {what} it gives {given}")
        await site.streaming(environment, before[case] + 1)

    async def after(case):
        _, environment, _ = opened[case]
        if await site.streams(environment) != before[case] + 1:
            raise Failed(f"without {what} a stream ended")
        await fresh[case].close()

    async def changed(case):
        app, environment, _ = opened[case]
        await site.saas.patch(environment, "flag", "patched", serving(3))
        await app.until([ask("patched")], ["value-3"], BACK)
        await app.close()

    cases = [case for case in world.cases if case in opened]
    for what, gone, back in outages(site):
        await gone()
        cases = await world.each(check, cases, during)
        await asyncio.sleep(5)
        await back()
        cases = await world.each(check, cases, after)
    await world.each(check, cases, changed, last=True)


def outages(site):
    """What goes away: SaaS, and Redis where there is one; how it goes, and how it comes back."""

    async def saas_gone():
        await site.upstream.cut(0)
        site.upstream.refusing = True

    async def saas_back():
        site.upstream.refusing = False

    async def redis_gone():
        await end(site.redis)

    yield "SaaS", saas_gone, saas_back
    if site.redis:
        yield "Redis", redis_gone, site.start_redis


async def cold(world, check):
    """SDKs start while the relay has nothing yet to serve: they initialise as soon as it has."""
    await asyncio.gather(
        start_cold(world, check, "cold", world.cases, seconds=6),
        # Longer than the relay holds a request: those that ask again come in.
        start_cold(world, check, "late", [case for case in world.cases if not case.sdk.browser], seconds=26),
    )
    for case in world.cases:
        if (check, case.sdk.key) not in world.found:
            world.note(check, case.sdk, True)


async def start_cold(world, check, name, cases, seconds):
    site = world.sites[name]
    site.upstream.refusing = True
    await site.start(wait=False)

    async def listens():
        status, _ = await web.request("GET", f"{site.url}/livez")
        return status == 200

    await eventually("the relay listening", listens)
    served = False

    async def initialise(case):
        app = case.app()
        ready = await app.open(site.url, site.kinds[1], ALICE, seconds=seconds + 90)
        if not ready or not served:
            what = "before there was anything" if ready else "never"
            raise Failed(f"SaaS {seconds} s late: it initialised {what}")
        compare(await app.values(QUESTIONS))
        await app.close()

    starting = asyncio.create_task(world.each(check, cases, initialise))
    await asyncio.sleep(seconds)
    served, site.upstream.refusing = True, False
    await starting
