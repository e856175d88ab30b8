//! `[telemetry]` and `[log]`.

use std::time::Duration;

use super::*;
use crate::telemetry::AccessLog;

fn with(section: &str) -> String {
    format!("{GOOD}\n[telemetry]\n{section}\n")
}

#[test]
fn nothing_is_recorded_and_nothing_sampled_where_nothing_is_said() {
    let traces = load_text(GOOD).unwrap().settings.traces;
    assert_eq!((traces.collector, traces.sample_ratio), (None, None));
    let traces = load_text(&with("sample_ratio = 0.25")).unwrap().settings.traces;
    assert_eq!((traces.collector, traces.sample_ratio), (None, Some(0.25)));
}

#[cfg(feature = "otlp")]
#[test]
fn spans_go_to_v1_traces_below_the_endpoint() {
    for (endpoint, goes_to) in [
        ("http://localhost:4318", "http://localhost:4318/v1/traces"),
        ("https://otel.example.com/base/", "https://otel.example.com/base/v1/traces"),
    ] {
        let traces = load_text(&with(&format!("otlp_endpoint = \"{endpoint}\""))).unwrap().settings.traces;
        assert_eq!(traces.collector.unwrap().endpoint.as_str(), goes_to);
        assert_eq!(traces.sample_ratio, Some(1.0));
    }
}

#[cfg(not(feature = "otlp"))]
#[test]
fn a_program_that_cannot_send_spans_says_so() {
    let words = ["this program was built without the feature otlp", "--features otlp"];
    one_error(&with("otlp_endpoint = \"http://localhost:4318\""), "telemetry.otlp_endpoint", &words);
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (section, key, says) in [
        ("sample_ratio = 1.5", "sample_ratio", "must be from 0 to 1"),
        ("sample_ratio = nan", "sample_ratio", "must be from 0 to 1"),
        ("service_name = \"x\"", "service_name", "has no meaning without otlp_endpoint"),
        ("otlp_endpont = \"http://c.example\"", "otlp_endpont", "otlp_endpoint"),
    ] {
        one_error(&with(section), &format!("telemetry.{key}"), &[says]);
    }
}

#[cfg(feature = "otlp")]
#[test]
fn the_port_of_grpc_is_warned_of() {
    let text = with("otlp_endpoint = \"http://localhost:4317\"");
    one_warning(&text, "telemetry.otlp_endpoint", "the port of OTLP over gRPC");
}

#[cfg(feature = "otlp")]
#[test]
fn an_endpoint_that_is_none_is_refused() {
    for (endpoint, says) in [
        ("grpc://localhost:4317", "http://localhost:4318"),
        ("http://u:hidden@c.example", "must not have a user name or a password in it"),
        ("http://c.example?key=hidden", "must not have a query"),
    ] {
        let text = with(&format!("otlp_endpoint = \"{endpoint}\""));
        one_error(&text, "telemetry.otlp_endpoint", &[says]);
        assert!(!refused(&text).to_string().contains("hidden"));
    }
    one_error(
        &with("otlp_endpoint = \"http://c.example\"\nservice_name = \" \""),
        "telemetry.service_name",
        &["is empty"],
    );
}

#[test]
fn the_access_log_has_a_share_of_the_successful_requests() {
    let log = |lines: &str| load_text(&format!("{GOOD}\n[log]\n{lines}")).unwrap().settings.log.access;
    assert_eq!(log(""), None);
    let all = AccessLog { sample: 1.0, slow: Duration::from_secs(1) };
    assert_eq!(log("access = true"), Some(all));
    let some = AccessLog { sample: 0.01, slow: Duration::from_millis(250) };
    assert_eq!(log("access = true\naccess_sample = 0.01\naccess_slow = \"250ms\""), Some(some));
    for (lines, key, says) in [
        ("access_sample = 1.5", "access_sample", "must be from 0 to 1"),
        ("access_sample = nan", "access_sample", "must be from 0 to 1"),
        ("access_sample = -0.1", "access_sample", "must be from 0 to 1"),
        ("access_slow = \"0s\"", "access_slow", "must be above 0s"),
    ] {
        let text = format!("{GOOD}\n[log]\naccess = true\n{lines}");
        one_error(&text, &format!("log.{key}"), &[says]);
    }
    let alone = format!("{GOOD}\n[log]\naccess_sample = 0.5");
    one_warning(&alone, "log.access_sample", "requests get no line");
}
