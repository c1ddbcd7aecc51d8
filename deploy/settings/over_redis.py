"""What the settings of Redis do, as a real Redis and a wire before it see it."""

import contextlib
import datetime
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

from rig import ask, bearer, binary, free_port, token, until
from showing import first, flags_url, health, post_metrics, refused, shows, stop_relay


class RedisServer:
    """A Redis of one test."""

    def __init__(self, rig, *options, name="redis"):
        self.port = free_port()
        rig.start(name, ["redis-server", "--port", str(self.port), "--save", "", "--bind", "127.0.0.1",
                            *options], cwd=rig.folder)
        self.address = f"127.0.0.1:{self.port}"
        # Also where it wants a password: any word is a sign of life.
        until("redis", lambda: self.says("ping"))

    def says(self, *command, options=()):
        argv = ["redis-cli", "-p", str(self.port), "--no-auth-warning", *options, *command]
        done = subprocess.run(argv, capture_output=True, text=True)
        return done.stdout.strip()

    def has_metrics(self):
        """Readers of the stream of metrics wait for there to be one."""
        self.says("xadd", METRICS, "*", "event", "{}")


METRICS = "stream:sdk_metrics"


@shows("READ_REPLICA")
def replica(rig, saas):
    assert "REDIS_ADDRESS" in refused(rig, {"READ_REPLICA": "true"})
    address = {"REDIS_ADDRESS": RedisServer(rig).address}
    rig.relay({**saas.settings(), **address}, "primary")
    relay = rig.relay({"READ_REPLICA": "true", **address}, "replica")
    assert health(relay)["configStatus"]["state"] == "READ_REPLICA"
    opened = bearer(token(relay, first(saas)[1]))
    assert ask(flags_url(relay, saas), **opened)[0] == 200
    change = f"{saas.url}/admin/environments/{first(saas)[0]}/flag/bool-flag-0/toggle"
    ask(change, {}, "POST")
    until("the change at the replica", lambda: '"state":"off"' in ask(
        f"{flags_url(relay, saas)}/bool-flag-0", **opened)[1].replace(" ", ""))


@shows("REDIS_USERNAME", "REDIS_PASSWORD", "REDIS_DB")
def redis_login(rig, saas):
    redis = RedisServer(rig, *"--user default off --user relay on >a/p@ss ~* &* +@all".split())
    settings = {**saas.settings(), "REDIS_ADDRESS": redis.address, "REDIS_USERNAME": "relay",
                "REDIS_PASSWORD": "a/p@ss", "REDIS_DB": "3"}
    rig.relay(settings)
    login = ("--user", "relay", "--pass", "a/p@ss")
    until("keys in database 3", lambda: redis.says("exists", f"env-{first(saas)[0]}-feature-configs",
                                                   options=(*login, "-n", "3")) == "1")
    assert redis.says("dbsize", options=(*login, "-n", "0")) == "0"
    assert "a/p@ss" not in rig.log("relay")


@shows("METRICS_STREAM_MAX_LEN")
def metrics_stream_max_len(rig, saas):
    redis = RedisServer(rig)
    address = {"REDIS_ADDRESS": redis.address}
    rig.relay({**saas.settings(), **address}, "primary")
    stop_relay(rig, "primary")  # so that nobody reads
    for _ in range(20):
        redis.has_metrics()
    relay = rig.relay({"READ_REPLICA": "true", "METRICS_STREAM_MAX_LEN": "5", **address}, "replica")
    post_metrics(relay, saas)
    stop_relay(rig, "replica")  # what waits goes out
    assert redis.says("xlen", METRICS) == "5"


@shows("METRICS_STREAM_READ_CONCURRENCY")
def metrics_stream_read_concurrency(rig, saas):
    redis = RedisServer(rig)
    redis.has_metrics()
    rig.relay({**saas.settings(), "REDIS_ADDRESS": redis.address, "METRICS_STREAM_READ_CONCURRENCY": "3"})

    def readers():
        clients = redis.says("client", "list").splitlines()
        return sum("cmd=xreadgroup" in client for client in clients)
    until("three readers", lambda: readers() == 3)


class Wire(threading.Thread):
    """Stands before a Redis, counts connections, and can go deaf or cut whoever speaks."""

    def __init__(self, redis):
        super().__init__(daemon=True)
        self.redis, self.mode, self.accepted, self.spoke = redis, "passes", [], {}
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.start()

    def run(self):
        while True:
            client, _ = self.listener.accept()
            # Noted before it can be cut: what comes after a pause comes so much later than this.
            self.accepted.append(time.monotonic())
            server = socket.create_connection(("127.0.0.1", self.redis.port))
            for ends in ((client, server), (server, client)):
                number = len(self.accepted) if ends[0] is client else None
                threading.Thread(target=self.carry, args=(*ends, number), daemon=True).start()

    def carry(self, source, sink, number):
        with contextlib.suppress(OSError), source, sink:
            while data := source.recv(65_536):
                if number:
                    self.spoke[number] = time.monotonic()
                if self.mode == "passes":
                    sink.sendall(data)
                elif self.mode == "cuts":
                    source.shutdown(socket.SHUT_RDWR)
                    sink.shutdown(socket.SHUT_RDWR)
                # else deaf: it takes everything and says nothing.


PATIENT = {"REDIS_READ_TIMEOUT_SECONDS": "600", "REDIS_DIAL_TIMEOUT_SECONDS": "60"}


def over_wire(rig, saas, name="relay", argv=None, **settings):
    """A relay, a primary unless told otherwise, that reaches Redis over a wire; the wire.

    It is patient: on a machine that stands still for seconds it would make connections anew.
    """
    if not hasattr(rig, "redis"):
        rig.redis = RedisServer(rig)
        rig.redis.has_metrics()
    wire = Wire(rig.redis)
    rig.relay({**saas.settings(), "REDIS_ADDRESS": wire.address, **PATIENT, **settings}, name, argv)
    return wire


def two_connections(*wires):
    """One for commands, and one for the reader, which waits on it."""
    until("two connections of each", lambda: all(len(wire.spoke) == 2 for wire in wires))


# One reader of metrics alone, so that it is known how many connections there are.
ONE_READER = {"METRICS_STREAM_READ_CONCURRENCY": "1"}


def toggle(saas):
    ask(f"{saas.url}/admin/environments/{first(saas)[0]}/flag/bool-flag-0/toggle", {}, "POST")


def full(rig):
    """The address of one who lets nobody in, and refuses nobody."""
    listener = rig.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
    for _ in range(4):  # the queue is full: who comes now gets no answer at all
        waiting = rig.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex(listener.getsockname())

    def lets_in():
        try:
            socket.create_connection(listener.getsockname(), timeout=0.5).close()
            return True
        except OSError:
            return False
    until("a full queue", lambda: not lets_in())
    return f"127.0.0.1:{listener.getsockname()[1]}"


@shows("REDIS_DIAL_TIMEOUT_SECONDS")
def dial_timeout(rig, saas):
    address, took = full(rig), {}
    short, long = 1, 8  # one on either side of the default
    for seconds in (long, short):
        rig.relay({**saas.settings(), "REDIS_ADDRESS": address, "REDIS_DIAL_TIMEOUT_SECONDS": str(seconds)},
                  f"dials {seconds}")
    for seconds in (short, long):
        name = f"dials {seconds}"
        log = until("a time-out", lambda: rig.log(name) if "Redis is away" in rig.log(name) else "")
        began, ended = (timestamp(log, words) for words in (" listening ", "Redis is away"))
        took[seconds] = (ended - began).total_seconds()
        assert took[seconds] >= seconds, took
    assert took[short] < took[long], took


def timestamp(log, words):
    """When the first line was written that has these words."""
    line = next(line for line in log.splitlines() if words in line)
    return datetime.datetime.fromisoformat(line.split()[0])


@shows("REDIS_POOL_TIMEOUT_SECONDS")
def pool_timeout(rig, saas):
    """A command does not wait longer than that while the connection is being made."""
    def failed(relay):
        errors = r'^ff_proxy_redis_cache_write_count\{error="true"\} (\d+)'
        found = re.search(errors, ask(f"{relay}/metrics")[1], re.M)
        return int(found[1]) if found else 0
    settings = {**saas.settings(), "REDIS_ADDRESS": full(rig), "REDIS_DIAL_TIMEOUT_SECONDS": "600"}
    relays = {}
    for seconds in ("600", "1"):  # the longer time begins first, so that it would end first were it none
        relays[seconds] = rig.relay({**settings, "REDIS_POOL_TIMEOUT_SECONDS": seconds}, f"waits {seconds}")
        token(relays[seconds], first(saas)[1], "alice")  # a target, which is to be written
    until("a write that waited in vain", lambda: failed(relays["1"]) > 0)
    assert failed(relays["600"]) == 0, "the longer time was not waited for"


@shows("REDIS_READ_TIMEOUT_SECONDS", "REDIS_WRITE_TIMEOUT_SECONDS")
def answer_timeouts(rig, saas):
    """The longer of the two is waited for, then a new connection is made."""
    def wire(name, read, write):
        return over_wire(rig, saas, name, **ONE_READER, REDIS_READ_TIMEOUT_SECONDS=read,
                         REDIS_WRITE_TIMEOUT_SECONDS=write)
    short, read, write = wire("short", "1", "1"), wire("read", "600", "1"), wire("write", "1", "600")
    two_connections(short, read, write)
    for one in (short, read, write):
        one.mode = "deaf"
    before = len(read.accepted), len(write.accepted)
    connections = len(short.accepted)
    toggle(saas)
    until("new connections", lambda: len(short.accepted) >= connections + 3)
    assert (len(read.accepted), len(write.accepted)) == before, "a longer time-out was not waited for"


def cut(rig, name, **settings):
    """A replica's `check`, which asks Redis one thing, over a wire that cuts it; process and wire."""
    wire = Wire(RedisServer(rig, name=f"redis of {name}"))
    wire.mode = "cuts"
    environment = {"READ_REPLICA": "true", "REDIS_ADDRESS": wire.address, **PATIENT, **settings}
    return rig.start(name, [binary("ff-relay"), "check"], environment), wire


@shows("REDIS_MAX_RETRIES")
def max_retries(rig, saas):
    for retries, attempts in (("0", 1), ("-1", 1), ("", 4), ("5", 6)):
        check, wire = cut(rig, f"retries {retries}", REDIS_MAX_RETRIES=retries)
        assert check.wait(60) == 1, "a connection that is cut works"
        assert len(wire.accepted) == attempts, (retries, len(wire.accepted))


@shows("REDIS_MIN_RETRY_BACKOFF_MILLIS", "REDIS_MAX_RETRY_BACKOFF_MILLIS")
def retry_backoffs(rig, saas):
    """Pauses double from the one to the other, and up to half of each is left out, at random."""
    pauses = {"REDIS_MAX_RETRIES": "9", "REDIS_MIN_RETRY_BACKOFF_MILLIS": "500"}
    doubling, slow = cut(rig, "doubling", **pauses, REDIS_MAX_RETRY_BACKOFF_MILLIS="100000")
    bounded, fast = cut(rig, "bounded", **pauses, REDIS_MAX_RETRY_BACKOFF_MILLIS="1")
    assert bounded.wait(60) == 1
    assert len(fast.accepted) == 10, len(fast.accepted)
    until("a fourth attempt", lambda: len(slow.accepted) >= 4)
    pauses = [later - sooner for sooner, later in zip(slow.accepted, slow.accepted[1:])]
    for pause, least in zip(pauses, (0.25, 0.5, 1.0)):
        assert pause >= least, pauses
    # All ten would take minutes.
    assert len(slow.accepted) < 10, len(slow.accepted)


@shows("REDIS_MIN_IDLE_CONNS", "REDIS_CON_MAX_IDLE_TIME_MINUTES", waits=True)
def idle_time(rig, saas):
    """A running relay asks Redis every 15 s: only one that was paused, as machines are, was idle."""
    idle = {name: over_wire(rig, saas, name, **ONE_READER, REDIS_MIN_IDLE_CONNS=least,
                            REDIS_CON_MAX_IDLE_TIME_MINUTES=minutes)
            for name, least, minutes in (("replaced", "", "1"), ("wanted", "1", "1"),
                                         ("never", "", "0"), ("unchecked", "", "-1"), ("default", "", ""))}
    two_connections(*idle.values())
    for name in idle:
        rig.processes[name].send_signal(signal.SIGSTOP)
        rig.callback(rig.processes[name].send_signal, signal.SIGCONT)  # a stop needs it awake
    until("more than a minute of silence",
          lambda: time.monotonic() - max(max(wire.spoke.values()) for wire in idle.values()) > 61, limit=90)
    woken = time.monotonic()
    for name in idle:
        rig.processes[name].send_signal(signal.SIGCONT)
    until("two new connections", lambda: len(idle["replaced"].accepted) == 4)
    for name, wire in idle.items():
        if name != "replaced":
            until(f"words of {name}", lambda: all(at > woken for at in wire.spoke.values()))
            assert len(wire.accepted) == 2, f"{name}: a connection was replaced"


@shows("REDIS_MAX_IDLE_CONNS")
def max_idle(rig, saas):
    """Of all connections one alone is ever idle, as the others wait for news, which is work.

    So each bound is kept to, and none makes a difference: what is shown besides is that it is read.
    """
    for wrong in ("-1", "few"):
        said = refused(rig, {**saas.settings(), "REDIS_MAX_IDLE_CONNS": wrong})
        assert "REDIS_MAX_IDLE_CONNS" in said and wrong in said, said
    for bound in ("1", "0"):
        redis = RedisServer(rig, name=f"redis of {bound}")
        redis.has_metrics()
        settings = {"REDIS_ADDRESS": redis.address, "REDIS_MAX_IDLE_CONNS": bound}
        primary, replica = f"primary of {bound}", f"replica of {bound}"
        rig.relay({**saas.settings(), **settings, "METRICS_STREAM_READ_CONCURRENCY": "3"}, primary)
        until("one idle beside three that read", lambda: sorted(idle(redis)) == [False] * 3 + [True])
        stop_relay(rig, primary)
        rig.relay({**settings, "READ_REPLICA": "true"}, replica)
        until("one idle beside two that read", lambda: sorted(idle(redis)) == [False] * 2 + [True])


def idle(redis):
    """Per connection of a relay: whether it has been idle for two seconds, which one may be."""
    clients = [dict(field.split("=", 1) for field in line.split() if "=" in field)
               for line in redis.says("client", "list").splitlines()]
    found = [int(client["idle"]) >= 2 and "b" not in client["flags"]
             for client in clients if not client["cmd"].startswith("client")]
    assert sum(found) <= 1, clients
    return found


@shows("REDIS_CON_MAX_LIFETIME_MINUTES", waits=True)
def lifetimes(rig, saas):
    replaced = over_wire(rig, saas, "replaced", **ONE_READER, REDIS_CON_MAX_LIFETIME_MINUTES="1")
    kept = over_wire(rig, saas, "kept", **ONE_READER, REDIS_CON_MAX_LIFETIME_MINUTES="0")
    two_connections(replaced, kept)
    until("new connections after a minute", lambda: len(replaced.accepted) > 3, limit=150)
    assert len(kept.accepted) == 2, "0 is for ever"


@shows("REDIS_POOL_SIZE", "REDIS_POOL_SIZE_LITERAL", "REDIS_MAX_ACTIVE_CONNS")
def pool(rig, saas):
    """A replica has three connections where there is room; with fewer it follows all the same."""
    rig.redis = RedisServer(rig)
    rig.relay({**saas.settings(), "REDIS_ADDRESS": rig.redis.address}, "primary")
    one_cpu = ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0))), binary("ff-relay")]
    bounds = (
        ("default", {}, None, 3),
        ("literal", {"REDIS_POOL_SIZE_LITERAL": "1", "REDIS_POOL_SIZE": "10"}, None, 1),
        ("per CPU", {"REDIS_POOL_SIZE": "2"}, one_cpu, 2),
        ("active", {"REDIS_MAX_ACTIVE_CONNS": "2", "REDIS_POOL_SIZE_LITERAL": "10"}, None, 2),
    )
    port = {name: str(free_port()) for name, *_ in bounds}
    wires = {name: over_wire(rig, saas, name, argv, READ_REPLICA="true", PORT=port[name], **settings)
             for name, settings, argv, _ in bounds}

    def state(name):
        relay = f"http://127.0.0.1:{port[name]}"
        opened = bearer(token(relay, first(saas)[1]))
        return json.loads(ask(f"{flags_url(relay, saas)}/bool-flag-0", **opened)[1])["state"]
    for wanted in ("off", "on"):
        toggle(saas)
        for name in wires:
            until(f"{wanted} at {name}", lambda: state(name) == wanted)
    for name, _, _, most in bounds:
        until(f"the connections of {name}", lambda: len(wires[name].accepted) == most)
