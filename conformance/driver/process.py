"""Processes that this run starts: with a log of their own, and ended with it."""

import asyncio
import os
import random
import socket
import tempfile
from signal import SIGKILL, SIGTERM

from .paths import LOGS, RUN


class Patience:
    """Seconds for what comes in a tenth of one, on a machine that has a hundred other things to do."""

    seconds = 120


_running = set()
_given = set()


class Failed(Exception):
    """What was expected did not come."""


def free_port():
    """A port that is free, and that no outgoing connection takes while a relay is restarted."""
    while True:
        port = random.randint(15_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        # A second asking may come before what was given the first is listening on it.
        if port not in _given:
            _given.add(port)
            return port


def temporary_folder():
    return tempfile.mkdtemp(dir=RUN)


async def start(name, command, environment=None, pipes=False):
    """Starts a process; with `pipes` its input and output are left to the caller."""
    LOGS.mkdir(parents=True, exist_ok=True)
    with open(LOGS / f"{name}.log", "ab") as log:
        process = await asyncio.create_subprocess_exec(
            *map(str, command),
            env={**os.environ, **(environment or {})},
            stdin=asyncio.subprocess.PIPE if pipes else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if pipes else log,
            stderr=log,
            limit=1 << 26,
        )
    _running.add(process)
    return process


def last_words(name, lines=30):
    """The end of a process's log, for a failure that may not show again."""
    try:
        text = (LOGS / f"{name}.log").read_text(errors="replace")
    except OSError as fault:
        return f"    (no log of {name}: {fault})"
    return "".join(f"    {name}: {line[:400]}\n" for line in text.splitlines()[-lines:])


async def end(process, signal="kill"):
    """Ends a process and waits for its end; a second asking does nothing."""
    if process.returncode is None:
        try:
            # Not by the process's own methods: those reap it behind the event loop's back.
            os.kill(process.pid, SIGTERM if signal == "terminate" else SIGKILL)
        except ProcessLookupError:
            pass
    await process.wait()
    _running.discard(process)


async def end_all():
    for process in list(_running):
        await end(process)


async def eventually(what, holds, deadline=None):
    """Waits until a condition, a coroutine function, holds."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        try:
            found = await holds()
        except OSError:
            found = None
        if found:
            return found
        waited = loop.time() - began
        if waited > (deadline or Patience.seconds):
            raise Failed(f"never came: {what}")
        # Many wait side by side: who waits for long looks seldom.
        await asyncio.sleep(0.05 if waited < 1 else 0.25)
