"""The Java SDK gives its stream up for ever where it is refused while it polls.

Its stream ends: it polls, and asks for a new one. Where that fails as well, it finds that it polls
already and leaves it at that, though nothing else would ask again. What can be tried again is tried five
times first, 5 to 10 s apart at the begin and five times as much at the end. Any application meets it whose
server is away for 50 s, or refuses the stream once for good, which is quicker: so does a plain server here."""

import asyncio

from .plain import Plain

# Seconds that five attempts take at least: within these it comes back to its stream.
PATIENCE = 50
# A poll so many seconds after the refusal is one of the timer's, and not the refusal's own.
LATER = 20


class Refusing(Plain):
    """Ends the first stream once `over` is set, refuses the second, and would give every other."""

    def __init__(self):
        super().__init__()
        self.asked = 0
        self.refused_at = None
        self.opened, self.over, self.told = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def before(self, path):
        now = asyncio.get_running_loop().time()
        if path == "/stream":
            self.asked += 1
            self.streams = self.asked != 2
            if self.asked == 2:
                self.refused_at = now
            elif self.asked > 2:
                self.told.set()
        elif path.endswith("/feature-configs") and self.refused_at and now > self.refused_at + LATER:
            self.told.set()

    async def _stream(self, writer):
        self.opened.set()
        stream = asyncio.create_task(super()._stream(writer))
        over = asyncio.create_task(self.over.wait())
        await asyncio.wait([stream, over], return_when=asyncio.FIRST_COMPLETED)
        for task in (stream, over):
            task.cancel()


async def gives_up(app, target):
    """Whether the SDK, refused once, has not asked for a stream again when its next poll is due."""
    server = await Refusing().start()
    try:
        server.environments["giving-up"] = ([], [])
        if not await app.open(server.url, "giving-up", target):
            return False
        await asyncio.wait_for(server.opened.wait(), 60)
        server.over.set()
        await asyncio.wait_for(server.told.wait(), 180)
        return server.asked == 2
    finally:
        await server.stop()
