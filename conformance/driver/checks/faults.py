"""What an SDK notices of faults, and how it comes back: cuts, restarts, outages, a cold start."""

import asyncio

from .. import defects, web
from ..flags import ALICE, ask, flag, serving
from ..process import Failed, end, eventually
from ..shim import Shim
from .evaluation import QUESTIONS, compare

# The slowest SDK comes back a minute after the fault has gone.
BACK = 150
# For so many seconds the relay holds a request at a cold start.
HELD = 20


async def cuts(case):
    """All connections cut for 1, 5 and 60 seconds: it is back, with what changed meanwhile."""
    took = await asyncio.gather(*(cut(case, seconds) for seconds in (1, 5, 60)))
    return "back after " + ", ".join(f"{seconds:.1f}" for seconds in took) + " s"


async def cut(case, seconds):
    site = case.site("steady")
    shim = await Shim(site.port).start()
    try:
        app, environment, key = await streaming(case, site, shim.url)
        shim.cut()
        over = asyncio.create_task(asyncio.sleep(seconds))
        await site.saas.patch(environment, "flag", "patched", serving(1))
        await site.serves(environment, key, "patched", "v1")
        await over
        shim.refusing = False
        took = await app.until([ask("patched")], ["value-1"], BACK)
        streams = defects.streams_again(case.sdk, seconds)
        if streams:
            await site.streaming(environment, BACK)
        await site.saas.patch(environment, "flag", "patched", serving(2))
        await app.until([ask("patched")], ["value-2"], None if streams else BACK)
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
        opened[case] = await streaming(case, site, site.url)

    cases = await world.each(check, world.cases, begin)
    for number, signal in ((1, "terminate"), (2, "kill")):

        async def change():
            for case in cases:
                await site.saas.patch(opened[case][1], "flag", "patched", serving(number))
            await asyncio.sleep(1)

        await site.restart(signal, change)

        async def back(case):
            app, environment, key = opened[case]
            try:
                took = await app.until([ask("patched")], [f"value-{number}"], BACK)
                await site.streaming(environment, BACK)
                if number == 2:
                    await app.close()
            except Failed as fault:
                serving = await site.serving_of(environment, key, "patched")
                told = f"the relay serves {serving}, and has {await site.streams(environment)} streams"
                raise Failed(f"after {signal}: {fault}; {told}") from None
            return f"back {took:.1f} s after {signal}"

        cases = await world.each(check, cases, back, last=number == 2)


async def streaming(case, site, url):
    """An SDK on an environment of its own with the flag `patched`; its stream is open."""
    environment, key = site.lease()
    await site.saas.create(environment, "flag", flag("patched", 4))
    await site.serves(environment, key, "patched")
    app = await case.open(url, key, ALICE)
    await site.streaming(environment)
    return app, environment, key


async def outage(world, check):
    """SaaS, then Redis, gone for a while: evaluations, streams and new SDKs notice nothing."""
    site = world.sites["restart"]
    opened, shims, fresh = {}, {}, {}

    async def begin(case):
        shims[case] = await Shim(site.port).start()
        opened[case] = await streaming(case, site, shims[case].url)

    async def during(case):
        app, _, key = opened[case]
        fresh[case] = await case.open(shims[case].url, key, ALICE)
        for one in (app, fresh[case]):
            given = await one.values([ask("patched")])
            if given != ["value-0"]:
                raise Failed(f"without {what} it gives {given}")

        async def streams():
            return len(shims[case].asked("/stream")) > number

        await eventually(f"the stream of an SDK that came without {what}", streams)

    async def after(case):
        streams = len(shims[case].asked("/stream"))
        if streams != number + 1:
            raise Failed(f"without {what} a stream ended: {streams} were opened, by {number + 1} SDKs")
        await fresh[case].close()

    async def changed(case):
        app, environment, _ = opened[case]
        await site.saas.patch(environment, "flag", "patched", serving(1))
        await app.until([ask("patched")], ["value-1"], BACK)
        await app.close()
        await shims[case].stop()

    cases = await world.each(check, world.cases, begin)
    for number, (what, gone, back) in enumerate(outages(site), 1):
        await gone()
        cases = await world.each(check, cases, during)
        await asyncio.sleep(5)
        await back()
        cases = await world.each(check, cases, after)
    await world.each(check, cases, changed, last=True)


def outages(site):
    """What goes away: SaaS, and Redis where there is one; how it goes, and how it comes back."""

    async def saas_gone():
        site.upstream.cut()

    async def saas_back():
        site.upstream.refusing = False

    async def redis_gone():
        await end(site.redis)

    yield "SaaS", saas_gone, saas_back
    if site.redis:
        yield "Redis", redis_gone, site.start_redis


async def cold(world, check):
    """SDKs start while the relay has nothing yet to serve: they initialise as soon as it has."""
    servers = [case for case in world.cases if not case.sdk.browser]
    took = {case: [] for case in world.cases}
    await asyncio.gather(
        start_cold(world, check, "cold", took, world.cases, seconds=6),
        # Longer than the relay holds a request: those that ask again come in.
        start_cold(world, check, "late", took, servers, seconds=26),
    )
    for case in world.cases:
        if (check, case.sdk.key) not in world.found:
            after = " and ".join(f"{seconds:.1f}" for seconds in took[case])
            world.note(check, case.sdk, True, f"{after} s after SaaS came")


async def start_cold(world, check, name, took, cases, seconds):
    """SaaS comes `seconds` late. Who is answered as long as requests are held asked once."""
    site = world.sites[name]
    site.upstream.refusing = True
    await site.start(wait=False)

    async def listens():
        status, _ = await web.request("GET", f"{site.url}/livez")
        return status == 200

    await eventually("the relay listening", listens)
    loop = asyncio.get_running_loop()
    came = None

    async def initialise(case):
        shim = await Shim(site.port).start()
        app, began = case.app(), loop.time()
        ready = await app.open(shim.url, site.kinds[1], ALICE, seconds=seconds + BACK)
        if not ready or not came:
            what = "before there was anything" if ready else "never"
            raise Failed(f"SaaS {seconds} s late: it initialised {what}")
        took[case].append(loop.time() - came)
        held = loop.time() - began < HELD
        compare(await app.values(QUESTIONS))
        times = len(shim.asked("/client/auth"))
        if held and times > 1:
            raise Failed(f"SaaS {seconds} s late: it had to authenticate {times} times")
        await app.close()
        await shim.stop()

    starting = asyncio.create_task(world.each(check, cases, initialise))
    await asyncio.sleep(seconds)
    came, site.upstream.refusing = loop.time(), False
    await starting
