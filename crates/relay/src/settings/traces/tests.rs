//! What OpenTelemetry's variables come to.

use super::*;

fn read(variables: &[(&str, &str)]) -> (Option<TraceSettings>, Vec<String>) {
    TraceSettings::read(&|name| {
        let found = variables.iter().find(|(given, _)| *given == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn traces_are_off_unless_they_are_asked_for() {
    for off in [
        &[][..],
        &[("OTEL_SERVICE_NAME", "x")],
        &[
            ("OTEL_TRACES_EXPORTER", "none"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h"),
        ],
        &[
            ("OTEL_SDK_DISABLED", "TRUE"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h"),
        ],
        &[("OTEL_TRACES_EXPORTER", "zipkin")],
        &[
            ("OTEL_TRACES_EXPORTER", "console,zipkin"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h"),
        ],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "no url")],
    ] {
        assert_eq!(read(off).0, None, "{off:?}");
    }
}

#[test]
fn endpoints_are_made_as_the_specification_says() {
    let grpc = "opentelemetry.proto.collector.trace.v1.TraceService/Export";
    for (variables, url) in [
        (
            &[("OTEL_TRACES_EXPORTER", "otlp")][..],
            "http://localhost:4318/v1/traces".to_owned(),
        ),
        (
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://h/base/")],
            "https://h/base/v1/traces".to_owned(),
        ),
        (
            &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://h:1/own")],
            "http://h:1/own".to_owned(),
        ),
        (
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "h:4317"),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ],
            format!("https://h:4317/{grpc}"),
        ),
        (
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "h:4317"),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                ("OTEL_EXPORTER_OTLP_INSECURE", "True"),
            ],
            format!("http://h:4317/{grpc}"),
        ),
        (
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://h:4317"),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                ("OTEL_EXPORTER_OTLP_INSECURE", "true"),
            ],
            format!("https://h:4317/{grpc}"),
        ),
        (
            &[
                ("OTEL_TRACES_EXPORTER", "otlp"),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ],
            format!("http://localhost:4317/{grpc}"),
        ),
    ] {
        assert_eq!(
            read(variables).0.unwrap().endpoint.as_str(),
            url,
            "{variables:?}"
        );
    }
}

#[test]
fn values_are_read_and_what_is_wrong_is_told_without_secrets() {
    let (settings, notes) = read(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h"),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=Bearer%20hunter2,bad",
        ),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,zone=b"),
        ("OTEL_SERVICE_NAME", "c"),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "10"),
    ]);
    let settings = settings.unwrap();
    assert_eq!(settings.headers[0].1.expose(), "Bearer hunter2");
    assert_eq!(settings.timeout, Duration::from_secs(10));
    assert_eq!(settings.resource["service.name"], "c");
    assert_eq!(settings.resource["zone"], "b");
    let sampler = Sampler {
        by_parent: true,
        ratio: 0.25,
    };
    assert_eq!(
        (settings.sampler, settings.queue, settings.batch),
        (sampler, 10, 10)
    );
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(!format!("{settings:?}").contains("hunter2"));
}

/// What variables come to beside an endpoint, and what is told of them.
fn beside(variables: &[(&str, &str)]) -> (TraceSettings, Vec<String>) {
    let endpoint = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h")];
    let (settings, notes) = read(&[&endpoint, variables].concat());
    (settings.unwrap(), notes)
}

#[test]
fn what_is_not_known_is_told_once_and_the_rest_counts() {
    for (variables, notes) in [
        (&[("OTEL_TRACES_EXPORTER", "OTLP")][..], 0),
        (&[("OTEL_TRACES_EXPORTER", "otlp, console")], 1),
        (&[("OTEL_EXPORTER_OTLP_COMPRESSION", "none")], 0),
        (&[("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd")], 1),
        (&[("OTEL_EXPORTER_OTLP_INSECURE", "false")], 0),
        (&[("OTEL_EXPORTER_OTLP_INSECURE", "yes")], 1),
        (&[("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/k")], 1),
        (&[("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/c")], 1),
    ] {
        let (settings, told) = beside(variables);
        assert_eq!(told.len(), notes, "{told:?}");
        assert!(!settings.gzip && settings.identity.is_none());
    }
    let (settings, told) = beside(&[("OTEL_EXPORTER_OTLP_COMPRESSION", "GZIP")]);
    assert!(settings.gzip && told.is_empty());
    let (settings, told) = beside(&[
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/k"),
        ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "/c"),
    ]);
    assert_eq!(settings.identity, Some(("/c".into(), "/k".into())));
    assert!(told.is_empty());
}

#[test]
fn context_is_propagated_where_its_propagator_is_named() {
    for (named, propagates, notes) in [
        ("", true, 0),
        ("tracecontext,baggage", true, 0),
        ("none", false, 0),
        ("baggage", false, 0),
        ("b3, jaeger", false, 1),
        ("xray,TraceContext", true, 1),
    ] {
        let (settings, told) = beside(&[("OTEL_PROPAGATORS", named)]);
        let got = (settings.propagates, told.len());
        assert_eq!(got, (propagates, notes), "{named}");
    }
}

#[test]
fn no_time_is_no_limit_but_our_own() {
    let (settings, _) = beside(&[]);
    assert_eq!(settings.timeout, Duration::from_secs(10));
    assert_eq!(settings.patience, Duration::from_secs(30));
    let (settings, told) = beside(&[
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "0"),
    ]);
    assert!(told.is_empty(), "{told:?}");
    assert_eq!((settings.timeout, settings.patience), (MOST, MOST));
    let (settings, _) = beside(&[("OTEL_BSP_EXPORT_TIMEOUT", "1500")]);
    assert_eq!(settings.patience, Duration::from_millis(1_500));
}

#[test]
fn a_collector_on_this_machine_is_known() {
    for (endpoint, is_local) in [
        ("http://localhost:1", true),
        ("http://LOCALHOST", true),
        ("http://127.1.2.3:1", true),
        ("http://[::1]:1", true),
        ("http://localhost.example", false),
        ("http://10.0.0.1", false),
    ] {
        let settings = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]).0;
        assert_eq!(settings.unwrap().is_local(), is_local, "{endpoint}");
    }
}
