"""The SDKs: where each is pinned, how its client is installed, and how it is started."""

import asyncio
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shutil
import venv

from .paths import BROWSER_HOME, CACHE, CLIENTS
from .process import Failed, temporary_folder


@dataclasses.dataclass(frozen=True)
class Sdk:
    key: str
    title: str
    package: str
    folder: str
    browser: bool = False

    @property
    def version(self):
        return pinned(self)

    def command(self):
        return COMMANDS[self.folder](self)

    async def install(self):
        await INSTALLERS[self.folder]()


SDKS = [
    Sdk("go", "Go", "github.com/harness/ff-golang-server-sdk", "go"),
    Sdk("java", "Java", "io.harness:ff-java-server-sdk", "java"),
    Sdk("node", "Node", "@harnessio/ff-nodejs-server-sdk", "node"),
    Sdk("python", "Python", "harness-featureflags", "python"),
    Sdk("javascript", "JavaScript", "@harnessio/ff-javascript-client-sdk", "browser", browser=True),
    Sdk("react", "React", "@harnessio/ff-react-client-sdk", "browser", browser=True),
]


def pinned(sdk):
    """The version in the client's own manifest."""
    folder = CLIENTS / sdk.folder
    if sdk.folder in ("node", "browser"):
        return json.loads((folder / "package.json").read_text())["dependencies"][sdk.package]
    manifest = {"go": "go.mod", "java": "pom.xml", "python": "requirements.in"}[sdk.folder]
    name = re.escape(sdk.package.split(":")[-1])
    found = re.search(rf"{name}(?:==| v|</artifactId>\s*<version>)([0-9][0-9.]*)", (folder / manifest).read_text())
    return found.group(1)


async def run(*command, cwd=None):
    process = await asyncio.create_subprocess_exec(
        *map(str, command), cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise Failed(f"{' '.join(map(str, command))} failed:\n{output.decode(errors='replace')[-3000:]}")


async def once(name, install):
    """Installs into a cache folder, unless that was made from the very same files."""
    source, folder = CLIENTS / name, CACHE / name
    digest = hashlib.sha256()
    for path in sorted(source.rglob("*")):
        if path.is_file() and "node_modules" not in path.parts and "target" not in path.parts:
            digest.update(path.relative_to(source).as_posix().encode() + path.read_bytes())
    stamp = folder / "made-from"
    if stamp.exists() and stamp.read_text() == digest.hexdigest():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    await install(source, folder)
    stamp.write_text(digest.hexdigest())


async def install_go():
    async def make(source, folder):
        await run("go", "build", "-mod=readonly", "-o", folder / "client", ".", cwd=source)

    await once("go", make)


async def install_java():
    async def make(source, folder):
        shutil.copytree(source, folder / "project")
        await run(
            "mvn", "-q", "-B", "compile", "dependency:copy-dependencies",
            f"-DoutputDirectory={folder / 'lib'}", cwd=folder / "project",
        )

    await once("java", make)


async def install_node():
    async def make(source, folder):
        for name in ("package.json", "package-lock.json"):
            shutil.copy(source / name, folder)
        await run("npm", "ci", "--silent", "--no-audit", "--no-fund", cwd=folder)

    await once("node", make)


async def install_browser():
    async def make(source, folder):
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
        await run("npm", "ci", "--silent", "--no-audit", "--no-fund", cwd=folder)
        for page in ("javascript.js", "react.jsx"):
            await run(
                folder / "node_modules" / ".bin" / "esbuild", page, "--bundle", "--minify", "--jsx=transform",
                '--define:process.env.NODE_ENV="production"', f"--outfile=bundles/{pathlib.Path(page).stem}.js",
                cwd=folder,
            )

    await once("browser", make)


async def install_python():
    async def make(source, folder):
        await asyncio.to_thread(venv.create, folder / "venv", with_pip=True)
        await run(folder / "venv" / "bin" / "pip", "install", "-q", "-r", source / "requirements.txt")

    await once("python", make)


def browser_command(sdk):
    home = temporary_folder()
    if BROWSER_HOME.exists():
        shutil.copytree(BROWSER_HOME, home, dirs_exist_ok=True)
    folder = CACHE / "browser"
    # As in an application of its own, modules are found beside the copy of the host.
    return (
        ["node", folder / "host.js", sdk.key, folder / "bundles", shutil.which("chromium"), os.path.join(home, "profile")],
        {"HOME": home},
    )


INSTALLERS = {
    "go": install_go,
    "java": install_java,
    "node": install_node,
    "python": install_python,
    "browser": install_browser,
}
COMMANDS = {
    "go": lambda sdk: ([CACHE / "go" / "client"], {}),
    "java": lambda sdk: (
        ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
         "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true",
         "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS", "-cp",
         f"{CACHE / 'java' / 'project' / 'target' / 'classes'}:{CACHE / 'java' / 'lib' / '*'}", "Main"],
        {},
    ),
    "node": lambda sdk: (
        ["node", CLIENTS / "node" / "client.js"], {"NODE_PATH": str(CACHE / "node" / "node_modules")},
    ),
    "python": lambda sdk: ([CACHE / "python" / "venv" / "bin" / "python", CLIENTS / "python" / "client.py"], {}),
    "browser": browser_command,
}
