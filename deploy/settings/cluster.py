"""What REDIS_ADDRESS does: one server, and the list that is a cluster."""

import socket

from over_redis import RedisServer, toggle
from rig import ask, bearer, free_port, token, until
from showing import first, flags_url, refused, shows

SLOTS = 16_384


class Cluster:
    """Three nodes, which share the keys."""

    def __init__(self, rig):
        buses = [str(free_port()) for _ in range(3)]
        self.nodes = [
            RedisServer(rig, *f"--cluster-enabled yes --cluster-port {bus}".split(),
                        *f"--cluster-config-file nodes-{number}.conf".split(), name=f"node {number}")
            for number, bus in enumerate(buses)
        ]
        for number, node in enumerate(self.nodes):
            # Epochs that differ spare the nodes a quarrel about them.
            told(node, "set-config-epoch", str(number + 1))
            shares = SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1
            told(node, "addslotsrange", *map(str, shares))
        for node, bus in zip(self.nodes[1:], buses[1:]):
            told(self.nodes[0], "meet", "127.0.0.1", str(node.port), bus)
        until("a whole cluster", lambda: all(self.is_whole(node) for node in self.nodes))
        self.address = ",".join(node.address for node in self.nodes)

    def is_whole(self, node):
        info, known = (node.says("cluster", word) for word in ("info", "nodes"))
        words = ("cluster_state:ok", f"cluster_slots_ok:{SLOTS}", "cluster_known_nodes:3")
        return all(word in info for word in words) and "handshake" not in known


def told(node, *command):
    answer = node.says("cluster", *command)
    assert answer == "OK", (command, answer)


def unserved(rig):
    """An address that stays one where nobody listens."""
    held = rig.enter_context(socket.socket())
    held.bind(("127.0.0.1", 0))
    return f"127.0.0.1:{held.getsockname()[1]}"


def fleet_follows(rig, saas, name, primary, replica):
    """A change in SaaS reaches an SDK of a replica; addresses of Redis are the primary's and its own."""
    rig.relay({**saas.settings(), "REDIS_ADDRESS": primary}, f"primary, {name}")
    relay = rig.relay({"READ_REPLICA": "true", "REDIS_ADDRESS": replica}, f"replica, {name}")
    opened = bearer(token(relay, first(saas)[1]))

    def state():
        text = ask(f"{flags_url(relay, saas)}/bool-flag-0", **opened)[1].replace(" ", "")
        return next((word for word in ("on", "off") if f'"state":"{word}"' in text), None)
    before = until(f"a flag at the replica, {name}", state)
    toggle(saas)
    until(f"the change at the replica, {name}", lambda: state() not in (before, None))


@shows("REDIS_ADDRESS")
def addresses(rig, saas):
    one = RedisServer(rig)
    fleet_follows(rig, saas, "one server", one.address, f"redis://{one.address}")
    assert one.says("exists", f"env-{first(saas)[0]}-feature-configs") == "1"

    cluster = Cluster(rig)
    # Of the nodes that are listed some may be away: the others know all of them.
    last = cluster.nodes[-1].address
    fleet_follows(rig, saas, "cluster", cluster.address, f"{unserved(rig)},{last}")
    kept = [int(node.says("dbsize")) for node in cluster.nodes]
    assert all(kept), f"keys are not on every node: {kept}"

    said = refused(rig, {**saas.settings(), "REDIS_ADDRESS": cluster.address, "REDIS_DB": "3"})
    assert "REDIS_ADDRESS" in said and "database 0" in said, said
