//! The server: accepting, and coming to an end.
//!
//! [`Server::serve`] accepts on a goroutine of steps, so that a handler which
//! keeps a thread does not keep new connections waiting, and gives each
//! connection another. [`Server::shutdown`], on another, closes
//! the listeners and what is idle, and waits for the rest.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wirepath_runtime::net::{TcpListener, TcpStream};
use wirepath_runtime::{Cancelled, Nanos, Next, goroutine, now, sleep, steps};

use crate::conn::{Conn, Connection, Outcome};
use crate::handler::Handler;
use crate::net::NetConn;
use crate::service::{Config, Registration, Service};

/// The wait after a first failure to accept; it doubles with each. As in Go.
const FIRST_ACCEPT_PAUSE: Duration = Duration::from_millis(5);
/// The longest wait after a failure to accept. As in Go.
const MAX_ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// Connections accepted in one step.
const ACCEPT_BATCH: usize = 64;
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

/// Makes a [`Server`].
pub struct ServerBuilder {
    handler: Box<dyn Handler>,
    config: Config,
}

impl ServerBuilder {
    /// How long a request's head may take, from its first byte, or from the
    /// start of the connection for the first. 10 s unless set.
    #[must_use]
    pub fn read_header_timeout(mut self, timeout: Duration) -> ServerBuilder {
        self.config.read_header_timeout = timeout;
        self
    }

    /// How long the reading of a request's body may take, from its head.
    /// Without limit unless set.
    #[must_use]
    pub fn read_timeout(mut self, timeout: Option<Duration>) -> ServerBuilder {
        self.config.read_timeout = timeout;
        self
    }

    /// How long a response may take to write, from the request's head. Without
    /// limit unless set.
    #[must_use]
    pub fn write_timeout(mut self, timeout: Option<Duration>) -> ServerBuilder {
        self.config.write_timeout = timeout;
        self
    }

    /// How long a connection may wait for its next request. 120 s unless set.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> ServerBuilder {
        self.config.idle_timeout = timeout;
        self
    }

    /// Bytes of a request's head, and as in Go 4 KiB more. 1 MiB unless set.
    #[must_use]
    pub fn max_header_bytes(mut self, bytes: usize) -> ServerBuilder {
        self.config.max_header_bytes = bytes;
        self
    }

    /// Header fields of a request. 500 unless set.
    #[must_use]
    pub fn max_header_fields(mut self, fields: usize) -> ServerBuilder {
        self.config.max_header_fields = fields;
        self
    }

    /// Connections at a time; one more is closed at once. A million unless
    /// set.
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> ServerBuilder {
        self.config.max_connections = connections;
        self
    }

    /// The server.
    pub fn build(self) -> Server {
        Server {
            inner: Arc::new(Inner {
                service: Arc::new(Service::new(self.handler, self.config)),
                listeners: Mutex::default(),
            }),
        }
    }
}

struct Inner {
    service: Arc<Service>,
    listeners: Mutex<Vec<Arc<TcpListener>>>,
}

/// An HTTP server. Clones are the same server.
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

/// A connection's goroutine between steps.
struct Task {
    connection: Connection,
    net: Arc<NetConn>,
    _registration: Registration,
}

impl Task {
    fn step(&mut self) -> Next {
        match self.connection.step() {
            Outcome::Done => Next::Done,
            Outcome::Yield => Next::Yield,
            Outcome::Readable => Next::Wait(self.net.readable()),
        }
    }
}

/// Begins to serve a connection that was accepted.
pub(crate) type TakeIn = Box<dyn Fn(&Server, TcpStream, SocketAddr) + Send>;

/// The accepting goroutine between steps.
struct Accepting {
    server: Server,
    listener: Arc<TcpListener>,
    /// What is done with a connection.
    take_in: TakeIn,
    /// The wait after the next failure.
    pause: Duration,
    /// What ended it.
    failure: Arc<Mutex<Option<io::Error>>>,
}

impl Accepting {
    fn step(&mut self) -> Next {
        for _ in 0..ACCEPT_BATCH {
            match self.listener.try_accept() {
                Ok((stream, peer)) => {
                    self.pause = FIRST_ACCEPT_PAUSE;
                    (self.take_in)(&self.server, stream, peer);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    return Next::Wait(self.listener.acceptable());
                }
                Err(e) => return self.failed(e),
            }
        }
        Next::Yield
    }

    fn failed(&mut self, e: io::Error) -> Next {
        if self.server.inner.service.is_draining() {
            return Next::Done;
        }
        if may_pass(&e) {
            let pause = self.pause;
            tracing::warn!(?pause, "accepting failed, trying again: {e}");
            self.pause = (pause * 2).min(MAX_ACCEPT_PAUSE);
            return Next::Sleep(now() + pause);
        }
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
        Next::Done
    }
}

impl Server {
    /// A server with safe limits, to be changed before it is built.
    pub fn builder(handler: impl Handler) -> ServerBuilder {
        ServerBuilder {
            handler: Box::new(handler),
            config: Config::default(),
        }
    }

    /// A server with safe limits.
    pub fn new(handler: impl Handler) -> Server {
        Server::builder(handler).build()
    }

    pub(crate) fn service(&self) -> &Arc<Service> {
        &self.inner.service
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<Arc<TcpListener>>> {
        let listeners = self.inner.listeners.lock();
        listeners.unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts connections and serves each on a goroutine of its own; waits
    /// until the server is shut down or closed. A server may serve several
    /// listeners, each on a goroutine.
    ///
    /// # Errors
    ///
    /// [`ServeError`]; a failure to accept that may pass is tried again.
    pub fn serve(&self, listener: TcpListener) -> Result<(), ServeError> {
        self.accept(listener, Box::new(Server::take_in))
    }

    /// Accepts connections and takes them in so.
    pub(crate) fn accept(&self, listener: TcpListener, take_in: TakeIn) -> Result<(), ServeError> {
        let listener = Arc::new(listener);
        self.listeners().push(listener.clone());
        if self.inner.service.is_draining() {
            listener.close();
            return Err(ServeError::Closed);
        }
        let failure = Arc::new(Mutex::new(None));
        let accepting = Accepting {
            server: self.clone(),
            listener: listener.clone(),
            take_in,
            pause: FIRST_ACCEPT_PAUSE,
            failure: failure.clone(),
        };
        let ended = goroutine()
            .name("accept")
            .steps(accepting, Accepting::step)
            .join();
        self.listeners().retain(|l| !Arc::ptr_eq(l, &listener));
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

    fn take_in(&self, stream: TcpStream, peer: SocketAddr) {
        // One that is over already has no addresses.
        if let Ok(net) = NetConn::new(stream, peer).map(Arc::new) {
            self.start(net.clone(), net);
        }
    }

    /// Serves `conn`, whose bytes come over `net`, on a goroutine.
    pub(crate) fn start(&self, conn: Arc<dyn Conn>, net: Arc<NetConn>) {
        let service = &self.inner.service;
        let connection = Connection::new(service.clone(), conn, now());
        let Some(registration) = service.register(connection.entry()) else {
            return;
        };
        let task = Task {
            connection,
            net,
            _registration: registration,
        };
        steps(task, Task::step);
    }

    fn stop_accepting(&self) {
        self.inner.service.drain();
        for listener in self.listeners().drain(..) {
            listener.close();
        }
    }

    /// Stops accepting, closes idle connections, and waits until the others
    /// have answered the request that they are in, or until `timeout` is over.
    /// What is open then stays open: [`Server::close`] ends it.
    pub fn shutdown(&self, timeout: Duration) -> ShutdownOutcome {
        self.stop_accepting();
        let service = &self.inner.service;
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
                let open = entries.iter().map(|e| e.wire.conn.peer_addr());
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
        for entry in self.inner.service.entries() {
            entry.wire.conn.abort();
        }
    }

    /// Counters since the start: names and values.
    pub fn stats(&self) -> Vec<(&'static str, u64)> {
        self.inner.service.stats.list()
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether an accept that failed so may succeed later.
fn may_pass(e: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        e.kind(),
        K::Interrupted
            | K::WouldBlock
            | K::ConnectionReset
            | K::OutOfMemory
            | K::QuotaExceeded
            | K::ResourceBusy
    )
}
