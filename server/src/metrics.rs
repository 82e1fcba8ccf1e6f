//! Prometheus metrics (feature `metrics`).
//!
//! ```
//! use wirepath::metrics::Metrics;
//! use wirepath::{ServeMux, Server};
//!
//! // What the binary knows and this crate does not, such as its device's counters.
//! let metrics = Metrics::new().counters("device", || vec![("rx_frames".into(), 0)]);
//! let mut mux = ServeMux::new();
//! mux.handle("GET /metrics", metrics.handler());
//! let server = Server::new(metrics.measure(mux));
//! ```
//!
//! | family | kind | what it is |
//! | --- | --- | --- |
//! | `wirepath_request_duration_seconds` | histogram | of handlers, by `route`, `method` and `status` (`2xx`) |
//! | `wirepath_server_*` | counters, and the gauge `connections_open` | [`Server::stats`] of the server that is asked |
//! | `wirepath_runtime_*` | counters and gauges | [`Handle::read_metrics`](wirepath_runtime::Handle::read_metrics) |
//! | `wirepath_NAME_*` | counters or gauges | what [`Metrics::counters`] and [`Metrics::gauges`] were given |
//!
//! Labels are bounded, since each set of them takes memory for ever: `route` is
//! a pattern that was registered, never a path, and beyond
//! [`MOST_SERIES`] sets it is `(other)`; a method that HTTP does not define is
//! `other`.

use std::fmt;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Method, StatusCode};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use wirepath_runtime::{Handle, Metric, MetricValue, now};

use crate::handler::Handler;
use crate::request::Request;
use crate::response::{ResponseWriter, error};
use crate::server::Server;

/// Sets of labels that durations are kept for, each of about 200 bytes.
pub const MOST_SERIES: usize = 10_000;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the buckets, seconds: from what a handler without waits takes
/// to what nobody waits for.
const BUCKETS: [f64; 14] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    route: String,
    method: &'static str,
    status: &'static str,
}

/// The histograms, of which there are no more than may be.
#[derive(Clone)]
struct Durations {
    family: Family<Labels, Histogram, fn() -> Histogram>,
    /// How many there are; two that are made at once may be counted twice.
    series: Arc<AtomicUsize>,
}

impl Durations {
    fn new() -> Durations {
        Durations {
            family: Family::new_with_constructor(histogram),
            series: Arc::default(),
        }
    }

    fn observe(&self, mut labels: Labels, seconds: f64) {
        if let Some(histogram) = self.family.get(&labels) {
            return histogram.observe(seconds);
        }
        if self.series.load(Ordering::Relaxed) < MOST_SERIES {
            self.series.fetch_add(1, Ordering::Relaxed);
        } else {
            labels.route = "(other)".to_owned();
        }
        self.family.get_or_create(&labels).observe(seconds);
    }
}

type Source = Box<dyn Fn() -> Vec<(String, u64)> + Send + Sync>;

/// Numbers from elsewhere.
struct Extra {
    prefix: String,
    is_counter: bool,
    source: Source,
}

/// What is measured and told. Clones share it.
#[derive(Clone)]
pub struct Metrics {
    durations: Durations,
    extras: Arc<Vec<Extra>>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

impl Metrics {
    /// Nothing measured so far.
    pub fn new() -> Metrics {
        Metrics {
            durations: Durations::new(),
            extras: Arc::default(),
        }
    }

    /// Adds counters, which only ever grow, as `wirepath_PREFIX_NAME_total`.
    /// `source` is called for each answer.
    ///
    /// # Panics
    ///
    /// When this was cloned or a handler made of it already.
    #[must_use]
    pub fn counters(
        self,
        prefix: &str,
        source: impl Fn() -> Vec<(String, u64)> + Send + Sync + 'static,
    ) -> Metrics {
        self.with(prefix, true, Box::new(source))
    }

    /// Adds numbers that go up and down, as `wirepath_PREFIX_NAME`.
    ///
    /// # Panics
    ///
    /// As [`Metrics::counters`].
    #[must_use]
    pub fn gauges(
        self,
        prefix: &str,
        source: impl Fn() -> Vec<(String, u64)> + Send + Sync + 'static,
    ) -> Metrics {
        self.with(prefix, false, Box::new(source))
    }

    fn with(mut self, prefix: &str, is_counter: bool, source: Source) -> Metrics {
        let extras = Arc::get_mut(&mut self.extras);
        extras.expect("sources come before clones").push(Extra {
            prefix: prefix.to_owned(),
            is_counter,
            source,
        });
        self
    }

    /// A handler that does what `handler` does, and whose requests are measured.
    pub fn measure(&self, handler: impl Handler) -> impl Handler {
        let durations = self.durations.clone();
        move |w: &mut ResponseWriter, r: &mut Request| {
            let (started, method) = (now(), known(r.method()));
            let panic = catch_unwind(AssertUnwindSafe(|| handler.serve(w, r))).err();
            let status = match panic {
                None => class(w.status().unwrap_or(StatusCode::OK)),
                Some(_) => "panic",
            };
            let route = match r.pattern() {
                "" => "(none)",
                pattern => pattern,
            };
            let labels = Labels {
                route: route.to_owned(),
                method,
                status,
            };
            durations.observe(labels, now().since(started).as_secs_f64());
            if let Some(panic) = panic {
                resume_unwind(panic);
            }
        }
    }

    /// A handler that answers with all of it, in the OpenMetrics text format,
    /// which Prometheus reads.
    pub fn handler(&self) -> impl Handler + use<> {
        let metrics = self.clone();
        move |w: &mut ResponseWriter, r: &mut Request| {
            let server = r.context().value::<Server>();
            match metrics.encode(server) {
                Ok(text) => {
                    w.header("Content-Type", CONTENT_TYPE);
                    // An error says that the client is gone.
                    let _ = w.write_all(text.as_bytes());
                }
                Err(fmt::Error) => error(
                    w,
                    "the metrics could not be written",
                    StatusCode::INTERNAL_SERVER_ERROR,
                ),
            }
        }
    }

    /// All of it as text.
    ///
    /// # Errors
    ///
    /// Only when a value cannot be formatted.
    pub fn encode(&self, server: Option<&Server>) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("wirepath");
        registry.register_with_unit(
            "request_duration",
            "How long handlers took",
            Unit::Seconds,
            self.durations.family.clone(),
        );
        for (name, n) in server.map(Server::stats).unwrap_or_default() {
            let is_counter = name != "connections_open";
            add(&mut registry, "server", name, n, is_counter);
        }
        for metric in Handle::current().iter().flat_map(Handle::read_metrics) {
            add_metric(&mut registry, &metric);
        }
        for extra in self.extras.iter() {
            for (name, n) in (extra.source)() {
                add(&mut registry, &extra.prefix, &name, n, extra.is_counter);
            }
        }
        let mut text = String::new();
        text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// The methods of RFC 9110 and PATCH.
fn known(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];
    let found = KNOWN.into_iter().find(|known| *known == method.as_str());
    found.unwrap_or("other")
}

fn class(status: StatusCode) -> &'static str {
    const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
    let class = usize::from(status.as_u16() / 100);
    CLASSES.get(class - 1).copied().unwrap_or("other")
}

/// Registers a number. A name is made of letters, digits and `_`; the text adds
/// `_total` to a counter's.
fn add(registry: &mut Registry, prefix: &str, name: &str, n: u64, is_counter: bool) {
    let clean = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = format!("{prefix}_{name}").chars().map(clean).collect();
    let name = name.strip_suffix("_total").unwrap_or(&name);
    let help = format!("{prefix}: {}", name.replace('_', " "));
    match is_counter {
        true => registry.register(name, help, ConstCounter::new(n)),
        false => registry.register(name, help, ConstGauge::new(n)),
    }
}

fn add_metric(registry: &mut Registry, metric: &Metric) {
    let name = metric
        .name
        .trim_start_matches("/wirepath")
        .trim_start_matches('/');
    match &metric.value {
        MetricValue::Uint64(n) => add(registry, "runtime", name, *n, metric.cumulative),
        MetricValue::Histogram(latencies) => {
            for (part, quantile) in [("p50", 0.5), ("p99", 0.99)] {
                let nanos = latencies.quantile(quantile).unwrap_or(0.0) * 1e9;
                let name = format!("{}_nanoseconds_{part}", name.replace(":seconds", ""));
                add(registry, "runtime", &name, nanos as u64, false);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::ServeMux;
    use crate::httptest::{TestServer, request};

    fn site() -> (Metrics, TestServer) {
        let metrics = Metrics::new()
            .counters("device", || vec![("rx-frames".into(), 7)])
            .gauges("device", || vec![("queues".into(), 2)]);
        let mut mux = ServeMux::new();
        mux.handle("GET /metrics", metrics.handler());
        mux.handle_func("/users/{id}", |w, _| w.write_all(b"x").unwrap());
        mux.handle_func("/panic", |_, _| panic!("on purpose"));
        let server = TestServer::start(metrics.measure(mux));
        (metrics, server)
    }

    /// The lines of the format: each a comment or a sample of a family that was
    /// declared, none twice, and the end at the end.
    #[track_caller]
    fn check(text: &str) {
        let (mut declared, mut seen) = (Vec::new(), HashSet::new());
        assert!(text.ends_with("# EOF\n"));
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                declared.push(rest.split(' ').next().unwrap());
            }
            if line.starts_with('#') {
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(seen.insert(series), "{line} twice");
            let name = series.split('{').next().unwrap();
            let family = declared.last().expect("a type comes first");
            assert!(name.starts_with(family), "{line} is in {family}");
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
        }
    }

    #[test]
    fn what_is_told() {
        let (_, server) = site();
        for id in 0..20 {
            server.get(&format!("/users/{id}")).unwrap();
        }
        server.send(&request("BREW", "/nowhere")).unwrap();
        assert!(server.get("/panic").is_err());
        let answer = server.get("/metrics").unwrap();
        assert_eq!(answer.header("Content-Type"), Some(CONTENT_TYPE));
        let text = answer.text();
        check(&text);
        for want in [
            r#"wirepath_request_duration_seconds_count{route="/users/{id}",method="GET",status="2xx"} 20"#,
            r#"wirepath_request_duration_seconds_count{route="(none)",method="other",status="4xx"} 1"#,
            r#"wirepath_request_duration_seconds_count{route="/panic",method="GET",status="panic"} 1"#,
            "wirepath_device_rx_frames_total 7",
            "wirepath_device_queues 2",
            "wirepath_server_requests_total 23",
            "wirepath_server_panics_total 1",
            "# TYPE wirepath_server_connections_open gauge",
            "wirepath_runtime_sched_gomaxprocs_threads ",
            "wirepath_runtime_sched_latencies_nanoseconds_p99 ",
        ] {
            assert!(text.contains(want), "{want} in\n{text}");
        }
    }

    #[test]
    fn series_are_bounded() {
        let durations = Durations::new();
        for i in 0..MOST_SERIES + 100 {
            let labels = Labels {
                route: format!("/{i}"),
                method: "GET",
                status: "2xx",
            };
            durations.observe(labels, 0.1);
        }
        let mut registry = Registry::default();
        registry.register("d", "D", durations.family);
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        assert_eq!(text.matches("d_count{").count(), MOST_SERIES + 1);
        let other = r#"d_count{route="(other)",method="GET",status="2xx"} 100"#;
        assert!(text.contains(other));
    }
}
