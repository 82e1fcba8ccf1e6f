//! The server: accepting, and coming to an end.
//!
//! [`Server::serve`] accepts on a goroutine of steps, so that a handler which
//! keeps a thread does not keep new connections waiting, and gives each
//! connection another. [`Server::shutdown`], on another, closes
//! the listeners and what is idle, and waits for the rest.

mod accept;
mod builder;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use wirepath_runtime::context::Context;
use wirepath_runtime::net::TcpListener;
use wirepath_runtime::{Cancelled, Nanos, goroutine, now, sleep};

use crate::handler::Handler;
use crate::service::Service;
use accept::{Accepting, Wrap};
pub use builder::ServerBuilder;

/// How often a shutdown looks whether connections became idle, at first.
const FIRST_SHUTDOWN_PAUSE: Duration = Duration::from_millis(1);
/// And at last.
const MAX_SHUTDOWN_PAUSE: Duration = Duration::from_millis(50);
/// A connection that sent nothing for this long is closed at a shutdown; a
/// younger one may have a request on its way. As in Go.
const NEW_GRACE: Duration = Duration::from_secs(5);

/// Why a server stopped accepting, other than by being told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The server was shut down or closed before.
    #[error("the server is closed")]
    Closed,
    /// The listener failed.
    #[error("accepting a connection failed")]
    Accept(#[source] io::Error),
}

/// How a shutdown ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShutdownOutcome {
    /// The clients whose connections were still in a request at the deadline.
    /// Empty when all came to an end.
    pub open: Vec<SocketAddr>,
}

impl ShutdownOutcome {
    /// Whether every connection came to its end.
    pub fn is_complete(&self) -> bool {
        self.open.is_empty()
    }
}

/// An HTTP server. Clones are the same server.
#[derive(Clone)]
pub struct Server {
    service: Arc<Service>,
}

impl Server {
    /// A server with safe limits, to be changed before it is built.
    pub fn builder(handler: impl Handler) -> ServerBuilder {
        ServerBuilder::new(handler)
    }

    /// A server with safe limits.
    pub fn new(handler: impl Handler) -> Server {
        Server::builder(handler).build()
    }

    pub(crate) fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// The server of these connections.
    pub(crate) fn of(service: &Arc<Service>) -> Server {
        let service = service.clone();
        Server { service }
    }

    /// A context for requests of this server.
    pub(crate) fn context_from(&self, base: &Context) -> Context {
        base.with_value(self.clone())
    }

    /// Accepts connections and serves each on a goroutine of its own; waits
    /// until the server is shut down or closed. A server may serve several
    /// listeners, each on a goroutine.
    ///
    /// # Errors
    ///
    /// [`ServeError`]; a failure to accept that may pass is tried again.
    pub fn serve(&self, listener: TcpListener) -> Result<(), ServeError> {
        self.accept(listener, Box::new(|_, net| Some(net.clone())))
    }

    /// Accepts connections and serves what `wrap` makes of each.
    pub(crate) fn accept(&self, listener: TcpListener, wrap: Wrap) -> Result<(), ServeError> {
        let listener = Arc::new(listener);
        self.service.listeners().push(listener.clone());
        if self.service.is_draining() {
            listener.close();
            return Err(ServeError::Closed);
        }
        let failure = Arc::new(Mutex::new(None));
        let hook = self.service.hooks.base_context.as_ref();
        let base = hook.map_or_else(Context::background, |hook| hook(&listener));
        let accepting = Accepting {
            server: self.clone(),
            listener: listener.clone(),
            base: self.context_from(&base),
            wrap,
            pause: accept::FIRST_PAUSE,
            failure: failure.clone(),
        };
        let ended = goroutine()
            .name("accept")
            .steps(accepting, Accepting::step)
            .join();
        self.service
            .listeners()
            .retain(|l| !Arc::ptr_eq(l, &listener));
        match ended {
            Ok(()) => {}
            Err(why) if why.is::<Cancelled>() => {
                return Err(ServeError::Accept(io::Error::other(Cancelled)));
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
        let failure = failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        failure.map_or(Ok(()), |e| Err(ServeError::Accept(e)))
    }

    fn stop_accepting(&self) {
        self.service.drain();
        for listener in self.service.listeners().drain(..) {
            listener.close();
        }
    }

    /// Stops accepting, closes idle connections, and waits until the others
    /// have answered the request that they are in, or until `timeout` is over.
    /// What is open then stays open: [`Server::close`] ends it.
    pub fn shutdown(&self, timeout: Duration) -> ShutdownOutcome {
        self.stop_accepting();
        let service = &self.service;
        let deadline = now() + timeout;
        let mut pause = FIRST_SHUTDOWN_PAUSE;
        loop {
            let entries = service.entries();
            let time = now();
            let new_before = Nanos(time.0.saturating_sub(nanos(NEW_GRACE)));
            for entry in &entries {
                entry.close_if_idle(new_before);
            }
            if entries.is_empty() || time >= deadline {
                let open = entries.iter().map(|e| e.info.remote_addr());
                return ShutdownOutcome {
                    open: open.collect(),
                };
            }
            sleep(pause.min(deadline - time));
            pause = (pause * 2).min(MAX_SHUTDOWN_PAUSE);
        }
    }

    /// Stops accepting and resets every connection.
    pub fn close(&self) {
        self.stop_accepting();
        for entry in self.service.entries() {
            entry.wire.scope.close();
            entry.wire.conn.abort();
        }
    }

    /// Counters since the start: names and values.
    pub fn stats(&self) -> Vec<(&'static str, u64)> {
        self.service.stats.list()
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
