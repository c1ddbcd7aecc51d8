"""What the run needs on the machine: installed where that can be done, else asked for in a line."""

import asyncio
import os
import re
import shutil
import subprocess

from .process import Failed

# A command, and the Debian package that brings it.
NEEDED = {
    "java": "openjdk-17-jdk-headless",
    "javac": "openjdk-17-jdk-headless",
    "mvn": "maven",
    "node": "nodejs",
    "npm": "npm",
    "chromium": "chromium",
    "certutil": "libnss3-tools",
    "openssl": "openssl",
}


def apt_get(*packages):
    if not shutil.which("apt-get"):
        raise Failed(f"please install {', '.join(packages)}: this machine has no apt-get")
    prefix = [] if os.geteuid() == 0 else ["sudo"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run(
            [*prefix, "apt-get", "-q", *command], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Failed(f"apt-get {' '.join(command)} failed:\n{(done.stdout + done.stderr)[-2000:]}")


def go_version():
    if not shutil.which("go"):
        return (0, 0)
    said = subprocess.run(["go", "version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"go(\d+)\.(\d+)", said)
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)


def make_ready(redis):
    needed = {**NEEDED, **({"redis-server": "redis-server"} if redis else {})}
    missing = sorted({package for command, package in needed.items() if not shutil.which(command)})
    if missing:
        print(f"installing {', '.join(missing)}", flush=True)
        apt_get(*missing)
    if go_version() < (1, 23):
        raise Failed("Go 1.23 or newer is needed for the Go SDK, and Debian's is older: https://go.dev/dl")


async def ready(redis=False):
    await asyncio.to_thread(make_ready, redis)
