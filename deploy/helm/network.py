"""What relays may reach where `networkPolicy` is on: all that the same values send them to."""

from chart import render, selected

GUARDED = ("--values=values/ha.yaml", "--set=networkPolicy.enabled=true")
NAMES, SAAS = {53}, {443}


def open_to(objects, role):
    policy = objects["NetworkPolicy", f"fleet-ff-relay-{role}"]["spec"]
    assert selected(objects, policy["podSelector"]["matchLabels"]) == [role]
    return {port["port"] for rule in policy["egress"] for port in rule["ports"]}


def redis(address, *more):
    return open_to(render(*GUARDED, f"--set-string=redis.address={address}", *more), "replica") - NAMES


def network(sets):
    for name, role, ports in (
            ("everything", "primary", {6380, 6381, 4318, 9999, 443, 80, 988, 3128}),
            ("everything", "replica", {6380, 6381, 4318, 9999}),
            ("closed", "primary", {6380, 3128}), ("closed", "replica", {6380})):
        assert open_to(sets[name], role) == NAMES | ports, (name, role, open_to(sets[name], role))
    for address, ports in (
            ("redis", {6379}), ("redis:6380", {6380}), ("a:7000\\,b:7001\\,c", {7000, 7001, 6379}),
            ("rediss://user:pass@r:6390/2", {6390}), ("redis://[::1]:7", {7}), ("redis://[::1]", {6379}),
            ("redis+sentinel://a:26380\\,b/mymaster/0", {26380, 26379, 6379})):
        assert redis(address) == ports, (address, redis(address))
    known = "--set=networkPolicy.redisPorts={6390}"
    assert redis("redis+sentinel://a/mymaster", known) == {26379, 6390}
    assert redis("redis:6380", known) == {6380, 6390}

    # SaaS, or what stands for it and before it, on ports that are said.
    for options, port in (
            (["--set=primary.settings.CLIENT_SERVICE=https://saas.test:8443/api/1.0"], 8443),
            (["--set=settings.METRIC_SERVICE=http://saas.test:9000"], 9000),
            (["--set=primary.extraEnv[0].name=HTTPS_PROXY",
              "--set=primary.extraEnv[0].value=http://user:pass@way.out:3128"], 3128)):
        objects = render(*GUARDED, *options)
        assert open_to(objects, "primary") == NAMES | SAAS | {6379, port}, options
        assert open_to(objects, "replica") == NAMES | {6379}, options

    # A collector, wherever it is named, and for whom.
    endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"
    for options, port in (
            ([f"--set=settings.{endpoint}=http://collector:4317/v1"], 4317),
            ([f"--set=settings.{endpoint}=https://collector"], 443),
            ([f"--set=settings.{endpoint}=http://collector"], 80),
            ([f"--set=extraEnv[0].name={endpoint}", "--set=extraEnv[0].value=http://c:99"], 99),
            ([f"--set=settings.{endpoint}=http://c:1",
              "--set=settings.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://c:2"], 2)):
        out = open_to(render(*GUARDED, *options), "replica")
        assert out == NAMES | {6379, port}, (options, out)
    own = render(*GUARDED, f"--set=primary.settings.{endpoint}=http://collector:4317")
    assert open_to(own, "primary") == NAMES | SAAS | {6379, 4317}
    assert open_to(own, "replica") == NAMES | {6379}

    # Cloud Profiler asks the metadata server for credentials.
    profiled = render(*GUARDED, "--set=settings.GCP_PROFILER_ENABLED=true")
    rules = profiled["NetworkPolicy", "fleet-ff-relay-replica"]["spec"]["egress"]
    (metadata,) = [rule for rule in rules if "to" in rule]
    assert {"ipBlock": {"cidr": "169.254.169.254/32"}} in metadata["to"]
    assert open_to(profiled, "replica") == NAMES | {6379, 443, 80, 988}

    # An offline relay has no way out but those that the values name.
    offline = render("--values=values/offline.yaml", "--set=networkPolicy.egress[0].ports[0].port=2049",
                     "--set=networkPolicy.egress[0].ports[0].protocol=TCP")
    assert open_to(offline, "primary") == {2049}
