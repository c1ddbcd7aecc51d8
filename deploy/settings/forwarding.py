"""What the settings do that say where metrics and targets of SDKs go, and when."""

import json
import time

from over_redis import RedisServer
from rig import ask, bearer, token, until
from showing import first, flags_url, post_metrics, posted, shows, stop_relay


def flags_of(metrics):
    """The flags that metrics are there of."""
    return {metric["flag"] for metric in posted(metrics)}


@shows("CLIENT_SERVICE", "METRIC_SERVICE")
def services(rig, saas):
    other = rig.simulator(name="other")
    relay = rig.relay({**saas.settings(), "METRIC_SERVICE": other.url})
    assert ask(flags_url(relay, saas), **bearer(token(relay, first(saas)[1])))[0] == 200
    post_metrics(relay, saas)
    stop_relay(rig)  # what waits goes out
    assert posted(other) and not posted(saas), "metrics went elsewhere"


@shows("METRIC_POST_DURATION", waits=True)
def metric_post_duration(rig, saas):
    """Nobody stops: what comes to SaaS came for its time, or for its size."""
    metrics = rig.simulator(name="metric service")
    # Those that are not to come begin: were they all the same, they would be first.
    asked = {"rarely": "3600", "off": "0", "less": "1", "as published": "60", "default": ""}
    relays, since = {}, {}
    for name, seconds in asked.items():
        settings = {"METRIC_SERVICE": metrics.url, "METRIC_POST_DURATION": seconds}
        relays[name] = rig.relay({**saas.settings(), **settings}, name)
    for name, relay in relays.items():
        since[name] = time.monotonic()
        post_metrics(relay, saas, name)
    in_a_minute, took = {"default", "less", "as published"}, {}

    def all_came():
        for name in flags_of(metrics) - took.keys():
            took[name] = time.monotonic() - since[name]
        return in_a_minute <= took.keys()
    until("metrics of a minute", all_came, limit=150)
    assert all(seconds >= 60 for seconds in took.values()), f"before their time: {took}"
    assert took.keys() == in_a_minute, "an hour is not waited for, or 0 is not off"

    # Some 1.2 MB.
    large = [f"large-{number:04}" for number in range(3_000)]
    for name in ("rarely", "off"):
        post_metrics(relays[name], saas, *large)
    until("a megabyte long before its hour", lambda: {"rarely", *large} <= flags_of(metrics))
    stop_relay(rig, "off")  # what waits would go out
    assert "off" not in flags_of(metrics), "0 is not off"
    assert all(metric["count"] == 1 for metric in posted(metrics)), "what was discarded came as well"


@shows("FORWARD_TARGETS")
def forward_targets(rig, saas):
    def forwarded():
        return json.loads(ask(f"{saas.url}/admin/state")[1])["requests"]["client-auth"]
    redis = {"REDIS_ADDRESS": RedisServer(rig).address}
    without = {
        "keeps": {**saas.settings(), **redis},
        # It has all that forwarding takes.
        "replica": {**saas.settings(), **redis, "READ_REPLICA": "true", "FORWARD_TARGETS": "true"},
    }
    for name, settings in without.items():
        token(rig.relay(settings, name), first(saas)[1], "alice")
    for name in reversed(without):
        stop_relay(rig, name)  # what is under way is done
    assert forwarded() == 0, "forwarded without being told to, or by a replica"
    relay = rig.relay({**saas.settings(), "FORWARD_TARGETS": "true"}, "forwards")
    token(relay, first(saas)[1], "alice")
    until("a forwarded target", lambda: forwarded() == 1)
