"""A client process: one SDK, told what to do in JSON lines (see ../clients/README.md)."""

import asyncio
import itertools
import json

from .process import Failed, Patience, end, start


class Client:
    def __init__(self, name, sdk):
        self.name = name
        self.sdk = sdk
        self.process = None
        self._waiting = {}
        self._ids = itertools.count(1)
        self._reader = None

    async def start(self):
        command, environment = self.sdk.command()
        self.process = await start(self.name, command, environment, pipes=True)
        self._reader = asyncio.create_task(self._read())
        return self

    async def _read(self):
        while line := await self.process.stdout.readline():
            try:
                answer = json.loads(line)
                waiting = self._waiting.pop(answer["id"])
            except (ValueError, TypeError, KeyError):
                continue  # the SDK's own talk
            if not waiting.done():
                waiting.set_result(answer)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(Failed("the application ended"))

    async def call(self, do, patience, **fields):
        if self._reader.done():
            raise Failed("the application has ended")
        number = next(self._ids)
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        fields = {name: value for name, value in fields.items() if value is not None}
        self.process.stdin.write((json.dumps({"id": number, "do": do, **fields}) + "\n").encode())
        await self.process.stdin.drain()
        try:
            answer = await asyncio.wait_for(waiting, patience + Patience.seconds)
        except asyncio.TimeoutError:
            raise Failed(f"the application did not answer {do}") from None
        if "error" in answer:
            raise Failed(f"{do}: {answer['error']}")
        return answer

    def app(self, name):
        return App(self, name)

    async def stop(self):
        """By the end of its input, so that a browser is closed as well."""
        if self.process:
            self.process.stdin.close()
            try:
                await asyncio.wait_for(self.process.wait(), 10)
            except asyncio.TimeoutError:
                pass
            await end(self.process)


class App:
    """One instance of the SDK."""

    def __init__(self, client, name):
        self.client = client
        self.name = name

    async def open(self, url, key, target, seconds=None, **more):
        seconds = seconds or Patience.seconds
        answer = await self.client.call(
            "open", seconds, app=self.name, url=url, key=key, target=target, seconds=seconds, **more
        )
        return answer["ready"]

    async def values(self, questions, **more):
        return (await self.client.call("values", 30, app=self.name, ask=questions, **more))["values"]

    async def until(self, questions, values, seconds=None):
        """Waits until the SDK gives these values; how long it took, in seconds."""
        seconds = seconds or Patience.seconds
        loop = asyncio.get_running_loop()
        began = loop.time()
        answer = await self.client.call(
            "until", seconds, app=self.name, ask=questions, values=values, seconds=seconds
        )
        if not answer["seen"]:
            missing = [
                f"{question['flag']} is {last!r}, not {value!r}"
                for question, last, value in zip(questions, answer["last"], values)
                if last != value
            ]
            raise Failed(f"not seen in {seconds} s: {'; '.join(missing[:4])}")
        return loop.time() - began

    async def close(self, **more):
        await self.client.call("close", 30, app=self.name, **more)
