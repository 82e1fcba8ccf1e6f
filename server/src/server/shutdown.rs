//! Coming to an end: in order, or at once.

use std::time::Duration;

use wirepath_runtime::{Nanos, goroutine, now, sleep};

use super::Server;
use crate::hooks::OpenConnection;
use crate::service::nanos;

/// How often a shutdown looks whether connections became idle, at first.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// And at last.
const MAX_PAUSE: Duration = Duration::from_millis(50);
/// A connection that sent nothing for this long is closed at a shutdown; a
/// younger one may have a request on its way. As in Go.
const NEW_GRACE: Duration = Duration::from_secs(5);

/// How a shutdown ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "what is open still has its request cut off when the process ends"]
pub struct ShutdownOutcome {
    /// The connections that were still open at the deadline. Empty when all
    /// came to an end.
    pub open: Vec<OpenConnection>,
}

impl ShutdownOutcome {
    /// Whether every connection came to its end.
    pub fn is_complete(&self) -> bool {
        self.open.is_empty()
    }
}

impl Server {
    fn stop_accepting(&self) {
        self.service.drain();
        let listeners = std::mem::take(&mut *self.service.listeners());
        for listener in listeners {
            listener.close();
        }
    }

    /// Has `f` called in a goroutine of its own when [`Server::shutdown`] is
    /// first called, as for connections that handlers took over, which it does
    /// not wait for. After that it is never called.
    pub fn register_on_shutdown(&self, f: impl FnOnce() + Send + 'static) {
        self.service.on_shutdown().push(Box::new(f));
    }

    /// Stops accepting, closes idle connections, and waits until the others
    /// have answered the request that they are in, or until `timeout` is over.
    /// What is open then stays open: [`Server::close`] ends it.
    pub fn shutdown(&self, timeout: Duration) -> ShutdownOutcome {
        self.stop_accepting();
        let functions = std::mem::take(&mut *self.service.on_shutdown());
        for f in functions {
            goroutine().name("on shutdown").go(f);
        }
        let deadline = now() + timeout;
        let mut pause = FIRST_PAUSE;
        loop {
            let entries = self.service.entries();
            let time = now();
            let new_before = Nanos(time.0.saturating_sub(nanos(NEW_GRACE)));
            for entry in &entries {
                entry.close_if_idle(new_before);
            }
            if entries.is_empty() || time >= deadline {
                let open = entries.iter().map(|entry| entry.describe()).collect();
                return ShutdownOutcome { open };
            }
            sleep(pause.min(deadline - time));
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Stops accepting and resets every connection, whatever it does; the
    /// contexts of their requests end.
    pub fn close(&self) {
        self.stop_accepting();
        self.service.close();
    }
}
