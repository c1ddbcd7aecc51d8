"""The simulator of SaaS, by its admin API."""

import asyncio
import re

from . import web
from .paths import BIN
from .process import Failed, end, free_port, start


class Saas:
    def __init__(self, name):
        self.name = name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environments = []
        self.process = None
        self._metrics, self._counted_at = [], float("-inf")
        self._counting = asyncio.Lock()

    async def start(self, environments, flags=6):
        command = [
            BIN / "ff-saas-sim", "--address", f"127.0.0.1:{self.port}",
            "--environments", environments, "--flags", flags,
        ]
        self.process = await start(f"{self.name}-saas", command, pipes=True)
        while len(self.environments) < environments:
            line = (await asyncio.wait_for(self.process.stdout.readline(), 30)).decode()
            if not line:
                raise Failed("the simulator did not start")
            found = re.match(r"environment (\S+)\s+SDK key (\S+)", line)
            if found:
                self.environments.append(found.groups())
        return self

    async def admin(self, method, path, value=None, announce=True):
        query = "" if announce else "?announce=false"
        status, body = await web.request(method, f"{self.url}/admin/{path}{query}", value)
        if status != 200:
            raise Failed(f"the simulator answers {method} {path} with {status}: {body[:200]}")

    async def create(self, environment, domain, item, announce=True):
        await self.admin("POST", f"environments/{environment}/{domain}", item, announce)

    async def patch(self, environment, domain, name, fields, announce=True):
        await self.admin("PATCH", f"environments/{environment}/{domain}/{name}", fields, announce)

    async def delete(self, environment, domain, name):
        await self.admin("DELETE", f"environments/{environment}/{domain}/{name}")

    async def counts(self, environment):
        """What SaaS was told of an environment: (flag, variation) to count, some seconds old at most."""
        async with self._counting:
            now = asyncio.get_running_loop().time()
            if now > self._counted_at + 3:
                # The state is large, and every SDK looks at it: it is asked for once for all.
                state = await web.get_json(f"{self.url}/admin/state")
                self._metrics, self._counted_at = state["metrics"], asyncio.get_running_loop().time()
        return {
            (entry["flag"], entry["variation"]): entry["count"]
            for entry in self._metrics
            if entry["environment"] == environment
        }

    async def stop(self):
        if self.process:
            await end(self.process)
