//! A handler's panic is logged with its stack. A process of its own, as the log
//! and the hook of panics are the process's.

use std::io::Write;
use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::MakeWriter;
use wirepath::httptest::TestServer;
use wirepath::{AbortHandler, Request, ResponseWriter, ServeMux};

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}

impl Log {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.0.lock().unwrap())).unwrap()
    }
}

#[inline(never)]
fn deep_in_the_handler(number: usize) -> usize {
    assert!(number > 10, "{number} is too small");
    number
}

#[inline(never)]
fn a_handler(w: &mut ResponseWriter, _: &mut Request) {
    write!(w, "{}", deep_in_the_handler(7)).unwrap();
}

#[test]
fn the_log_has_the_stack_of_the_handler_that_panicked() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_writer(writer)
        .with_max_level(tracing::Level::ERROR)
        .with_ansi(false)
        .init();
    let mut mux = ServeMux::new();
    mux.handle_func("/deep", a_handler);
    mux.handle_func("/abort", |_, _| std::panic::panic_any(AbortHandler));
    mux.handle_func("/resume", |_, _| {
        let caught = std::panic::catch_unwind(|| deep_in_the_handler(8));
        drop(caught);
        std::panic::resume_unwind(Box::new("from elsewhere"));
    });
    let server = TestServer::start(mux);

    assert!(server.get("/deep").is_err());
    let lines = log.take();
    let head = lines.lines().next().unwrap();
    assert!(
        head.contains("ERROR wirepath::handler: handler panicked: 7 is too small, at "),
        "{head}"
    );
    assert!(head.contains("tests/panics.rs:"), "{head}");
    let fields = head.to_owned() + lines.lines().last().unwrap();
    assert!(fields.contains("peer=192.0.2.1:"), "{fields}");
    assert!(fields.contains("method=GET target=\"/deep\""), "{fields}");
    let inner = lines.find("deep_in_the_handler").expect(&lines);
    let outer = lines.find("a_handler").expect(&lines);
    assert!(inner < outer, "{lines}");

    // It is a way to end a connection, not a failure.
    assert!(server.get("/abort").is_err());
    assert_eq!(log.take(), "");

    // The stack of another panic is not taken for this one's.
    assert!(server.get("/resume").is_err());
    let lines = log.take();
    assert!(
        lines.contains("handler panicked: from elsewhere"),
        "{lines}"
    );
    assert_eq!(lines.lines().count(), 1, "{lines}");
}
