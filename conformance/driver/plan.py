"""Which checks there are, and in which order a topology carries them out."""

import asyncio
import dataclasses

from . import vectors
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
    topologies: tuple = ("embedded", "redis", "replica")


# Those that take longest come first.
CHECKS = [
    Check("kinds", "initialises; evaluates booleans, strings, numbers and JSON", evaluation.kinds),
    Check("vectors", "gives the answers of the vectors: targeting, rules, groups, rollouts, prerequisites", evaluation.vectors),
    Check("and-rules", "the same with `AND_RULES`", evaluation.and_rules),
    Check("changes", "sees 20 patches, a create, a delete and a group's change, none missed", changes.through_stream),
    Check("together", "loses nothing of a heartbeat and an event in one TCP segment or HTTP chunk, in either order", changes.together),
    Check("burst", "sees bursts of 50 flags on one stream", changes.burst),
    Check("restart", "comes back after the relay's restart (SIGTERM, SIGKILL), with what changed meanwhile"),
    Check("cut", "comes back after its connections were cut for 1, 5 and 60 s, with what changed meanwhile", faults.cuts),
    Check("outage", "notices nothing while SaaS, or Redis, is gone; can be started meanwhile"),
    Check("cold", "started before the relay has anything (for 6 s; servers also 26 s), initialises as soon as it has"),
    Check("key", "its key revoked: its stream ends, it does not spin", revocation.key_revoked),
    Check("environment", "its environment removed: its stream ends, it does not spin", revocation.environment_removed),
    Check("neighbour", "notices nothing of a client that asks without a pause for what it is refused", changes.neighbour),
    Check("metrics", "its counts at SaaS equal its evaluations", metrics.counted),
    Check("base-path", "works with `/api/1.0` in its base URL", settings.base_path),
    Check("https", "works over HTTPS with a private CA", settings.https),
    Check("offline", "works with `OFFLINE`, and sees an edit", offline.offline, topologies=("embedded",)),
    Check("origin", "works from another origin, with one preflight a URL", browser.cross_origin, browsers_only=True),
    Check("payload", "fetches nothing for a patch (once where the value is empty or long)", browser.evaluated_events, browsers_only=True),
]


def applies(check, topology, sdk):
    return topology in check.topologies and (sdk.browser or not check.browsers_only)


async def carry_out(topology, sdks, only=None):
    world = World(topology, sdks)
    wanted = [check for check in CHECKS if not only or check.key in only]
    try:
        await asyncio.gather(world.start_clients(), prepare(world))
        alone = [
            world.carry_out(check.key, case, check.part)
            for check in wanted
            if check.part
            for case in world.cases
            if applies(check, topology, case.sdk)
        ]
        await asyncio.gather(*alone, together(world, {check.key for check in wanted}))
    finally:
        await world.stop()
    return world


async def together(world, wanted):
    """The checks that happen to all SDKs of a topology at once."""
    if "cold" in wanted:
        await faults.cold(world, "cold")
    if "restart" in wanted or "outage" in wanted:
        opened = await faults.restart(world, "restart")
        await faults.outage(world, "outage", opened)


async def prepare(world):
    await asyncio.gather(
        steady(world, "steady", environments=20 * len(world.sdks) + 3),
        steady(world, "and", environments=3, settings={"AND_RULES": "true"}),
        steady(world, "tls", environments=len(world.sdks) + 1, settings=settings.tls_settings()),
        steady(world, "restart", environments=len(world.sdks) + 1, data=True),
        cold(world, "cold"),
        cold(world, "late"),
        without_saas(world),
    )


async def steady(world, name, environments, settings=None, data=False):
    site = await world.site(name, environments, settings, data)
    site.kinds = await evaluation.prepare_kinds(site)
    if name in ("steady", "and"):
        await prepare_vectors(site, name == "and")
    await site.start()


async def prepare_vectors(site, and_rules):
    """Two environments with the vectors: browsers get all, server SDKs the everyday ones."""
    leased = {}
    for everyday in (False, True):
        environment, key = leased[everyday] = site.lease()
        made = vectors.load(and_rules, everyday)
        for flag in made.flags:
            await site.saas.create(environment, "flag", flag, announce=False)
        for group in made.groups:
            await site.saas.create(environment, "target-segment", group, announce=False)
    site.vectors = lambda case: leased[not case.sdk.browser]


async def cold(world, name):
    site = await world.site(name, 1)
    site.kinds = await evaluation.prepare_kinds(site)


async def without_saas(world):
    if world.topology == "embedded":
        world.sites["offline"] = offline.Offline(world.sdks)
        await world.sites["offline"].start()
