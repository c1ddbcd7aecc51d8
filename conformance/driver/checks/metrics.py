"""Whether SaaS is told of every evaluation, and of none that was not made."""

import asyncio

from ..flags import ALICE, ask, flag
from ..process import Failed

ROUNDS = 5
# These post what they have when they are closed; the others drop it, so they are left open.
POST_ON_CLOSE = {"node", "python"}
# An SDK posts once a minute, and so does the relay.
PATIENCE = 180


async def counted(case):
    site = case.site("steady")
    environment, key = site.lease()
    await site.saas.create(environment, "flag", flag("often"))
    await site.saas.create(environment, "flag", flag("seldom", values=["value-1", "other"]))
    await site.serves(environment, key, "seldom")
    app = await case.open(site.url, key, ALICE)
    for number in range(ROUNDS):
        questions = [ask("often"), ask("seldom")] if number % 2 else [ask("often")]
        await app.values(questions)
        # Browsers count reads of a flag only where they are half a second apart.
        await asyncio.sleep(0.7)
    closes = case.sdk.key in POST_ON_CLOSE
    if closes:
        await app.close()
    expected = {("often", "v0"): ROUNDS, ("seldom", "v0"): ROUNDS // 2}
    loop = asyncio.get_running_loop()
    until = loop.time() + PATIENCE
    while (counts := await site.saas.counts(environment)) != expected:
        if loop.time() > until or any(count > expected.get(name, 0) for name, count in counts.items()):
            raise Failed(f"SaaS was told {counts}, not {expected}")
        await asyncio.sleep(1)
    if not closes:
        await app.close()
    return "after a close" if closes else "after the next post"
