//! Metrics as a collector of OpenTelemetry gets them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use conet_tests::admin::Socket;
use conet_tests::config::Config;
use conet_tests::exposition::Samples;
use conet_tests::host::Launch;
use conet_tests::{PATIENCE, peer};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, metric, number_data_point};
use prost::Message;

/// A request as it came.
struct Export {
    /// Its first line and its headers.
    head: Vec<String>,
    message: ExportMetricsServiceRequest,
}

/// Takes requests at this address as long as the test runs, and answers each with `answer`.
fn collector(listener: TcpListener, answer: &'static str) -> Receiver<Export> {
    let (taken, exports) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.expect("it listens");
            let mut reader = BufReader::new(&stream);
            let lines = reader.by_ref().lines().map(|line| line.expect("a head of text"));
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let length = head
                .iter()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.expect("a length")];
            reader.read_exact(&mut body).expect("the whole body");
            (&stream).write_all(answer.as_bytes()).expect("the host waits for it");
            let message = ExportMetricsServiceRequest::decode(&*body).expect("OTLP");
            if taken.send(Export { head, message }).is_err() {
                return;
            }
        }
    });
    exports
}

const TAKEN: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
/// partial_success { rejected_data_points: 3, error_message: "no" }
const PARTLY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n\x0a\x06\x08\x03\x12\x02no";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

fn free() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

fn strings(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let string = |one: &KeyValue| match one.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => (one.key.clone(), text.clone()),
        other => panic!("{}: {other:?}", one.key),
    };
    attributes.iter().map(string).collect()
}

/// All values, by the names that the text has for them.
fn series(message: &ExportMetricsServiceRequest) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    let scope = &message.resource_metrics[0].scope_metrics[0];
    assert_eq!(scope.scope.as_ref().expect("a scope").name, "conet");
    let cumulative = i32::from(AggregationTemporality::Cumulative);
    let number = |value: &Option<number_data_point::Value>| match value {
        Some(number_data_point::Value::AsInt(value)) => *value as f64,
        Some(number_data_point::Value::AsDouble(value)) => *value,
        None => panic!("no value"),
    };
    for metric in &scope.metrics {
        let name = &metric.name;
        assert!(!metric.description.is_empty(), "{name}");
        assert_eq!(metric.unit == "By", name.contains("_bytes"), "{name} in {:?}", metric.unit);
        assert_eq!(metric.unit == "s", name.contains("_seconds"), "{name} in {:?}", metric.unit);
        let mut add = |suffix: &str, attributes: &[KeyValue], more: Option<String>, value: f64| {
            // In the order of the text: a tenant comes first.
            let labels = attributes
                .iter()
                .map(|one| format!("{}={:?}", one.key, strings(std::slice::from_ref(one))[&one.key]));
            let labels: Vec<String> = labels.chain(more.map(|bound| format!("le={bound:?}"))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            assert!(all.insert(format!("{name}{suffix}{labels}"), value).is_none(), "{name} twice");
        };
        match metric.data.as_ref().expect("data") {
            metric::Data::Gauge(gauge) => {
                assert!(!name.ends_with("_total"), "{name}");
                gauge
                    .data_points
                    .iter()
                    .for_each(|point| add("", &point.attributes, None, number(&point.value)));
            }
            metric::Data::Sum(sum) => {
                assert!(name.ends_with("_total") && sum.is_monotonic, "{name}");
                assert_eq!(sum.aggregation_temporality, cumulative);
                for point in &sum.data_points {
                    assert!((1..=point.time_unix_nano).contains(&point.start_time_unix_nano), "{point:?}");
                    add("", &point.attributes, None, number(&point.value));
                }
            }
            metric::Data::Histogram(histogram) => {
                assert_eq!(histogram.aggregation_temporality, cumulative);
                for point in &histogram.data_points {
                    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
                    let bounds = point.explicit_bounds.iter().map(ToString::to_string);
                    let mut total = 0;
                    for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(&point.bucket_counts) {
                        total += count;
                        add("_bucket", &point.attributes, Some(bound), total as f64);
                    }
                    add("_count", &point.attributes, None, point.count as f64);
                    add("_sum", &point.attributes, None, point.sum.expect("a sum"));
                }
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    all
}

/// Whether the value is another one each time, or is a limit that is none.
fn moves(series: &str) -> bool {
    ["process_", "conet_uptime_seconds", "conet_cpu_seconds_total", "conet_otlp_exports_total"]
        .iter()
        .any(|name| series.starts_with(name))
}

#[test]
fn a_collector_gets_what_the_text_tells() {
    let socket = Socket::new();
    let (listener, address) = free();
    let exports = collector(listener, TAKEN);
    let otlp = format!(
        "otlp = {{ endpoint = \"http://{address}\", interval = \"100ms\", headers = {{ X-Token = \"secret\" }}, \
         resource = {{ \"deployment.environment.name\" = \"test\" }} }}"
    );
    let config = Config::host(&format!("{}\n{otlp}", socket.line()));
    let config = config.handler("one", "echo-handler", "").handler("other", "echo-handler", "");
    let host = Launch::serve(&config).start();
    peer::echo_exact(host.connect_to("one"), 12_345);
    peer::echo_exact(host.connect_to("other"), 1);
    let served = |text: &str| {
        text.contains("conet_connections{tenant=\"one\"} 0\n")
            && text.contains("conet_coroutines{tenant=\"one\"} 0\n")
            && text.contains("conet_coroutines{tenant=\"other\"} 0\n")
            && text.contains("conet_received_bytes_total{tenant=\"one\"} 12345\n")
            && text.contains("conet_sent_bytes_total{tenant=\"other\"} 1\n")
    };
    let text = socket.wait("/metrics", |told| served(&told.body)).body;
    let told = Samples::read(&text);
    // Those on their way are of before.
    let start = Instant::now();
    let (export, sent) = loop {
        let export = exports.recv_timeout(PATIENCE).expect("one comes each tenth of a second");
        let sent = series(&export.message);
        if told.iter().all(|(series, value)| moves(series) || sent.get(series) == Some(&value)) {
            break (export, sent);
        }
        let differ: Vec<_> = told
            .iter()
            .filter(|(series, value)| !moves(series) && sent.get(*series) != Some(value))
            .collect();
        assert!(start.elapsed() < PATIENCE, "still other values: {differ:?} in {sent:?}");
    };
    let names = |all: Vec<&str>| -> Vec<String> { all.into_iter().map(str::to_owned).collect() };
    let sent_names: Vec<String> = sent.keys().cloned().collect();
    assert_eq!(names(told.iter().map(|(series, _)| series).collect()), sent_names);
    assert_eq!(sent["conet_received_bytes_total{tenant=\"one\"}"], 12_345.0);
    assert!(sent["conet_call_seconds_count{tenant=\"one\",call=\"recv\"}"] >= 1.0);

    let resource = export.message.resource_metrics[0].resource.as_ref().expect("a resource");
    let resource = strings(&resource.attributes);
    assert_eq!(resource["service.name"], "conet");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(resource["service.instance.id"].len(), 36);
    assert_eq!(resource["deployment.environment.name"], "test");
    assert!(resource.contains_key("host.name") && resource.contains_key("process.pid"));
    assert_eq!(export.head[0], "POST /v1/metrics HTTP/1.1");
    for header in ["x-token: secret", "content-type: application/x-protobuf"] {
        assert!(export.head.iter().any(|line| line.eq_ignore_ascii_case(header)), "{:?}", export.head);
    }
    host.stop();
}

/// Nobody at all, then one who is busy, then one who takes a part: each is a failure that is counted and told once, and all goes on.
#[test]
fn a_collector_that_fails_does_not_matter() {
    for answer in [None, Some(BUSY), Some(PARTLY)] {
        let socket = Socket::new();
        let (listener, address) = free();
        let failing = answer.map(|answer| collector(listener.try_clone().expect("a socket"), answer));
        drop(listener);
        let otlp = format!("otlp = {{ endpoint = \"http://{address}\", interval = \"50ms\" }}");
        let config = Config::host(&format!("{}\n{otlp}", socket.line())).handler("h", "echo-handler", "");
        let host = Launch::serve(&config).start();
        peer::echo_exact(host.connect_to("h"), 100_000);
        socket
            .wait("/metrics", |told| Samples::read(&told.body).of("conet_otlp_export_failures_total") >= 2.0);
        assert_eq!(Samples::read(&socket.get("/metrics").body).of("conet_otlp_exports_total"), 0.0);
        host.wait_line("takes no metrics");
        assert_eq!(host.stderr().matches("takes no metrics").count(), 1);
        drop(failing);
        host.stop();
    }
}

/// It comes up later, and gets all that has been counted.
#[test]
fn a_collector_that_comes_later_gets_everything() {
    let socket = Socket::new();
    let (listener, address) = free();
    drop(listener);
    let otlp = format!("otlp = {{ endpoint = \"http://{address}\", interval = \"50ms\" }}");
    let config = Config::host(&format!("{}\n{otlp}", socket.line())).handler("h", "echo-handler", "");
    let host = Launch::serve(&config).start();
    peer::echo_exact(host.connect_to("h"), 777);
    host.wait_line("takes no metrics");
    let exports = collector(TcpListener::bind(address).expect("it is still free"), TAKEN);
    let export = exports.recv_timeout(PATIENCE).expect("it is tried again");
    assert_eq!(series(&export.message)["conet_received_bytes_total{tenant=\"h\"}"], 777.0);
    socket.wait("/metrics", |told| Samples::read(&told.body).of("conet_otlp_exports_total") >= 1.0);
    host.stop();
}

/// Neither does one that never answers, not even at the end.
#[test]
fn a_collector_that_never_answers_holds_up_no_end() {
    let (listener, address) = free();
    let otlp = format!("otlp = {{ endpoint = \"http://{address}\", interval = \"10ms\" }}");
    let host = Launch::serve(&Config::host(&otlp).handler("h", "echo-handler", "")).start();
    let (_stream, _) = listener.accept().expect("the host connects");
    peer::echo_exact(host.connect_to("h"), 1000);
    let start = Instant::now();
    host.stop();
    assert!(start.elapsed() < Duration::from_secs(9), "it waited for the answer");
}

#[test]
fn what_cannot_be_sent_to_is_refused() {
    for (otlp, says) in [
        ("{ endpoint = \"https://collector:4318\" }", "write a URL of plain HTTP"),
        ("{ interval = \"1s\" }", "[host.otlp] has no endpoint"),
        ("{ endpoint = \"http://c:1\", intervall = \"1s\" }", "is `interval` meant?"),
        ("{ endpoint = \"http://c:1\", headers = { \"a b\" = \"c\" } }", "cannot be a header"),
    ] {
        let exit =
            Launch::check(&Config::host(&format!("otlp = {otlp}")).handler("h", "echo-handler", "")).finish();
        exit.assert_code(2).assert_stderr(says);
    }
}
