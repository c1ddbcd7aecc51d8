"""The run: installs, starts every topology, carries out the checks, tells and writes the matrix."""

import argparse
import asyncio
import shutil
import signal
import sys
import time

from . import machine, matrix, mutations, plan
from .checks import settings
from .paths import LOGS
from .process import Failed, end_all
from .sdks import SDKS


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the matrix into README.md")
    parser.add_argument("--topology", action="append", help="only these (default: all)", choices=plan.TOPOLOGIES)
    parser.add_argument("--sdk", action="append", help="only these SDKs", choices=[sdk.key for sdk in SDKS])
    parser.add_argument("--check", action="append", help="only these checks", choices=[check.key for check in plan.CHECKS])
    parser.add_argument("--mutations", action="store_true", help="break promises on purpose: every check has to notice")
    return parser.parse_args()


async def run(asked):
    began = time.monotonic()
    shutil.rmtree(LOGS, ignore_errors=True)
    topologies = asked.topology or plan.TOPOLOGIES
    sdks = [sdk for sdk in SDKS if not asked.sdk or sdk.key in asked.sdk]
    await machine.ready(redis=any(topology != "embedded" for topology in topologies))
    folders = {sdk.folder: sdk for sdk in sdks}
    await asyncio.gather(*(sdk.install() for sdk in folders.values()))
    print(f"installed after {time.monotonic() - began:.0f} s", flush=True)
    settings.make_certificates()
    if asked.mutations:
        passed, failed = await mutations.carry_out(sdks, asked.check)
        print(f"took {time.monotonic() - began:.0f} s")
        print(f"{passed} noticed, {failed} not")
        return 1 if failed else 0
    worlds = await asyncio.gather(*(plan.carry_out(topology, sdks, asked.check) for topology in topologies))
    whole = not (asked.topology or asked.sdk or asked.check)
    passed, failed = matrix.count(worlds)
    stale = whole and matrix.update(worlds, write=asked.write)
    print(f"took {time.monotonic() - began:.0f} s")
    if stale:
        print("conformance/README.md is not up to date: run conformance/run --write")
    print(f"{passed} passed, {failed + bool(stale)} failed")
    return 1 if failed or stale else 0


async def guarded(asked):
    this = asyncio.current_task()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    try:
        return await run(asked)
    except Failed as fault:
        print(f"conformance: {fault}", file=sys.stderr)
        return 1
    finally:
        await end_all()


def main():
    return asyncio.run(guarded(arguments()))
