"""What only browsers have: another origin, and events that carry what they evaluate to."""

import base64
import json

from ..flags import ALICE, ask, flag, serving
from ..process import Failed
from ..shim import Shim

PATCHES = 5
LONG = "x" * 1_500


async def cross_origin(case):
    """From another origin: every request is allowed, no URL is asked about twice, each names its target."""
    site = case.site("steady")
    environment, key = site.lease()
    # What is too long for an event is fetched after each patch, from the same URL. The first value is
    # short: the stream begins with the event of its creation, and a fetch for that beside the first
    # patch's would rightly be a second preflight, as neither had been answered.
    values = ["value-0", LONG + "1", LONG + "2"]
    await site.saas.create(environment, "flag", flag("long", values=values))
    await site.serves(environment, key, "long")
    shim = await Shim(site.port).start()
    app = await case.open(shim.url, key, ALICE)
    await site.streaming(environment)
    for number in (1, 2):
        await site.saas.patch(environment, "flag", "long", serving(number))
        await app.until([ask("long")], [values[number]])
    await app.close()
    await shim.stop()
    origins = {request.headers.get("origin") for request in shim.requests}
    if len(origins) != 1 or shim.url in origins or None in origins:
        raise Failed(f"the origins are {origins}")
    preflights = [request.path for request in shim.asked(method="OPTIONS")]
    if not preflights or len(preflights) != len(set(preflights)):
        raise Failed(f"preflights are {preflights}")
    if len(shim.asked("/evaluations/long")) < 2:
        raise Failed("it asked no URL twice")
    for request in shim.asked():
        target = request.headers.get("harness-target")
        if "/client/auth" not in request.path and json.loads(base64.b64decode(target or "bnVsbA==")) != ALICE:
            raise Failed(f"{request.path} came with the target {target}")


async def evaluated_events(case):
    """A patch makes a browser fetch nothing; once where the value is empty or too long for an event."""
    site = case.site("steady")
    environment, key = site.lease()
    flags = [
        (flag("patched", PATCHES + 1), 0),
        (flag("empty", values=["value-0", ""]), 1),
        (flag("long", values=["value-0", LONG]), 1),
    ]
    for item, _ in flags:
        await site.saas.create(environment, "flag", item)
    await site.serves(environment, key, "long")
    shim = await Shim(site.port).start()
    app = await case.open(shim.url, key, ALICE)
    await site.streaming(environment)
    for number in range(1, PATCHES + 1):
        await patched(case, app, shim, environment, "patched", number, f"value-{number}", 0)
    await patched(case, app, shim, environment, "empty", 1, "", 1)
    await patched(case, app, shim, environment, "long", 1, LONG, 1)
    # What an SDK fetches after it knows a value is fetched before the next patch reaches it.
    await patched(case, app, shim, environment, "patched", 0, "value-0", 0)
    await app.close()
    await shim.stop()
    return "0, and 1 where the value is empty or long"


async def patched(case, app, shim, environment, name, number, value, expected):
    before = len(shim.asked("/evaluations"))
    await case.site("steady").saas.patch(environment, "flag", name, serving(number))
    await app.until([ask(name)], [value])
    fetched = len(shim.asked("/evaluations")) - before
    if fetched != expected:
        raise Failed(f"a patch of {name} made it fetch {fetched} times, not {expected}")
