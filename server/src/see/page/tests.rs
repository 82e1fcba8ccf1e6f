//! The page's handlers, with states made up for them.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use sha2::{Digest, Sha256};
use wirepath_runtime::{now, simulate};

use super::*;
use crate::httptest::{Client, RequestBuilder, Response, TestServer, request};
use crate::see::state::{Flow, Goroutine, VERSION};

const PATHS: [&str; 5] = [
    "/debug/wirepath/",
    "/debug/wirepath/state",
    "/debug/wirepath/events",
    "/debug/wirepath/hello",
    "/debug/wirepath/journey",
];

/// A state with as many flows and goroutines as are wanted.
fn made_up(wanted: &Wanted) -> State {
    State {
        version: VERSION,
        at_ns: now().0,
        flows: vec![Flow::default(); wanted.flows],
        goroutines: vec![Goroutine::default(); wanted.goroutines],
        ..State::default()
    }
}

fn mux_of(page: &Page) -> ServeMux {
    let mut mux = ServeMux::new();
    page.register(&mut mux);
    mux
}

fn from_near(path: &str) -> RequestBuilder {
    request("GET", path).remote_addr(([127, 0, 0, 1], 1))
}

fn get(path: &str) -> Response {
    from_near(path).serve(&mux_of(&Page::of_states(made_up)))
}

/// What stands between the first `from` and the next `to`.
fn between<'t>(text: &'t str, from: &str, to: &str) -> &'t str {
    let (_, rest) = text.split_once(from).expect(from);
    rest.split_once(to).expect(to).0
}

#[test]
fn the_page_lets_run_what_it_brings_and_nothing_else() {
    let answer = get("/debug/wirepath/");
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.header("Content-Type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
    let policy = answer.header("Content-Security-Policy").unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    let text = answer.text();
    for (kind, from, to) in [
        ("script-src", "<script type=\"module\">", "</script>"),
        ("style-src", "<style>", "</style>"),
    ] {
        let hash = Sha256::digest(between(&text, from, to));
        let hash = base64::engine::general_purpose::STANDARD.encode(hash);
        assert!(
            policy.contains(&format!("{kind} 'sha256-{hash}'")),
            "{kind}"
        );
    }
    // The policy would stop what is written so.
    assert!(!text.contains(" style=\"") && !text.contains(" onclick"));
}

#[test]
fn nothing_comes_from_elsewhere() {
    let answer = get("/debug/wirepath/");
    let text = answer.text();
    assert!(!text.contains("{{"), "all parts are put in");
    for part in text.split("http").skip(1) {
        let is_name = part.starts_with("://www.w3.org/2000/svg");
        assert!(
            is_name || !part.starts_with("://") && !part.starts_with("s://"),
            "{part:.60}"
        );
    }
}

#[test]
fn the_page_is_sent_again_only_when_it_changed() {
    let first = get("/debug/wirepath/");
    let tag = first.header("ETag").unwrap();
    let mux = mux_of(&Page::of_states(made_up));
    let again = from_near("/debug/wirepath/").header("If-None-Match", tag);
    let again = again.serve(&mux);
    assert_eq!((again.status(), again.text().len()), (304, 0));
    let other = from_near("/debug/wirepath/").header("If-None-Match", "\"other\"");
    assert_eq!(other.serve(&mux).status(), 200);
    let head = request("HEAD", "/debug/wirepath/").remote_addr(([10, 0, 0, 1], 1));
    let head = head.serve(&mux);
    assert_eq!((head.status(), head.text().len()), (200, 0));
}

#[test]
fn the_texts_of_the_stages_are_in_the_page() {
    let answer = get("/debug/wirepath/");
    let text = answer.text();
    let json = between(&text, "id=\"texts\">", "</script>");
    let texts: serde_json::Value = serde_json::from_str(json).unwrap();
    let names = texts["stages"].as_array().unwrap().iter();
    let names: Vec<_> = names.map(|stage| stage["name"].as_str().unwrap()).collect();
    let want: Vec<_> = crate::see::stages::STAGES.iter().map(|s| s.name).collect();
    assert_eq!(names, want);
}

#[test]
fn strangers_see_nothing_unless_allowed() {
    let page = Page::of_states(made_up);
    let stranger = |page: &Page, path: &str| {
        let asked = request("HEAD", path).remote_addr(([8, 8, 8, 8], 1));
        asked.serve(&mux_of(page)).status()
    };
    for path in PATHS {
        assert_eq!(stranger(&page, path), 403, "{path}");
        let open = page.clone().allow(|_| true);
        assert_eq!(stranger(&open, path), 200, "{path}");
        let closed = page.clone().allow(|_| false);
        assert_eq!(
            from_near(path).serve(&mux_of(&closed)).status(),
            403,
            "{path}"
        );
    }
}

#[test]
fn the_name_without_its_slash_leads_there() {
    let answer = get("/debug/wirepath");
    assert_eq!(answer.status(), 307);
    assert_eq!(answer.header("Location"), Some("/debug/wirepath/"));
    let post = request("POST", "/debug/wirepath/state").serve(&mux_of(&Page::of_states(made_up)));
    assert_eq!(post.status(), 405);
}

#[test]
fn a_state_lists_as_much_as_is_asked_for_within_bounds() {
    for (query, flows, goroutines) in [
        ("", 72, 60),
        ("?flows=3&goroutines=0", 3, 0),
        ("?flows=99999", 1_000, 60),
        ("?flows=many&goroutines=-1", 72, 60),
    ] {
        let answer = get(&format!("/debug/wirepath/state{query}"));
        assert_eq!(answer.header("Cache-Control"), Some("no-store"));
        assert_eq!(answer.header("Content-Type"), Some(JSON));
        let state: State = serde_json::from_str(&answer.text()).unwrap();
        assert_eq!(state.version, VERSION);
        let got = (state.flows.len(), state.goroutines.len());
        assert_eq!(got, (flows, goroutines), "{query}");
    }
}

#[test]
fn no_journey_is_null() {
    let server = serve(made_up);
    for token in ["", "unheardof", "longer-than-a-token"] {
        let answer = server.get(&format!("/debug/wirepath/journey?hello={token}"));
        let answer = answer.unwrap();
        assert_eq!((answer.status(), &*answer.text()), (200, "null"), "{token}");
    }
}

/// Flows whose peers have names of 2 KiB each.
fn long(wanted: &Wanted) -> State {
    let flow = Flow {
        peer: "x".repeat(2048),
        ..Flow::default()
    };
    State {
        flows: vec![flow; wanted.flows],
        ..State::default()
    }
}

#[test]
fn a_state_that_is_too_long_lists_less() {
    let mux = mux_of(&Page::of_states(long));
    let answer = from_near("/debug/wirepath/state?flows=1000").serve(&mux);
    let text = answer.text();
    assert!(text.len() <= MAX_STATE_BYTES, "{}", text.len());
    let state: State = serde_json::from_str(&text).unwrap();
    assert_eq!(state.flows.len(), 125, "1000, 500 and 250 are too many");
}

#[test]
fn a_state_that_fits_nowhere_is_an_error() {
    let endless = |_: &Wanted| State {
        network: "x".repeat(MAX_STATE_BYTES),
        ..State::default()
    };
    let mux = mux_of(&Page::of_states(endless));
    let answer = from_near("/debug/wirepath/state").serve(&mux);
    assert_eq!(answer.status(), 500);
    assert!(answer.text().contains("take a trace"), "{}", answer.text());
}

/// A client that reads a stream event by event.
struct Events {
    client: Client,
    text: String,
}

impl Events {
    fn open(server: &TestServer, query: &str) -> Events {
        let mut client = server.connect();
        let target = format!("/debug/wirepath/events{query}");
        // HTTP/1.0, so that the body comes without chunks.
        client
            .write_all(&from_near(&target).http_10().to_bytes())
            .unwrap();
        let mut events = Events {
            client,
            text: String::new(),
        };
        let head = events.next().expect("a head");
        assert!(head.starts_with("HTTP/1.0 200"), "{head}");
        assert!(head.contains("text/event-stream"), "{head}");
        events
    }

    /// What comes next, up to an empty line; None at the end.
    fn next(&mut self) -> Option<String> {
        let mut buf = [0; 64 * 1024];
        loop {
            let end = self.text.replace('\r', "").find("\n\n");
            if let Some(end) = end {
                let text = self.text.replace('\r', "");
                self.text = text[end + 2..].to_owned();
                return Some(text[..end].to_owned());
            }
            match self.client.read(&mut buf) {
                Ok(n) if n > 0 => self.text += std::str::from_utf8(&buf[..n]).unwrap(),
                _ => return None,
            }
        }
    }

    /// The next event's name and data.
    fn event(&mut self) -> (String, String) {
        let text = self.next().expect("an event");
        let field = |name: &str| {
            let start = format!("{name}: ");
            let line = text.lines().find_map(|line| line.strip_prefix(&start));
            line.unwrap_or_else(|| panic!("no {name} in {text}"))
                .to_owned()
        };
        (field("event"), field("data"))
    }
}

/// A server that anyone may see: who asks in memory has an address for
/// documentation.
fn serve(source: impl Fn(&Wanted) -> State + Send + Sync + 'static) -> TestServer {
    TestServer::start(mux_of(&Page::of_states(source).allow(|_| true)))
}

#[test]
fn events_are_states_one_an_interval() {
    let run = simulate(1, || {
        let server = serve(made_up);
        for (query, ms) in [("", 500), ("?interval=1000", 1000), ("?interval=1", 100)] {
            let mut events = Events::open(&server, query);
            let mut last = None;
            for _ in 0..5 {
                let (name, data) = events.event();
                assert_eq!(name, "state");
                let state: State = serde_json::from_str(&data).unwrap();
                assert_eq!(state.version, VERSION);
                let step = last.map_or(ms, |last| (state.at_ns - last) / 1_000_000);
                assert_eq!(step, ms, "{query}");
                last = Some(state.at_ns);
            }
        }
    });
    run.unwrap();
}

#[test]
fn a_stream_tells_of_states_that_are_too_long_and_goes_on() {
    let run = simulate(2, || {
        let was_long = AtomicBool::new(false);
        let server = serve(move |_| State {
            network: match was_long.swap(true, Ordering::Relaxed) {
                true => String::new(),
                false => "x".repeat(MAX_STATE_BYTES),
            },
            ..State::default()
        });
        let mut events = Events::open(&server, "?flows=0&goroutines=0&requests=0");
        assert_eq!(events.event(), ("trouble".to_owned(), TOO_LONG.to_owned()));
        assert_eq!(events.event().0, "state");
    });
    run.unwrap();
}

#[test]
fn a_client_that_does_not_read_is_let_go_and_keeps_nobody_else_waiting() {
    let run = simulate(5, || {
        let server = serve(made_up);
        let idle: Vec<_> = (0..MAX_STREAMS)
            .map(|_| Events::open(&server, "?interval=100"))
            .collect();
        let before = now();
        assert_eq!(server.get("/debug/wirepath/state").unwrap().status(), 200);
        assert_eq!(now(), before, "answered without waiting for anybody");
        // Their buffers fill, and then their time runs out.
        wirepath_runtime::sleep(WRITE_PATIENCE * 2);
        let mut events = Events::open(&server, "");
        assert_eq!(events.event().0, "state");
        drop(idle);
    });
    run.unwrap();
}

#[test]
fn a_server_that_shuts_down_does_not_wait_for_its_pages() {
    let run = simulate(4, || {
        let server = serve(made_up);
        let mut events = Events::open(&server, "?interval=60000");
        assert_eq!(events.event().0, "state");
        let outcome = server.server().shutdown(Duration::from_secs(30));
        assert!(outcome.is_complete(), "{outcome:?}");
        assert_eq!(events.next(), None);
    });
    let elapsed = run.unwrap().elapsed;
    assert!(elapsed < Duration::from_secs(2), "{elapsed:?}");
}

#[test]
fn streams_are_counted_and_end_with_their_clients() {
    let run = simulate(3, || {
        let server = serve(made_up);
        let mut open: Vec<_> = (0..MAX_STREAMS)
            .map(|_| Events::open(&server, ""))
            .collect();
        let refused = server.get("/debug/wirepath/events").unwrap();
        assert_eq!(refused.status(), 503);
        assert_eq!(refused.header("Retry-After"), Some("5"));
        open.pop();
        // The next state finds the client gone.
        wirepath_runtime::sleep(Duration::from_secs(2));
        let mut events = Events::open(&server, "");
        assert_eq!(events.event().0, "state");
    });
    run.unwrap();
}
