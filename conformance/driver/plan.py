"""Which checks there are, and in which order a topology carries them out."""

import asyncio
import dataclasses

from . import defects, vectors
from .checks import browser, changes, evaluation, faults, metrics, offline, revocation, settings
from .world import World

# What a run covers unless it is told otherwise.
TOPOLOGIES = ("embedded", "redis", "replica")


@dataclasses.dataclass(frozen=True)
class Check:
    key: str
    title: str
    part: object = None  # for each SDK by itself; else the topology carries it out for all at once
    browsers_only: bool = False
    only: tuple = ()  # these SDKs, if any are named
    shown: bool = True  # as a row of the matrix
    topologies: tuple = TOPOLOGIES
    sites: tuple = ("steady",)  # the relays that it needs
    waits: bool = False  # for minutes, and so takes no place from others


# In the order of the matrix.
CHECKS = [
    Check("kinds", "initialises; evaluates booleans, strings, numbers and JSON", evaluation.kinds),
    Check("vectors", "gives the answers of the vectors: targeting, rules, groups, rollouts, prerequisites", evaluation.vectors, sites=("vectors",)),
    Check("and-rules", "the same with `AND_RULES`", evaluation.and_rules, sites=("and",)),
    Check("changes", "sees 20 patches, a create, a delete and a group's change, none missed", changes.through_stream),
    Check("together", "loses nothing of a heartbeat and an event in one TCP segment or HTTP chunk, in either order", changes.together),
    Check("burst", "sees bursts of 50 flags on one stream", changes.burst),
    Check("restart", "comes back after the relay's restart (SIGTERM, SIGKILL), with what changed meanwhile", sites=("restart",)),
    Check("cut", "comes back after its connections were cut for 1, 5 and 60 s, with what changed meanwhile", faults.cuts, waits=True),
    Check("outage", "notices nothing while SaaS, or Redis, is gone; can be started meanwhile", sites=("restart",)),
    Check("cold", "started before the relay has anything (for 6 s; servers also 26 s), initialises as soon as it has", sites=("cold", "late")),
    Check("key", "its key revoked: its stream ends, it does not spin", revocation.key_revoked),
    Check("environment", "its environment removed: its stream ends, it does not spin", revocation.environment_removed),
    Check("neighbour", "notices nothing of a client that asks without a pause for what it is refused", changes.neighbour),
    Check("metrics", "its counts at SaaS equal its evaluations", metrics.counted, waits=True),
    Check("base-path", "works with `/api/1.0` in its base URL", settings.base_path),
    Check("https", "works over HTTPS with a private CA", settings.https, sites=("tls",)),
    Check("offline", "works with `OFFLINE`, and sees an edit", offline.offline, topologies=("embedded",), sites=("offline",)),
    Check("origin", "works from another origin, with one preflight a URL", browser.cross_origin, browsers_only=True),
    Check("payload", "fetches nothing for a patch (once where the value is empty or long)", browser.evaluated_events, browsers_only=True),
    Check("closing", "its defect at a close, shown at a plain server", defects.closing_panics, only=("go",), shown=False, topologies=("embedded",), sites=()),
    Check("giving-up", "its defect at a refused stream, shown at a plain server", defects.gives_its_stream_up, only=("java",), shown=False, topologies=("embedded",), sites=(), waits=True),
]

# Checks, of all topologies, that are carried out at the same time; those that wait come on top.
PLACES = asyncio.Semaphore(16)


def applies(check, topology, sdk):
    named = not check.only or sdk.key in check.only
    return topology in check.topologies and named and (sdk.browser or not check.browsers_only)


async def carry_out(topology, sdks, only=None, broken=None):
    """The checks of a topology; with `broken`, before relays that a mutation makes break a promise."""
    world = World(topology, sdks, broken)
    # What waits does so while the rest is carried out.
    wanted = sorted(
        (check for check in CHECKS if (not only or check.key in only) and topology in check.topologies),
        key=lambda check: not check.waits,
    )
    keys = {check.key for check in wanted}
    try:
        sites = {site for check in wanted for site in check.sites}
        await asyncio.gather(world.start_clients(), *(SITES[site](world, site) for site in sites))
        alone = [
            at_its_place(world, check, case)
            for check in wanted
            if check.part
            for case in world.cases
            if applies(check, topology, case.sdk)
        ]
        await asyncio.gather(together(world, keys), *alone)
    finally:
        await world.stop()
    return world


async def at_its_place(world, check, case):
    if check.waits:
        return await world.carry_out(check.key, case, check.part)
    async with PLACES:
        return await world.carry_out(check.key, case, check.part)


async def together(world, wanted):
    """The checks that happen to all SDKs of a topology at once."""
    await asyncio.gather(cold(world, wanted), away(world, wanted))


async def cold(world, wanted):
    if "cold" in wanted:
        await faults.cold(world, "cold")


async def away(world, wanted):
    if "restart" in wanted:
        await faults.restart(world, "restart")
    if "outage" in wanted:
        await faults.outage(world, "outage")


async def steady(world, name, environments=None, settings=None, data=False):
    site = await world.site(name, environments or 20 * len(world.sdks) + 3, settings, data)
    site.kinds = await evaluation.prepare_kinds(site)
    await site.start()


async def with_vectors(world, name):
    """Two environments with the vectors: browsers get all, server SDKs the everyday ones."""
    and_rules = name == "and"
    site = await world.site(name, 2, {"AND_RULES": "true"} if and_rules else None)
    leased = {}
    for everyday in (False, True):
        environment, _ = leased[everyday] = site.lease()
        made = vectors.load(and_rules, everyday)
        for flag in made.flags:
            await site.saas.create(environment, "flag", flag, announce=False)
        for group in made.groups:
            await site.saas.create(environment, "target-segment", group, announce=False)
    site.vectors = lambda case: leased[not case.sdk.browser]
    await site.start()


async def with_tls(world, name):
    await steady(world, name, len(world.sdks) + 1, settings.tls_settings(world.broken))


async def with_data(world, name):
    await steady(world, name, 2 * len(world.sdks) + 1, data=True)


async def not_started(world, name):
    site = await world.site(name, 1)
    site.kinds = await evaluation.prepare_kinds(site)


async def without_saas(world, name):
    world.sites[name] = offline.Offline(world)
    await world.sites[name].start()


SITES = {
    "steady": steady,
    "vectors": with_vectors,
    "and": with_vectors,
    "tls": with_tls,
    "restart": with_data,
    "cold": not_started,
    "late": not_started,
    "offline": without_saas,
}
