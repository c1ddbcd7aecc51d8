"""What the settings do that are not about Redis."""

import base64
import hashlib
import hmac
import json
import re
import ssl
import urllib.request

from rig import ask, bearer, binary, certificate, free_port, token, until
from showing import first, flags_url, health, refused, shows, stop_relay


@shows("PROXY_KEY")
def proxy_key(rig, saas):
    assert "PROXY_KEY" in refused(rig, {})
    rig.relay(saas.settings())
    port = free_port()
    rig.start("wrong", [binary("ff-relay")], {**saas.settings(), "PROXY_KEY": "wrong", "PORT": str(port)})
    url = f"http://127.0.0.1:{port}"
    until("a refused key", lambda: ask(f"{url}/health")[0] == 500 and "key" in health(url)["error"])


@shows("AUTH_SECRET")
def auth_secret(rig, saas):
    relay = rig.relay({**saas.settings(), "AUTH_SECRET": "a certain secret"})
    signed, signature = token(relay, first(saas)[1]).rsplit(".", 1)
    made = hmac.new(b"a certain secret", signed.encode(), hashlib.sha256).digest()
    assert base64.urlsafe_b64encode(made).decode().rstrip("=") == signature


@shows("HEARTBEAT_INTERVAL")
def heartbeat(rig, saas):
    def beats(name):
        return len(re.findall(r" health ", rig.log(name)))
    rig.relay({**saas.settings(), "HEARTBEAT_INTERVAL": "0"}, "silent")
    rig.relay({**saas.settings(), "HEARTBEAT_INTERVAL": "1"})
    until("heartbeats", lambda: beats("relay") >= 3)
    assert beats("silent") == 0


@shows("PORT")
def port(rig, saas):
    wanted = free_port()
    assert rig.relay({**saas.settings(), "PORT": str(wanted)}).endswith(f":{wanted}")
    assert "PORT" in refused(rig, {**saas.settings(), "PORT": "70000"})


@shows("TLS_ENABLED", "TLS_CERT", "TLS_KEY")
def tls(rig, saas):
    cert, key = certificate(rig.folder)
    port = free_port()
    settings = {**saas.settings(), "PORT": str(port), "TLS_ENABLED": "true"}
    said = refused(rig, settings)
    assert "TLS_CERT" in said and "TLS_KEY" in said, said
    rig.start("https", [binary("ff-relay")], {**settings, "TLS_CERT": str(cert), "TLS_KEY": str(key)})
    context = ssl.create_default_context(cafile=str(cert))
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))

    def answers():
        try:
            return opener.open(f"https://localhost:{port}/livez", timeout=5).status == 200
        except OSError:
            return False
    until("an answer over TLS, with a certificate that verifies", answers)


@shows("BYPASS_AUTH")
def bypass_auth(rig, saas):
    relay = rig.relay(saas.settings())
    assert ask(flags_url(relay, saas))[0] == 401
    relay = rig.relay({**saas.settings(), "BYPASS_AUTH": "true"}, "open")
    assert ask(flags_url(relay, saas))[0] == 200
    assert "BYPASS_AUTH is on" in rig.log("open")


@shows("LOG_LEVEL")
def log_level(rig, saas):
    for level, shown in (("DEBUG", "DEBUG"), ("INFO", "INFO"), ("ERROR", "")):
        relay = rig.relay({**saas.settings(), "LOG_LEVEL": level}, level)
        ask(f"{relay}/client/auth", {"apiKey": "x"})
        stop_relay(rig, level)
        log = rig.log(level)
        levels = {word for word in ("DEBUG", "INFO") if re.search(rf"Z +{word} ", log)}
        assert (shown in levels if shown else not levels), (level, levels)
        assert level == "DEBUG" or "DEBUG" not in levels, log


@shows("AND_RULES")
def and_rules(rig, saas):
    for setting, kept, left_out in (("true", "servingRules", "rules"), ("false", "rules", "servingRules")):
        relay = rig.relay({**saas.settings(), "AND_RULES": setting}, setting)
        path = f"{relay}/client/env/{first(saas)[0]}/target-segments?rules=v2"
        (group, *_) = json.loads(ask(path, **bearer(token(relay, first(saas)[1])))[1])
        assert kept in group and left_out not in group, (setting, group)


@shows("PROMETHEUS_PORT")
def prometheus_port(rig, saas):
    relay = rig.relay(saas.settings())
    assert ask(f"{relay}/metrics")[0] == 200
    own = free_port()
    relay = rig.relay({**saas.settings(), "PROMETHEUS_PORT": str(own)}, "apart")
    assert ask(f"http://127.0.0.1:{own}/metrics")[0] == 200
    assert ask(f"{relay}/metrics")[0] in (404, 405)


@shows("FLAG_STREAM_ENABLED")
def flag_stream_enabled(rig, saas):
    def streams():
        return json.loads(ask(f"{saas.url}/admin/state")[1])["openStreams"]
    relay = rig.relay({**saas.settings(), "FLAG_STREAM_ENABLED": "false"}, "polls")
    until("polls take its place", lambda: health(relay)["streamStatus"]["state"] == "CONNECTED")
    assert streams() == 0
    rig.relay(saas.settings(), "streams")
    until("a stream", lambda: streams() == 1)


@shows("FLAG_POLL_INTERVAL", waits=True)
def flag_poll_interval(rig, saas):
    def polls(one):
        return json.loads(ask(f"{one.url}/admin/state")[1])["requests"]["proxy-config"]
    asked = {"rarely": "3600", "often": "5", "default": ""}
    sources = {name: rig.simulator(name=f"SaaS of {name}") for name in asked}
    for name, source in sources.items():
        rig.relay({**source.settings(), "FLAG_STREAM_ENABLED": "false", "FLAG_POLL_INTERVAL": asked[name]}, name)
    # Intervals vary: after the second minute all that last one have ended.
    until("a poll each minute", lambda: polls(sources["default"]) >= 3, limit=300)
    # Polls each 5 seconds would have been two dozen by now.
    assert polls(sources["often"]) <= 4, "less than 60 does not count as 60"
    assert polls(sources["rarely"]) == 1, "an hour is not waited for"
    until("the other poll after a minute", lambda: polls(sources["often"]) >= 2)


@shows("TARGET_POLL_DURATION")
def target_poll_duration(rig, saas):
    rig.relay({**saas.settings(), "TARGET_POLL_DURATION": "60"})
    assert "TARGET_POLL_DURATION" in rig.log("relay")


@shows("OFFLINE", "CONFIG_DIR", "GENERATE_OFFLINE_CONFIG")
def offline(rig, saas):
    folder = rig.folder / "config"
    folder.mkdir()
    config = {"CONFIG_DIR": str(folder)}
    made = rig.start("generates", [binary("ff-relay")],
                     {**saas.settings(), **config, "GENERATE_OFFLINE_CONFIG": "true"})
    assert made.wait(60) == 0, rig.log("generates")
    environment, key = first(saas)
    assert (folder / f"env-{environment}" / "feature_config.json").exists()
    relay = rig.relay({**config, "OFFLINE": "true", "CLIENT_SERVICE": "http://127.0.0.1:1"})
    assert ask(flags_url(relay, saas), **bearer(token(relay, key)))[0] == 200
