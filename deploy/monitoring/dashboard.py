#!/usr/bin/env python3
"""Writes dashboard.json: Grafana's dashboard of relays. Panels are lines here, so that they can be
read and compared; `dashboard.py --check` says whether the file is what this makes."""

import json
import pathlib
import sys

FILE = pathlib.Path(__file__).with_name("dashboard.json")
PICK = 'job=~"$job",instance=~"$instance"'


def rate(name, by="", where=""):
    by = f" by ({by})" if by else ""
    where = f",{where}" if where else ""
    return f"sum{by} (rate({name}{{{PICK}{where}}}[$__rate_interval]))"


def total(name, by="", how="sum"):
    by = f" by ({by})" if by else ""
    return f"{how}{by} ({name}{{{PICK}}})"


def quantile(q, name, by="", where=""):
    by = f"le,{by}" if by else "le"
    return f"histogram_quantile({q}, {rate(name + '_bucket', by, where)})"


def messages(name):
    return [(rate(f"ff_proxy_{name}", "topic,error"), "{{topic}} error={{error}}")]


def redis(kind, count, duration):
    return [
        (rate(f"ff_proxy_redis_cache_{count}_count", "error"), f"{kind} error={{{{error}}}}"),
    ], (quantile(0.99, f"ff_proxy_redis_cache_{duration}_duration"), kind)


REDIS = [redis("write", "write", "write"), redis("read", "read", "read"),
         redis("remove", "remove", "delete"), redis("scan", "scan", "scan")]
SERVED = 'url!~"/stream|"'

# Row, then panels: title, unit, and (expression, legend) of each line; "stat" for one number.
ROWS = [
    ("Overview", [
        ("Relays", "stat", "none", [
            ("count(ff_proxy_build_info{%s})" % PICK, "running"), (total("ff_proxy_ready"), "ready")]),
        ("Open streams of SDKs", "stat", "none", [(total("ff_proxy_sdk_streams_open"), "")]),
        ("Requests", "stat", "reqps", [(rate("ff_proxy_http_requests_total"), "")]),
        ("Failed requests", "stat", "percentunit", [(
            "(" + rate("ff_proxy_http_requests_total", where='code=~"5.."') + " or vector(0)) / "
            + rate("ff_proxy_http_requests_total"), "")]),
        ("Stream of changes", "stat", "bool_on_off", [(total("ff_proxy_stream_health", how="min"), "")]),
        ("Oldest snapshot", "stat", "s", [(total("ff_proxy_snapshot_age_seconds", how="max"), "")]),
    ]),
    ("Requests of SDKs", [
        ("Requests by route", "graph", "reqps", [(rate("ff_proxy_http_requests_total", "url"), "{{url}}")]),
        ("Requests by status", "graph", "reqps", [(rate("ff_proxy_http_requests_total", "code"), "{{code}}")]),
        ("Duration, all routes but streams", "graph", "s", [
            (quantile(q, "ff_proxy_http_requests_duration", where=SERVED), f"p{round(q * 100)}") for q in (0.5, 0.99)]),
        ("Duration by route, p99", "graph", "s", [
            (quantile(0.99, "ff_proxy_http_requests_duration", "url", SERVED), "{{url}}")]),
        ("Requests by environment", "graph", "reqps", [
            (f'topk(10, {rate("ff_proxy_http_requests_total", "envID")})', "{{envID}}")]),
        ("Size of posts, median", "graph", "bytes", [
            (quantile(0.5, "ff_http_requests_content_length_histogram"), "bytes")]),
        ("SDKs in use", "graph", "none", [
            # What was not there when the range began came whole since: no increase sees its beginning.
            ("topk(20, sum by (sdk_language,sdk_version,sdk_type) "
             "((ff_proxy_sdk_usage{%s} unless ff_proxy_sdk_usage{%s} offset $__range) "
             "or increase(ff_proxy_sdk_usage{%s}[$__range])))" % (PICK, PICK, PICK),
             "{{sdk_language}} {{sdk_version}} {{sdk_type}}")]),
        ("Reads in memory", "graph", "reqps", [
            (rate(f"ff_proxy_memoize_cache_{name}"), legend) for name, legend in (
                ("hit", "found"), ("miss", "not there"), ("write_marshal", "written"),
                ("hit_with_unmarshal", "parsed"))]),
    ]),
    ("Changes", [
        ("Events from SaaS", "graph", "cps", messages("saas_to_primary_sse_consumer_messages_received")),
        ("Events to SDKs, of primaries", "graph", "cps",
         messages("primary_to_sdk_sse_producer_messages_published")),
        ("Events to replicas", "graph", "cps", messages("primary_to_replica_sse_producer_messages_published")),
        ("Events of the primary, at replicas", "graph", "cps", messages("replica_sse_consumer_messages_received")),
        ("Events to SDKs, of replicas", "graph", "cps",
         messages("replica_to_sdk_sse_producer_messages_published")),
        ("Receipt to SDK", "graph", "s", [
            (quantile(q, "ff_proxy_event_delay_seconds"), f"p{round(q * 100)}") for q in (0.5, 0.99)]),
        ("Open streams by environment", "graph", "none", [
            (f'topk(10, {total("ff_proxy_sdk_streams_open", "envID")})', "{{envID}}")]),
        ("Events written to streams", "graph", "cps", [
            (rate("ff_proxy_sdk_events_written"), "written"), (rate("ff_proxy_slow_readers_dropped"), "slow readers closed")]),
        ("Comparisons with the source", "graph", "cps", [
            (rate("ff_proxy_reconciliations"), "comparisons"),
            (rate("ff_proxy_reconciliation_changes", "change"), "{{change}}")]),
        ("Snapshots: age", "graph", "s", [(total("ff_proxy_snapshot_age_seconds", "instance", "max"), "{{instance}}")]),
        ("Source: something cannot be taken over", "graph", "none", [
            (total("ff_proxy_source_failed", "instance", "max"), "{{instance}}")]),
        ("Snapshots: size", "graph", "bytes", [(total("ff_proxy_snapshot_bytes", "instance"), "{{instance}}")]),
        ("Subscriptions", "graph", "cps", [
            (rate(f"ff_proxy_{name}_consumer_subscription_requests", "topic"), legend + " {{topic}}") for name, legend in (
                ("saas_to_primary_sse", "SaaS"), ("replica_sse", "replica"), ("primary_metrics_stream", "metrics"))]),
    ]),
    ("SaaS", [
        ("Requests to SaaS", "graph", "reqps", [
            (rate("ff_proxy_to_client_service_requests", "url,code"), "{{url}} {{code}}")]),
        ("Duration of SaaS, p99", "graph", "s", [
            (quantile(0.99, "ff_proxy_to_ff_client_service_requests_duration", "url"), "{{url}}")]),
        ("Other primaries", "graph", "none", [(total("ff_proxy_other_primary", "instance", "max"), "{{instance}}")]),
        ("Stream up; polling", "graph", "bool_on_off", [
            (total("ff_proxy_stream_health", "instance", "min"), "stream {{instance}}"),
            (total("ff_proxy_polling_status", "instance", "max"), "polling {{instance}}")]),
    ]),
    ("Metrics of SDKs", [
        ("Reports to SaaS", "graph", "cps", [
            (rate("ff_proxy_metrics_forwarded", "error"), "error={{error}}")]),
        ("Taken from SDKs", "graph", "cps", [
            (rate("ff_proxy_metrics_taken", "kept"), "{{kept}}")]),
        ("Waiting", "graph", "none", [(total("ff_proxy_metrics_waiting", "instance"), "{{instance}}")]),
        ("Waiting: size", "graph", "bytes", [(total("ff_proxy_metrics_waiting_bytes", "instance"), "{{instance}}")]),
        ("Waiting: age of the oldest", "graph", "s", [
            (total("ff_proxy_metrics_oldest_seconds", "instance", "max"), "{{instance}}")]),
        ("Dropped", "graph", "cps", [(rate("ff_proxy_metrics_dropped", "reason"), "{{reason}}")]),
        ("Replicas to primary", "graph", "cps",
         messages("replica_metrics_stream_producer_messages_published")),
        ("Primary from replicas", "graph", "cps",
         messages("primary_metrics_stream_consumer_messages_received")),
    ]),
    ("Redis", [
        ("Operations", "graph", "ops", [line for lines, _ in REDIS for line in lines]),
        ("Duration, p99", "graph", "s", [line for _, line in REDIS]),
    ]),
    ("TLS", [
        ("Certificates end in", "graph", "s", [
            (f"ff_proxy_tls_certificate_not_after_seconds{{{PICK}}} - time()", "{{instance}}")]),
        ("Certificate files read", "graph", "cps", [(rate("ff_proxy_tls_reloads", "error"), "error={{error}}")]),
        ("Failed handshakes", "graph", "cps", [(rate("ff_proxy_tls_handshakes_failed", "instance"), "{{instance}}")]),
    ]),
    ("Processes", [
        ("CPU", "graph", "none", [(rate("process_cpu_seconds_total", "instance"), "{{instance}}")]),
        ("Memory", "graph", "bytes", [(total("process_resident_memory_bytes", "instance"), "{{instance}}")]),
        ("Descriptors in use", "graph", "percentunit", [
            (f"process_open_fds{{{PICK}}} / process_max_fds{{{PICK}}}", "{{instance}}")]),
        ("Uptime", "graph", "s", [(f"time() - process_start_time_seconds{{{PICK}}}", "{{instance}}")]),
        ("Spans dropped", "graph", "cps", [(rate("ff_proxy_trace_spans_dropped", "reason"), "{{reason}}")]),
        ("Log lines dropped", "graph", "cps", [(rate("ff_proxy_log_lines_dropped", "instance"), "{{instance}}")]),
        ("Ready", "graph", "bool_on_off", [(total("ff_proxy_ready", "instance", "min"), "{{instance}}")]),
        ("Versions", "graph", "none", [(total("ff_proxy_build_info", "version"), "{{version}}")]),
    ]),
]


def panel(number, x, y, title, kind, unit, lines):
    width, height = (4, 4) if kind == "stat" else (8, 7)
    return {
        "id": number, "title": title, "type": "stat" if kind == "stat" else "timeseries",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": {"x": x, "y": y, "w": width, "h": height},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + n), "expr": expression, "legendFormat": legend}
            for n, (expression, legend) in enumerate(lines)
        ],
    }


def panels():
    made, number, y = [], 1, 0
    for row, content in ROWS:
        made.append({"id": number, "title": row, "type": "row", "collapsed": False, "panels": [],
                     "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        number, y, x = number + 1, y + 1, 0
        for title, kind, unit, lines in content:
            made.append(panel(number, x, y, title, kind, unit, lines))
            grid = made[-1]["gridPos"]
            number, x = number + 1, x + grid["w"]
            if x >= 24:
                x, y = 0, y + grid["h"]
        if x:
            y += made[-1]["gridPos"]["h"]
    return made


def variable(name, query):
    return {"name": name, "label": name, "type": "query", "query": query, "refresh": 2,
            "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "includeAll": True, "multi": True, "current": {"text": "All", "value": "$__all"}}


def dashboard():
    return {
        "uid": "ff-relay", "title": "Feature-flag relays", "tags": ["ff-relay"], "editable": True,
        "schemaVersion": 39, "version": 1, "refresh": "30s", "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [
            {"name": "datasource", "label": "data source", "type": "datasource", "query": "prometheus"},
            variable("job", "label_values(ff_proxy_build_info, job)"),
            variable("instance", 'label_values(ff_proxy_build_info{job=~"$job"}, instance)'),
        ]},
        "panels": panels(),
    }


if __name__ == "__main__":
    text = json.dumps(dashboard(), indent=1) + "\n"
    if "--check" not in sys.argv:
        FILE.write_text(text)
    elif FILE.read_text() != text:
        sys.exit("dashboard.json is not what dashboard.py makes: run it")
