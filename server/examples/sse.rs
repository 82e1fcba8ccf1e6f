//! A page that shows the server's time, sent to it as events.
//!
//! ```console
//! $ cargo run -p wirepath --example sse &
//! $ curl -N http://127.0.0.1:8080/events
//! id: 0
//! data: 0 s since the page was opened
//! ```
//!
//! Or open <http://127.0.0.1:8080/> in a browser. On other networks: see
//! `common/mod.rs`.

mod common;

use std::io::Write;
use std::time::Duration;

use common::Failed;
use wirepath::runtime::{now, sleep};
use wirepath::{Request, ResponseWriter, ServeMux, Server, sse};

const PAGE: &str = r#"<!doctype html>
<title>Server-Sent Events</title>
<ul id="list"></ul>
<script>
  new EventSource("/events").onmessage = (event) => {
    const item = document.createElement("li");
    item.textContent = event.data;
    document.getElementById("list").append(item);
  };
</script>
"#;

fn page(w: &mut ResponseWriter, _: &mut Request) {
    // A client that has gone is no failure of ours.
    let _ = w.write_all(PAGE.as_bytes());
}

/// An event each second, until the client has gone: then sending fails, and
/// this goroutine ends.
fn events(w: &mut ResponseWriter, r: &mut Request) {
    let Ok(mut events) = sse::Stream::open(w, r) else {
        return;
    };
    let start = now();
    for id in 0.. {
        let seconds = (now() - start).as_secs();
        let event = sse::Event::new(format!("{seconds} s since the page was opened"));
        if events.send(&event.id(id.to_string())).is_err() {
            return;
        }
        sleep(Duration::from_secs(1));
    }
}

fn main() -> Result<(), Failed> {
    common::run(|place| {
        let mut mux = ServeMux::new();
        mux.handle_func("GET /{$}", page);
        mux.handle_func("GET /events", events);
        Ok(Server::new(mux).serve(place.listen("http")?)?)
    })
}
