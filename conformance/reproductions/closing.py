"""A poll of the Go SDK that ends after a close closes a channel twice, which ends the process.

The close takes "initialised" back, and a poll that ends makes the SDK initialised: so it does that a
second time. Any application meets it that is closed while its stream is away and a poll under way. Here
a plain server has no stream, and keeps a poll waiting until the SDK is closed."""

import asyncio

from .plain import Plain


class Slow(Plain):
    """Without a stream; a poll that begins once `holding` is set waits until `go_on` is."""

    def __init__(self):
        super().__init__()
        self.streams = False
        self.holding, self.held, self.go_on = False, asyncio.Event(), asyncio.Event()

    async def before(self, path):
        if self.holding and path.endswith("/feature-configs"):
            self.held.set()
            await self.go_on.wait()


async def panics(client, target):
    """Whether the application `client`, a process of its own, ends with its close."""
    server = await Slow().start()
    try:
        server.environments["closing"] = ([], [])
        app = client.app("closing")
        if not await app.open(server.url, "closing", target, poll=1):
            return False
        server.holding = True
        await asyncio.wait_for(server.held.wait(), 60)
        await app.close(polling=True)
        server.go_on.set()
        await asyncio.wait_for(client.process.wait(), 60)
        return client.process.returncode == 2
    finally:
        await server.stop()
