//! A server that, told to end, first answers whom it has begun to answer.
//!
//! ```console
//! $ cargo run -p wirepath --example graceful_shutdown &
//! $ curl http://127.0.0.1:8080/slow & sleep 0.5; kill -TERM %1
//! a request began
//! shutting down
//! done after 3 s
//! every request was answered
//! ```
//!
//! On other networks: see `common/mod.rs`.

mod common;

use std::io::Write;
use std::time::Duration;

use common::Failed;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use wirepath::runtime::{blocking, go, sleep};
use wirepath::{Request, ResponseWriter, ServeMux, Server};

/// How long requests may take once the server was told to end.
const PATIENCE: Duration = Duration::from_secs(10);

fn slow(w: &mut ResponseWriter, _: &mut Request) {
    println!("a request began");
    sleep(Duration::from_secs(3));
    // A client that has gone is no failure of ours.
    let _ = writeln!(w, "done after 3 s");
}

fn main() -> Result<(), Failed> {
    common::run(|place| {
        let mut mux = ServeMux::new();
        mux.handle_func("GET /slow", slow);
        let server = Server::new(mux);
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let listener = place.listen("http")?;
        let stopped = server.clone();
        let stopping = go(move || {
            // Waits for a signal: the thread is lent out meanwhile.
            blocking(|| signals.forever().next());
            println!("shutting down");
            stopped.shutdown(PATIENCE)
        });
        // Returns as soon as nothing more is accepted.
        server.serve(listener)?;
        let outcome = stopping.join().map_err(|_| "the shutdown panicked")?;
        match outcome.is_complete() {
            true => println!("every request was answered"),
            false => println!("given up: {:?}", outcome.open),
        }
        Ok(())
    })
}
