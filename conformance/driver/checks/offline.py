"""A relay without SaaS: SDKs serve from its directory, and see the edits of it."""

import hashlib
import json
import os
import uuid

from ..flags import ALICE, ask, flag, serving
from ..paths import BIN
from ..process import end, start, temporary_folder
from .evaluation import KINDS, QUESTIONS, compare

from ..relay import Watched


class Offline(Watched):
    """A relay in offline mode, with an environment for each SDK."""

    def __init__(self, world):
        self.folder = temporary_folder()
        self.at()
        self.name = f"{world.name}-offline"
        self.broken = world.broken
        self.serving = None
        self.leases = {sdk: (str(uuid.uuid4()), str(uuid.uuid4())) for sdk in world.sdks}

    async def start(self):
        for environment, key in self.leases.values():
            self.write(environment, "auth_config", [hashlib.sha256(key.encode()).hexdigest()])
            self.write(environment, "feature_config", [*KINDS, flag("edited")])
            self.write(environment, "segments", [])
            self.write(environment, "targets", [])
        settings = {"OFFLINE": "true", "CONFIG_DIR": self.folder, "AUTH_SECRET": "conformance", "PORT": str(self.listens)}
        self.serving = await start(f"{self.name}-relay", [BIN / "ff-relay"], settings)
        await self.ready()
        await self.mutate(self.broken)

    def write(self, environment, name, value):
        """Replaces a file as a whole, as an editor or a mounted volume does."""
        folder = os.path.join(self.folder, f"env-{environment}")
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, f"{name}.json")
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            json.dump(value, file)
        os.replace(f"{path}.new", path)

    async def stop(self):
        if self.serving:
            await end(self.serving)
        if self.mutant:
            await self.mutant.stop()


async def offline(case):
    """Evaluates what is in the directory, and sees an edit of it through the stream."""
    site = case.site("offline")
    environment, key = site.leases[case.sdk]
    app = await case.open(site.url, key, ALICE)
    compare(await app.values(QUESTIONS))
    await site.streaming(environment)
    edited = {**flag("edited"), **serving(1), "version": 2}
    site.write(environment, "feature_config", [*KINDS, edited])
    await app.until([ask("edited")], ["value-1"])
    await app.close()
