//! The contexts of requests: made when they are asked for.
//!
//! A connection has a [`Scope`]: what its contexts are made from, and the end
//! of the one that its present request has. [`Request::context`] makes that
//! one, and has it end at the first of these: the client hangs up (FIN or
//! reset), the handler returns, the server is closed. A request that is not
//! asked for its context costs a look at a flag.
//!
//! Go notices a client's end by reading on in the background once the body was
//! read; here the network tells of it, whatever was read and whatever is
//! buffered, so also a client that shuts down its sending side after a request
//! ends that request's context.
//!
//! Rejected: a goroutine that reads (as Go), which would race with the reader
//! of the next request, and cost a goroutine for each request.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Wake, Waker};

use wirepath_runtime::context::{Cancel, Context};

use crate::conn::{Conn, Watch};
use crate::request::Request;
use crate::server::Server;
use crate::service::Service;

/// Why the context of a request ended: its
/// [`cause`](wirepath_runtime::context::Context::cause), unless a context that
/// it was made from ended first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestEnd {
    /// The client closed or reset the connection, or its sending side of it.
    #[error("the client hung up")]
    ClientGone,
    /// The handler returned.
    #[error("the handler has returned")]
    HandlerReturned,
    /// [`Server::close`](crate::Server::close) was called.
    #[error("the server was closed")]
    ServerClosed,
}

/// The address that a request came in at: a value of its context, where Go has
/// `LocalAddrContextKey`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalAddr(pub SocketAddr);

/// What ends the context of the present request.
struct Live {
    cancel: Cancel,
    /// `None` where nobody tells of the client's end.
    _watch: Option<Watch>,
}

impl Drop for Live {
    /// Nothing, if it has ended.
    fn drop(&mut self) {
        self.cancel.cancel_cause(RequestEnd::HandlerReturned);
    }
}

struct OnHangUp(Cancel);

impl Wake for OnHangUp {
    fn wake(self: Arc<Self>) {
        self.0.cancel_cause(RequestEnd::ClientGone);
    }
}

/// A connection's part in the contexts of its requests.
#[derive(Default)]
pub(crate) struct Scope {
    service: Option<Arc<Service>>,
    /// What the connection's context is made from, if not the service's own.
    base: Option<Context>,
    /// Made from `base` when first asked for.
    connection: OnceLock<Context>,
    live: Mutex<Option<Live>>,
    /// Whether `live` has something. Looked at without the lock.
    is_live: AtomicBool,
    closed: AtomicBool,
    /// No handler is at work.
    rests: AtomicBool,
}

impl Scope {
    /// For connections of `service`, from a listener with the context `base`,
    /// or from none.
    pub fn new(service: &Arc<Service>, base: Option<Context>) -> Scope {
        Scope {
            service: Some(service.clone()),
            base,
            ..Scope::default()
        }
    }

    /// The connection's server, if it has one.
    pub fn service(&self) -> Option<&Arc<Service>> {
        self.service.as_ref()
    }

    fn base(&self) -> Context {
        match (&self.base, &self.service) {
            (Some(base), _) => base.clone(),
            (None, Some(service)) => Server::of(service).context_from(&Context::background()),
            (None, None) => Context::background(),
        }
    }

    /// Has the connection's context made from what `change` makes of its
    /// listener's.
    pub fn change(&mut self, change: impl FnOnce(Context) -> Context) {
        self.base = Some(change(self.base()));
    }

    fn connection(&self, conn: &dyn Conn) -> &Context {
        let make = || self.base().with_value(LocalAddr(conn.local_addr()));
        self.connection.get_or_init(make)
    }

    fn live(&self) -> MutexGuard<'_, Option<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A context for the request that the connection is in.
    fn open(&self, conn: &dyn Conn) -> Context {
        self.drop_live();
        let (context, cancel) = self.connection(conn).with_cancel();
        // This is what ended it, if the connection is closed for it already.
        self.end_if_over(&cancel);
        let waker = Waker::from(Arc::new(OnHangUp(cancel.clone())));
        let live = Live {
            cancel: cancel.clone(),
            _watch: conn.watch_hangup(&waker),
        };
        *self.live() = Some(live);
        self.is_live.store(true, Ordering::SeqCst);
        // Else `close` finds it, or `end`.
        self.end_if_over(&cancel);
        context
    }

    fn end_if_over(&self, cancel: &Cancel) {
        if self.closed.load(Ordering::SeqCst) {
            cancel.cancel_cause(RequestEnd::ServerClosed);
        } else if self.rests.load(Ordering::SeqCst) {
            cancel.cancel_cause(RequestEnd::HandlerReturned);
        }
    }

    /// A request begins.
    pub fn begin(&self) {
        self.rests.store(false, Ordering::Relaxed);
    }

    /// The handler has returned: the request's context ends, if it has one, and
    /// if it is still to be asked for by who took the request away.
    pub fn end(&self) {
        self.rests.store(true, Ordering::SeqCst);
        self.drop_live();
    }

    fn drop_live(&self) {
        if self.is_live.load(Ordering::SeqCst) {
            self.is_live.store(false, Ordering::SeqCst);
            let live = self.live().take();
            drop(live);
        }
    }

    /// The server closes: the request's context ends, and so does each that is
    /// asked for from now on.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let cancel = self.live().as_ref().map(|live| live.cancel.clone());
        if let Some(cancel) = cancel {
            cancel.cancel_cause(RequestEnd::ServerClosed);
        }
    }
}

impl Request {
    /// What ends when there is nobody left to answer: made when first asked
    /// for, from what [`ServerBuilder::base_context`] and
    /// [`ServerBuilder::conn_context`] said, as Go's.
    ///
    /// It ends, with a [`RequestEnd`] as its cause, as soon as the client's FIN
    /// or reset arrives, when the handler has returned, and at
    /// [`Server::close`]. It has the values [`Server`] and [`LocalAddr`].
    ///
    /// A client that ends its sending side and waits for the answer looks like
    /// one that is gone, in Go as here: an answer can still be written.
    ///
    /// ```
    /// use wirepath::{Request, ResponseWriter};
    /// use wirepath::runtime::{after, select};
    /// use std::time::Duration;
    ///
    /// fn slow(w: &mut ResponseWriter, r: &mut Request) {
    ///     let work = after(Duration::from_secs(5));
    ///     select! {
    ///         recv(work) -> _ => w.write_header(wirepath::http::StatusCode::NO_CONTENT),
    ///         recv(r.context().done()) => (),
    ///     };
    /// }
    /// ```
    ///
    /// [`Server`]: crate::Server
    /// [`Server::close`]: crate::Server::close
    /// [`ServerBuilder::base_context`]: crate::ServerBuilder::base_context
    /// [`ServerBuilder::conn_context`]: crate::ServerBuilder::conn_context
    pub fn context(&self) -> &Context {
        self.context.get_or_init(|| match self.body.wire() {
            Some(wire) => wire.scope.open(&*wire.conn),
            None => Context::background(),
        })
    }

    /// Replaces the context for whoever gets the request after, as a
    /// middleware does that adds a value or a deadline. It should be made from
    /// [`Request::context`], or it does not end when that does.
    pub fn set_context(&mut self, context: Context) {
        self.context = OnceLock::from(context);
    }
}
