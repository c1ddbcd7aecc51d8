"""A relay as SDKs see it: a primary of its own simulator, or a replica of that primary."""

import asyncio
import json
import os
import re
import shutil

from . import web
from .paths import BIN
from .process import Failed, end, eventually, free_port, start, temporary_folder
from .saas import Saas
from .shim import Shim

TOPOLOGIES = {
    "embedded": "primary, embedded store",
    "redis": "primary with Redis",
    "replica": "replica",
}


class Watched:
    """What can be seen of a relay from outside: at `relay`, while SDKs are pointed at `url`."""

    mutant = None

    def at(self, scheme="http"):
        """Where the relay listens, and SDKs ask it."""
        self.listens = self.port = free_port()
        self.relay = self.url = f"{scheme}://127.0.0.1:{self.port}"
        self._streams, self._counted_at = {}, float("-inf")
        self._counting = asyncio.Lock()

    async def mutate(self, mutation):
        """Puts what breaks a promise between the relay and SDKs."""
        if mutation and mutation.mutant:
            self.mutant = await mutation.mutant(self).start()
            self.port, self.url = self.mutant.port, self.mutant.url

    async def ready(self):
        async def answers():
            if self.serving.returncode is not None:
                raise Failed(f"the relay of {self.name} ended: see its log")
            status, _ = await web.request("GET", f"{self.relay}/readyz")
            return status == 200

        await eventually(f"{self.name} ready", answers)

    async def streams(self, environment):
        """Streams of SDKs that the relay counts as open, a tenth of a second ago at most."""
        async with self._counting:
            now = asyncio.get_running_loop().time()
            if now > self._counted_at + 0.1:
                # Every SDK's check looks at it: it is asked for once for all.
                _, body = await web.request("GET", f"{self.relay}/metrics")
                found = re.findall(r'ff_proxy_sdk_streams_open\{[^}]*envID="([^"]*)"[^}]*\} (\d+)', body.decode())
                self._streams, self._counted_at = dict(found), asyncio.get_running_loop().time()
        return int(self._streams.get(environment, 0))

    async def streaming(self, environment, deadline=None):
        """Waits for an open stream. An SDK that lost its connection may open two for a while, and the
        relay may not have heard yet of the end of the one before."""

        async def opened():
            return await self.streams(environment) >= 1

        await eventually(f"an open stream of {environment}", opened, deadline)


class Site(Watched):
    """One simulator and what follows it. SDKs are pointed at `url`."""

    def __init__(self, world, name, settings=None, data=False):
        self.name = f"{world.name}-{name}"
        self.topology = topology = world.topology
        self.broken = world.broken
        self.settings = settings or {}
        self.folder = temporary_folder()
        # Where there is a Redis, that is what tells across a restart.
        if data and topology == "embedded":
            self.settings["DATA_DIR"] = os.path.join(self.folder, "data")
        self.saas = Saas(self.name)
        self.upstream = None
        self.at("https" if "TLS_ENABLED" in self.settings else "http")
        self.redis = self.redis_port = self.primary = self.serving = None
        self._leases = None

    async def prepare(self, environments):
        """Starts all that the relay needs, but not the relay."""
        await self.saas.start(environments)
        self._leases = iter(self.saas.environments)
        self.upstream = await Shim(self.saas.port).start()
        await self.mutate(self.broken)
        if self.topology != "embedded":
            self.redis_port = free_port()
            await self.start_redis()
        return self

    def lease(self):
        """An environment, with an SDK key, that no other check uses."""
        return next(self._leases)

    async def start_redis(self):
        command = [
            "redis-server", "--port", self.redis_port, "--bind", "127.0.0.1", "--dir", self.folder,
            "--appendonly", "yes", "--appendfsync", "everysec", "--save", "",
        ]
        self.redis = await start(f"{self.name}-redis", command)

    async def start(self, wait=True):
        """Starts the relay; with `wait` it is ready afterwards."""
        common = {"AUTH_SECRET": "conformance", "LOG_LEVEL": os.environ.get("LOG_LEVEL", "WARN"), **self.settings}
        if self.redis_port:
            common["REDIS_ADDRESS"] = f"127.0.0.1:{self.redis_port}"
        upstream = f"{self.upstream.url}/api/1.0"
        primary = {"CLIENT_SERVICE": upstream, "METRIC_SERVICE": upstream, "PROXY_KEY": "sim-proxy-key"}
        if self.topology == "replica":
            if self.primary is None:
                port = {"PORT": str(free_port())}
                self.primary = await start(f"{self.name}-primary", [BIN / "ff-relay"], {**common, **primary, **port})
            more = {"READ_REPLICA": "true"}
        else:
            more = primary
        more["PORT"] = str(self.listens)
        self.serving = await start(f"{self.name}-relay", [BIN / "ff-relay"], {**common, **more})
        if wait:
            await self.ready()

    async def serves(self, environment, key, name, variation=None):
        """Waits until a flag that was just created, or made to serve a variation, can be fetched so."""

        async def fetched():
            serving = await self.serving_of(environment, key, name)
            return serving and variation in (None, serving)

        await eventually(f"{name} at the relay", fetched)

    async def serving_of(self, environment, key, name):
        """The variation that a flag serves by default, as the relay has it; `None` where it has none."""
        status, body = await web.request("POST", f"{self.relay}/client/auth", {"apiKey": key})
        if status != 200:
            raise Failed(f"authentication is answered with {status}")
        token = {"Authorization": f"Bearer {json.loads(body)['authToken']}"}
        path = f"{self.relay}/client/env/{environment}/feature-configs/{name}"
        status, body = await web.request("GET", path, headers=token)
        return json.loads(body)["defaultServe"]["variation"] if status == 200 else None

    async def restart(self, signal, down):
        """Stops the relay as `signal` does, and starts it again after `down()`."""
        await end(self.serving, signal)
        await down()
        await self.start()

    async def stop(self):
        for process in (self.serving, self.primary, self.redis):
            if process:
                await end(process)
        await self.saas.stop()
        for shim in (self.upstream, self.mutant):
            if shim:
                await shim.stop()
        await asyncio.to_thread(shutil.rmtree, self.folder, True)
