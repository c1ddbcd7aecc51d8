//! The published table, and what is counted where.

use super::*;

const ROUTES: &[&str] = &["/client/auth", ""];

/// Every published name with its type.
const PUBLISHED: &[(&str, &str)] = &[
    ("ff_proxy_http_requests_total", "counter"),
    ("ff_proxy_http_requests_duration", "histogram"),
    ("ff_http_requests_content_length_histogram", "histogram"),
    ("ff_proxy_metrics_forwarded", "counter"),
    ("ff_proxy_sdk_usage", "counter"),
    ("ff_proxy_to_client_service_requests", "counter"),
    (
        "ff_proxy_to_ff_client_service_requests_duration",
        "histogram",
    ),
    (
        "ff_proxy_saas_to_primary_sse_consumer_messages_received",
        "counter",
    ),
    (
        "ff_proxy_saas_to_primary_sse_consumer_subscription_requests",
        "counter",
    ),
    (
        "ff_proxy_replica_sse_consumer_subscription_requests",
        "counter",
    ),
    (
        "ff_proxy_primary_metrics_stream_consumer_subscription_requests",
        "counter",
    ),
    (
        "ff_proxy_primary_to_replica_sse_producer_messages_published",
        "counter",
    ),
    (
        "ff_proxy_primary_to_sdk_sse_producer_messages_published",
        "counter",
    ),
    (
        "ff_proxy_primary_metrics_stream_consumer_messages_received",
        "counter",
    ),
    ("ff_proxy_replica_sse_consumer_messages_received", "counter"),
    (
        "ff_proxy_replica_to_sdk_sse_producer_messages_published",
        "counter",
    ),
    (
        "ff_proxy_replica_metrics_stream_producer_messages_published",
        "counter",
    ),
    ("ff_proxy_redis_cache_write_count", "counter"),
    ("ff_proxy_redis_cache_read_count", "counter"),
    ("ff_proxy_redis_cache_remove_count", "counter"),
    ("ff_proxy_redis_cache_scan_count", "counter"),
    ("ff_proxy_redis_cache_write_duration", "histogram"),
    ("ff_proxy_redis_cache_read_duration", "histogram"),
    ("ff_proxy_redis_cache_delete_duration", "histogram"),
    ("ff_proxy_redis_cache_scan_duration", "histogram"),
    ("ff_proxy_memoize_cache_hit", "counter"),
    ("ff_proxy_memoize_cache_miss", "counter"),
    ("ff_proxy_memoize_cache_write_marshal", "counter"),
    ("ff_proxy_memoize_cache_hit_with_unmarshal", "counter"),
    ("ff_proxy_stream_health", "gauge"),
    ("ff_proxy_polling_status", "gauge"),
];

/// Asserts that `text` has each of `lines`.
fn has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(
            text.lines().any(|l| l == *line),
            "{line} is not in:\n{text}"
        );
    }
}

#[test]
fn every_published_name_is_described_from_the_first_scrape_once() {
    let text = Metrics::new(ROUTES).encode();
    for (name, kind) in PUBLISHED {
        let count = |line: &str| text.lines().filter(|l| l.starts_with(line)).count();
        assert_eq!(count(&format!("# TYPE {name} {kind}")), 1, "{name}");
        assert_eq!(count(&format!("# HELP {name} ")), 1, "{name}");
    }
}

#[test]
fn families_are_whole_and_in_order() {
    let metrics = Metrics::new(ROUTES);
    metrics.metrics_dropped("stream", 1);
    let text = metrics.encode();
    let names: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    assert!(names.is_sorted(), "{names:?}");
    // Samples follow the head of their own family.
    let mut family = "";
    for line in text.lines() {
        match line.strip_prefix("# TYPE ") {
            Some(head) => family = head.split(' ').next().unwrap_or_default(),
            None if line.starts_with('#') => {}
            None => assert!(line.starts_with(family), "{line} under {family}"),
        }
    }
    if cfg!(target_os = "linux") {
        assert!(names.contains(&"process_resident_memory_bytes"));
    }
}

#[test]
fn requests_are_counted_by_route_environment_and_code() {
    let metrics = Metrics::new(ROUTES);
    for code in [200, 200, 401] {
        metrics.http_request(0, "e", code, Duration::from_millis(7));
    }
    metrics.http_request(1, "", 404, Duration::ZERO);
    metrics.http_request(9, "", 404, Duration::ZERO);
    metrics.http_content_length(150);
    has(
        &metrics.encode(),
        &[
            r#"ff_proxy_http_requests_total{code="200",envID="e",url="/client/auth"} 2"#,
            r#"ff_proxy_http_requests_total{code="401",envID="e",url="/client/auth"} 1"#,
            r#"ff_proxy_http_requests_total{code="404",envID="",url=""} 1"#,
            r#"ff_proxy_http_requests_duration_bucket{url="/client/auth",le="0.005"} 0"#,
            r#"ff_proxy_http_requests_duration_bucket{url="/client/auth",le="0.01"} 3"#,
            r#"ff_http_requests_content_length_histogram_bucket{le="100"} 0"#,
            r#"ff_http_requests_content_length_histogram_bucket{le="51200"} 1"#,
        ],
    );
}

#[test]
fn each_method_counts_under_its_name() {
    let metrics = Metrics::new(ROUTES);
    let ms = Duration::from_millis;
    metrics.metrics_forwarded("e", true);
    metrics.metrics_dropped("bytes", 3);
    metrics.service_request("/proxy/config", "e", Some(200), ms(60));
    metrics.service_request("/proxy/auth", "", None, ms(60));
    for flow in [
        Flow::SaasToPrimary,
        Flow::PrimaryToReplica,
        Flow::PrimaryToSdk,
        Flow::PrimaryMetrics,
        Flow::ToReplica,
        Flow::ReplicaToSdk,
        Flow::ReplicaMetrics,
    ] {
        metrics.message(flow, &format!("{flow:?}"), false);
    }
    metrics.subscribed(Subscribed::Saas, "*");
    metrics.subscribed(Subscribed::Replica, "r");
    metrics.subscribed(Subscribed::PrimaryMetrics, "m");
    metrics.cache(CacheOperation::Write, false, ms(20));
    metrics.cache(CacheOperation::Read, true, ms(20));
    metrics.cache(CacheOperation::Remove, false, ms(20));
    metrics.cache(CacheOperation::Scan, false, ms(20));
    metrics.memory_hit();
    metrics.memory_miss();
    metrics.memory_written();
    metrics.stream_health("h", true);
    metrics.polling_status("h", false);
    metrics.slow_reader_dropped();
    metrics.event_written(ms(2));
    metrics.reconciled(1, 2, 3);
    has(
        &metrics.encode(),
        &[
            r#"ff_proxy_metrics_forwarded{envID="e",error="true"} 1"#,
            r#"ff_proxy_metrics_dropped{reason="bytes"} 3"#,
            r#"ff_proxy_to_client_service_requests{code="200",envID="e",url="/proxy/config"} 1"#,
            r#"ff_proxy_to_client_service_requests{code="0",envID="",url="/proxy/auth"} 1"#,
            r#"ff_proxy_to_ff_client_service_requests_duration_bucket{envID="e",url="/proxy/config",le="0.05"} 0"#,
            r#"ff_proxy_saas_to_primary_sse_consumer_messages_received{error="false",topic="SaasToPrimary"} 1"#,
            r#"ff_proxy_primary_to_replica_sse_producer_messages_published{error="false",topic="PrimaryToReplica"} 1"#,
            r#"ff_proxy_primary_to_sdk_sse_producer_messages_published{error="false",topic="PrimaryToSdk"} 1"#,
            r#"ff_proxy_primary_metrics_stream_consumer_messages_received{error="false",topic="PrimaryMetrics"} 1"#,
            r#"ff_proxy_replica_sse_consumer_messages_received{error="false",topic="ToReplica"} 1"#,
            r#"ff_proxy_replica_to_sdk_sse_producer_messages_published{error="false",topic="ReplicaToSdk"} 1"#,
            r#"ff_proxy_replica_metrics_stream_producer_messages_published{error="false",topic="ReplicaMetrics"} 1"#,
            r#"ff_proxy_saas_to_primary_sse_consumer_subscription_requests{topic="*"} 1"#,
            r#"ff_proxy_replica_sse_consumer_subscription_requests{topic="r"} 1"#,
            r#"ff_proxy_primary_metrics_stream_consumer_subscription_requests{topic="m"} 1"#,
            r#"ff_proxy_redis_cache_write_count{error="false"} 1"#,
            r#"ff_proxy_redis_cache_read_count{error="true"} 1"#,
            r#"ff_proxy_redis_cache_remove_count{error="false"} 1"#,
            r#"ff_proxy_redis_cache_scan_count{error="false"} 1"#,
            "ff_proxy_redis_cache_delete_duration_count 1",
            "ff_proxy_redis_cache_scan_duration_count 1",
            "ff_proxy_memoize_cache_hit 1",
            "ff_proxy_memoize_cache_miss 1",
            "ff_proxy_memoize_cache_write_marshal 1",
            "ff_proxy_memoize_cache_hit_with_unmarshal 0",
            r#"ff_proxy_stream_health{host="h"} 1"#,
            r#"ff_proxy_polling_status{host="h"} 0"#,
            "ff_proxy_slow_readers_dropped 1",
            "ff_proxy_event_delay_seconds_count 1",
            "ff_proxy_reconciliations 1",
            r#"ff_proxy_reconciliation_changes{change="deleted"} 3"#,
        ],
    );
}

#[test]
fn streams_and_events_are_counted_under_the_role() {
    let metrics = Metrics::new(ROUTES);
    metrics.stream_opened("e");
    metrics.stream_opened("e");
    metrics.stream_closed("e");
    metrics.events_published("e", 5);
    metrics.set_replica(true);
    metrics.events_published("e", 5);
    has(
        &metrics.encode(),
        &[
            r#"ff_proxy_sdk_streams_open{envID="e"} 1"#,
            r#"ff_proxy_sdk_events_written{envID="e"} 10"#,
            r#"ff_proxy_primary_to_sdk_sse_producer_messages_published{error="false",topic="e"} 1"#,
            r#"ff_proxy_replica_to_sdk_sse_producer_messages_published{error="false",topic="e"} 1"#,
        ],
    );
}

#[test]
fn a_snapshot_ages_until_it_is_confirmed_and_goes_with_its_environment() {
    let metrics = Metrics::new(ROUTES);
    let start = Instant::now();
    metrics.snapshot_confirmed("e", 1024, start);
    has(
        &metrics.encode_at(start + Duration::from_secs(90)),
        &[
            r#"ff_proxy_snapshot_age_seconds{envID="e"} 90"#,
            r#"ff_proxy_snapshot_bytes{envID="e"} 1024"#,
        ],
    );
    metrics.snapshot_removed("e");
    let text = metrics.encode_at(start);
    assert!(!text.contains("snapshot_age_seconds{"));
    assert!(!text.contains("snapshot_bytes{"));
}

#[test]
fn clients_cannot_make_series_without_bound() {
    let metrics = Metrics::new(ROUTES);
    for n in 0..MOST_SDKS + 50 {
        metrics.sdk_usage("e", "server", &n.to_string(), "go");
    }
    let text = metrics.encode();
    let series = text
        .lines()
        .filter(|l| l.starts_with("ff_proxy_sdk_usage{"));
    assert_eq!(series.count(), MOST_SDKS + 1);
    has(
        &text,
        &[
            r#"ff_proxy_sdk_usage{envID="e",sdk_language="other",sdk_type="other",sdk_version="other"} 50"#,
        ],
    );
}

#[test]
fn no_request_is_lost_while_a_series_is_new_to_many_threads() {
    let metrics = Metrics::new(ROUTES);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for n in 0..400_u16 {
                    let environment = ["a", "b", "c", "d"][usize::from(n % 4)];
                    metrics.http_request(0, environment, 200 + n % 5, Duration::ZERO);
                }
            });
        }
    });
    let text = metrics.encode();
    let total: u64 = text
        .lines()
        .filter(|line| line.starts_with("ff_proxy_http_requests_total{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum();
    assert_eq!(total, 8 * 400);
}

/// `UPDATE_DOCS=1 cargo test -p ff-relay --lib metrics` writes it.
#[test]
fn the_docs_page_is_up_to_date_and_names_all_of_a_scrape() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let metrics = Metrics::new(ROUTES);
    let page = metrics.reference_markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), page);
    for line in metrics.encode().lines() {
        if let Some(name) = line
            .strip_prefix("# TYPE ")
            .and_then(|head| head.split(' ').next())
        {
            assert!(page.contains(&format!("`{name}`")), "{name} is not in it");
        }
    }
}

#[test]
fn what_waits_of_metrics_ages_until_it_is_gone() {
    let metrics = Metrics::new(ROUTES);
    let start = Instant::now();
    metrics.metrics_taken("memory");
    metrics.metrics_waiting(3, 900, Some(start));
    has(
        &metrics.encode_at(start + Duration::from_secs(90)),
        &[
            r#"ff_proxy_metrics_taken{kept="memory"} 1"#,
            "ff_proxy_metrics_waiting 3",
            "ff_proxy_metrics_waiting_bytes 900",
            "ff_proxy_metrics_oldest_seconds 90",
        ],
    );
    metrics.metrics_waiting(0, 0, None);
    has(&metrics.encode(), &["ff_proxy_metrics_oldest_seconds 0"]);
}

#[test]
fn environments_that_messages_name_cannot_make_series_without_bound() {
    let metrics = Metrics::new(ROUTES);
    for n in 0..MOST_SENDERS + 50 {
        metrics.metrics_forwarded(&n.to_string(), false);
    }
    has(
        &metrics.encode(),
        &[r#"ff_proxy_metrics_forwarded{envID="other",error="false"} 50"#],
    );
}

/// `increase` of a series that begins at 1 is 0: an alert on it would miss what happens once.
#[test]
fn what_alerts_want_to_rise_begins_at_zero() {
    let alerts = include_str!("../../../../../deploy/monitoring/alerts.yaml");
    let text = Metrics::new(ROUTES).encode();
    let mut asked = Vec::new();
    for rest in alerts.split("increase(").skip(1) {
        let selector = rest.split('[').next().unwrap();
        let (name, labels) = selector.split_once('{').unwrap_or((selector, ""));
        let labels: Vec<_> = labels.trim_end_matches('}').split(',').collect();
        let begins = text.lines().any(|line| {
            line.strip_prefix(name)
                .is_some_and(|series| series.starts_with(['{', ' ']) && series.ends_with(" 0"))
                && labels.iter().all(|label| line.contains(label))
        });
        assert!(begins, "{selector} is not there at the first scrape");
        asked.push(name);
    }
    assert!(asked.contains(&"ff_proxy_metrics_dropped"), "{asked:?}");
    for reason in DROP_REASONS {
        has(
            &text,
            &[&format!(
                r#"ff_proxy_metrics_dropped{{reason="{reason}"}} 0"#
            )],
        );
    }
    for error in ["false", "true"] {
        for name in ["tls_reloads", "redis_cache_read_count"] {
            has(
                &text,
                &[&format!(r#"ff_proxy_{name}{{error="{error}"}} 0"#)],
            );
        }
    }
}
