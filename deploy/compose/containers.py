"""A small stand-in for a container engine: each container of a compose file is a process of this
machine in a network namespace of its own, on a bridge, with a name server that knows services.

Images become programs that are installed here; environment, command, order, health checks and names
are those of the file. Not emulated: file systems, published ports, limits, capabilities.
"""

import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import threading

from rig import ROOT, binary, stop, until

HERE = pathlib.Path(__file__).resolve().parent
# What an image's entry point and environment are on this machine.
IMAGES = {
    "ff-relay": (lambda: [binary("ff-relay")], {"EXTRA_PORTS": "7000"}),
    "redis": (lambda: [], {}),
    "prom/prometheus": (lambda: ["prometheus"], {}),
}


def config(file, folder=HERE, **variables):
    """A compose file as docker compose understands it: included, interpolated, checked."""
    done = subprocess.run(
        [ROOT / ".cache/deploy/docker-compose", "--file", folder / file, "config", "--format=json"],
        env={"PATH": os.environ["PATH"], **variables}, capture_output=True, text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Network(contextlib.ExitStack):
    """A bridge, and what is on it. The host is its first address."""

    made = 0

    def __enter__(self):
        super().__enter__()
        # Addresses are not used twice: a name server that ends may hold its own for a while.
        Network.made += 1
        self.name = f"ff{os.getpid() % 100000}{Network.made}"
        self.prefix = f"10.{200 + Network.made}.{os.getpid() % 250}"
        self.host, self.next, self.names = f"{self.prefix}.1", 2, {}
        ip("link", "add", self.name, "type", "bridge")
        self.callback(ip, "link", "del", self.name)
        ip("addr", "add", f"{self.host}/24", "dev", self.name)
        ip("link", "set", self.name, "up")
        self.server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.server.bind((self.host, 53))
        self.callback(self.server.close)
        threading.Thread(target=self.resolve, daemon=True).start()
        return self

    def join(self, service):
        """A namespace with an address; its name."""
        number, self.next = self.next, self.next + 1
        name, address = f"{self.name}-{number}", f"{self.prefix}.{number}"
        ip("netns", "add", name)
        self.callback(ip, "netns", "del", name)
        ip("link", "add", f"v{name}"[:15], "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("link", "set", f"v{name}"[:15], "master", self.name, "up")
        ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "link", "set", "lo", "up")
        # `ip netns exec` puts these in the place of the machine's.
        etc = pathlib.Path("/etc/netns") / name
        etc.mkdir(parents=True)
        self.callback(remove, etc)
        (etc / "resolv.conf").write_text(f"nameserver {self.host}\noptions timeout:1 attempts:3\n")
        (etc / "hosts").write_text("127.0.0.1 localhost\n")
        self.names.setdefault(service, []).append(address)
        return name, address

    def resolve(self):
        """Answers questions for the addresses of services; others do not exist."""
        with contextlib.suppress(OSError):  # the end
            while True:
                query, sender = self.server.recvfrom(512)
                self.server.sendto(self.answer(query), sender)

    def answer(self, query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        question = query[12:at + 5]
        known = self.names.get(".".join(labels))
        wants_ipv4 = query[at + 1:at + 3] == b"\x00\x01"
        addresses = known if known and wants_ipv4 else []
        code = b"\x81\x80" if known else b"\x81\x83"
        head = query[:2] + code + b"\x00\x01" + len(addresses).to_bytes(2, "big") + bytes(4)
        return head + question + b"".join(
            b"\xc0\x0c\x00\x01\x00\x01" + (1).to_bytes(4, "big") + b"\x00\x04"
            + socket.inet_aton(address) for address in addresses
        )


class Project:
    """The containers of a compose file, on a network."""

    def __init__(self, rig, network, config, scale=None):
        self.rig, self.network, self.config = rig, network, config
        self.scale, self.running, self.started = scale or {}, {}, {}

    def up(self, services=None):
        waiting = list(services or self.config["services"])
        while waiting:
            ready = [name for name in waiting if not self.needs(name) & set(waiting)]
            assert ready, f"services wait for each other: {waiting}"
            for name in ready:
                waiting.remove(name)
                self.start(name)

    def needs(self, name):
        return set(self.config["services"][name].get("depends_on") or {})

    def start(self, name):
        service = self.config["services"][name]
        for needed, how in (service.get("depends_on") or {}).items():
            if how["condition"] == "service_healthy":
                until(f"{needed} is healthy", lambda: self.healthy(needed))
        for number in range(1, self.scale.get(name, 1) + 1):
            self.container(name, service, number)

    def container(self, name, service, number):
        entry, environment = IMAGES[service["image"].rsplit(":", 1)[0]]
        key = f"{name}-{number}"
        namespace, address = self.started.get(key) or self.network.join(name)
        self.started[key] = namespace, address
        folder = self.rig.folder / key
        folder.mkdir(exist_ok=True)
        paths = {mount["target"]: self.mounted(mount) for mount in service.get("volumes", [])}

        # In one pass, the longest first: a source may hold another's target.
        targets = "|".join(re.escape(target) for target in sorted(paths, key=len, reverse=True))

        def here(text):
            return re.sub(targets, lambda found: paths[found[0]], text) if paths else text

        command = [here(word) for word in service.get("command") or []]
        environment = {k: here(v) for k, v in {**environment, **(service.get("environment") or {})}.items()}
        argv = ["ip", "netns", "exec", namespace, *entry(), *command]
        self.running[key] = self.rig.start(key, argv, environment, cwd=folder)

    def mounted(self, mount):
        if mount["type"] == "bind":
            assert pathlib.Path(mount["source"]).exists(), mount
            return mount["source"]
        folder = self.rig.folder / mount["source"]
        folder.mkdir(exist_ok=True)
        return str(folder)

    def healthy(self, name):
        test = self.config["services"][name]["healthcheck"]["test"]
        assert test[0] == "CMD", test
        return self.run_in(name, test[1:]).returncode == 0

    def inside(self, name, *argv):
        """What a command writes that runs where the first container of a service does."""
        return self.run_in(name, argv).stdout

    def run_in(self, name, argv):
        namespace, _ = self.started[f"{name}-1"]
        return subprocess.run(["ip", "netns", "exec", namespace, *argv], capture_output=True)

    def url(self, key, port):
        return f"http://{self.started[key][1]}:{port}"

    def stop(self, key):
        return stop(self.running[key])


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


def remove(folder):
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


