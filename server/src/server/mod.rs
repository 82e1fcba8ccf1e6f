//! The server: accepting, and coming to an end.
//!
//! [`Server::serve`] accepts on a goroutine of steps, so that a handler which
//! keeps a thread does not keep new connections waiting, and gives each
//! connection another. [`Server::shutdown`], on another, closes the listeners
//! and what is idle, and waits for the rest.
//!
//! `accept`: the accepting goroutine. `builder`: the options. `shutdown`: the
//! two ways to end.

mod accept;
mod builder;
mod shutdown;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use wirepath_runtime::context::Context;
use wirepath_runtime::net::TcpListener;
use wirepath_runtime::{Cancelled, Nanos, goroutine};

use crate::handler::Handler;
use crate::hooks::OpenConnection;
use crate::service::Service;
use accept::{Accepting, Wrap};
pub use builder::ServerBuilder;
pub use shutdown::ShutdownOutcome;

/// Why a server stopped accepting, other than by being told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The server was shut down or closed before.
    #[error("the server is closed")]
    Closed,
    /// There is no listening at this address.
    #[error("cannot listen on {address}")]
    Listen {
        /// As it was given.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The listener failed.
    #[error("accepting a connection failed")]
    Accept(#[source] io::Error),
}

/// An HTTP server. Clones are the same server.
///
/// # Log
///
/// What goes wrong is told to `tracing`, where Go has `ErrorLog`, with a target
/// to filter by: `wirepath::accept` (a listener fails, WARN), `wirepath::handler`
/// (a handler panicked, ERROR, with its stack), `wirepath::limit` (a client met a
/// limit: INFO when a body or a response was too slow, else DEBUG), and
/// `wirepath::request` (a request was refused, DEBUG, with its reason). All that
/// a client can bring about in numbers is DEBUG, and has a counter in
/// [`Server::stats`].
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

    /// Listens on `address`, over the runtime's network, and serves it:
    /// `10.0.0.2:80`, `[::]:80`, or `:80`, which is every address of both
    /// families.
    ///
    /// # Errors
    ///
    /// [`ServeError::Listen`] for what is no address (names are not looked up)
    /// or cannot be listened on; as [`Server::serve`].
    pub fn listen_and_serve(&self, address: &str) -> Result<(), ServeError> {
        self.serve(listen(address)?)
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

    /// Counters since the start: names and values.
    pub fn stats(&self) -> Vec<(&'static str, u64)> {
        self.service.stats.list()
    }

    /// When it was made, by the clock of the process.
    #[cfg(feature = "see")]
    pub(crate) fn made_at(&self) -> wirepath_runtime::Nanos {
        self.service.made_at
    }

    /// The connections that are open, in no order, but for those that handlers
    /// took over.
    pub fn connections(&self) -> Vec<OpenConnection> {
        let entries = self.service.entries();
        entries.iter().map(|entry| entry.describe()).collect()
    }

    /// Whether connections may carry more than one request, as they may at
    /// first. When it is switched off, idle ones are closed, and others after
    /// their response.
    pub fn set_keep_alives_enabled(&self, enabled: bool) {
        self.service.set_keep_alives(enabled);
        if !enabled {
            for entry in self.service.entries() {
                entry.close_if_idle(Nanos(0));
            }
        }
    }
}

/// A listener on an address that was given as text.
pub(crate) fn listen(address: &str) -> Result<TcpListener, ServeError> {
    let whole = match address.starts_with(':') {
        true => format!("[::]{address}"),
        false => address.to_owned(),
    };
    let parsed = whole.parse::<SocketAddr>();
    let parsed = parsed.map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e));
    parsed.and_then(TcpListener::bind).map_err(|source| {
        let address = address.to_owned();
        ServeError::Listen { address, source }
    })
}
