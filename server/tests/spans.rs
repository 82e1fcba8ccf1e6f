//! Each request has its span, whatever runs on its thread meanwhile.
//!
//! A test binary of its own: the subscriber is the process's.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber, info};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use wirepath::httptest::{TestServer, request};
use wirepath::{RequestLog, ServeMux};
use wirepath_runtime::{go, sleep};

#[derive(Clone, Debug, Default)]
struct Values(BTreeMap<&'static str, String>);

impl Visit for Values {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

/// An event's message, and the target of the request that it was in.
type Kept = (String, Option<String>);

/// What the spans and events of the process were.
#[derive(Clone, Default)]
struct Keep {
    events: Arc<Mutex<Vec<Kept>>>,
    closed: Arc<Mutex<Vec<Values>>>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Keep {
    fn on_new_span(&self, attrs: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        let mut values = Values::default();
        attrs.record(&mut values);
        ctx.span(id).unwrap().extensions_mut().insert(values);
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, ctx: Context<'_, S>) {
        let span = ctx.span(id).unwrap();
        let mut extensions = span.extensions_mut();
        record.record(extensions.get_mut::<Values>().unwrap());
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let mut values = Values::default();
        event.record(&mut values);
        let target = ctx.event_span(event).and_then(|span| {
            let extensions = span.extensions();
            extensions.get::<Values>()?.0.get("target").cloned()
        });
        let message = values.0.remove("message").unwrap_or_default();
        self.events.lock().unwrap().push((message, target));
    }

    fn on_close(&self, id: Id, ctx: Context<'_, S>) {
        let span = ctx.span(&id).unwrap();
        let values = span.extensions().get::<Values>().cloned();
        self.closed.lock().unwrap().extend(values);
    }
}

#[test]
fn requests_that_interleave_on_a_thread_keep_their_spans() {
    const CLIENTS: usize = 30;
    const REQUESTS: usize = 10;
    let keep = Keep::default();
    let subscriber = tracing_subscriber::registry().with(keep.clone());
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let mut mux = ServeMux::new();
    mux.handle_func("/at/{id}", |w, r| {
        for _ in 0..3 {
            info!("{}", r.target());
            sleep(Duration::from_millis(1));
        }
        // Another goroutine is in no request.
        let other = go(|| info!("none"));
        other.join().unwrap();
        info!("{}", r.target());
        w.write_all(b"done").unwrap();
    });
    mux.handle_func("/panic", |_, _| panic!("on purpose"));
    let server = TestServer::start(RequestLog::new(mux));
    std::thread::scope(|scope| {
        for i in 0..CLIENTS {
            let mut client = server.connect();
            scope.spawn(move || {
                for k in 0..REQUESTS {
                    let target = format!("/at/{i}-{k}");
                    let answer = client.send(&request("GET", target)).unwrap();
                    assert_eq!(answer.text(), "done");
                }
            });
        }
    });
    assert!(server.get("/panic").is_err(), "it closes the connection");
    drop(server);

    let events = keep.events.lock().unwrap();
    let of = |start: &'static str| events.iter().filter(move |e| e.0.starts_with(start));
    assert_eq!(of("/at/").count(), CLIENTS * REQUESTS * 4);
    for (message, target) in of("/at/") {
        assert_eq!(Some(message), target.as_ref());
    }
    assert_eq!(of("none").count(), CLIENTS * REQUESTS);
    assert!(of("none").all(|e| e.1.is_none()));
    let (_, panicked) = of("handler panicked").next().expect("it is logged");
    assert_eq!(panicked.as_deref(), Some("/panic"));
    let logged: Vec<_> = of("request answered").collect();
    assert_eq!(logged.len(), CLIENTS * REQUESTS + 1);
    assert!(logged.iter().all(|e| e.1.is_some()));

    let closed = keep.closed.lock().unwrap();
    assert_eq!(closed.len(), CLIENTS * REQUESTS + 1);
    let ids: std::collections::BTreeSet<_> = closed.iter().map(|span| &span.0["id"]).collect();
    assert_eq!(ids.len(), closed.len(), "each has its own number");
    for span in closed.iter().filter(|s| s.0["target"] != "/panic") {
        let get = |name| span.0.get(name).map(String::as_str);
        assert_eq!(get("method"), Some("GET"));
        assert_eq!(get("route"), Some("/at/{id}"));
        assert_eq!((get("status"), get("bytes")), (Some("200"), Some("4")));
        assert!(get("peer").is_some_and(|peer| peer.contains(':')));
        let micros: u64 = get("duration_us").unwrap().parse().unwrap();
        assert!(micros >= 3000, "three sleeps of a millisecond: {micros}");
    }
}
