"""One topology: its sites, a client process an SDK, and what the checks found."""

import asyncio
import itertools
import traceback

from . import process
from .client import Client
from .process import Failed
from .relay import Site

# Checks that begin at the same time; what waits for a minute holds no place.
BUSY = 8


class World:
    def __init__(self, topology, sdks, broken=None):
        self.topology = topology
        self.broken = broken  # the mutation that relays of this world come with
        self.name = broken.key if broken else topology
        self.sdks = sdks
        self.sites = {}
        self.cases = [Case(self, sdk) for sdk in sdks]
        self.found = {}  # (check, SDK) to (whether it holds, detail)
        self.busy = asyncio.Semaphore(BUSY)

    async def site(self, name, environments, settings=None, data=False):
        """A site that is prepared, but whose relay is not started; stopped with this world."""
        site = Site(self, name, settings, data)
        self.sites[name] = site
        return await site.prepare(environments)

    async def start_clients(self):
        await asyncio.gather(*(case.start() for case in self.cases))

    def note(self, check, sdk, holds, detail=""):
        self.found[check, sdk.key] = (holds, detail)
        if self.broken:
            return  # that it fails is what is wanted
        word = "ok" if holds else "FAILED"
        print(f"{self.topology:9} {sdk.title:11} {check:12} {word} {detail}", flush=True)
        if not holds:
            print(process.last_words(f"{self.name}-{sdk.key}"), flush=True)

    async def carry_out(self, check, case, part, last=True):
        """Runs a part of a check for an SDK and notes what it found; whether it held."""
        try:
            detail = await part(case)
        except Failed as fault:
            self.note(check, case.sdk, False, str(fault))
            return False
        except Exception:
            self.note(check, case.sdk, False, traceback.format_exc())
            return False
        if last:
            self.note(check, case.sdk, True, detail or "")
        return True

    async def each(self, check, cases, part, last=False):
        """Runs a part for several SDKs side by side; those for which it held."""
        held = await asyncio.gather(*(self.carry_out(check, case, part, last) for case in cases))
        return [case for case, holds in zip(cases, held) if holds]

    async def stop(self):
        await asyncio.gather(*(case.stop() for case in self.cases))
        await asyncio.gather(*(site.stop() for site in self.sites.values()))


class Case:
    """One SDK in one topology."""

    def __init__(self, world, sdk):
        self.world = world
        self.sdk = sdk
        self.client = Client(f"{world.name}-{sdk.key}", sdk)
        self._names = itertools.count(1)

    def site(self, name):
        return self.world.sites[name]

    async def start(self):
        await self.client.start()

    async def open(self, url, key, target, **more):
        """A new application that is initialised."""
        app = self.app()
        async with self.world.busy:
            if not await app.open(url, key, target, **more):
                raise Failed("it did not initialise")
        return app

    def app(self):
        return self.client.app(f"app{next(self._names)}")

    async def stop(self):
        await self.client.stop()
