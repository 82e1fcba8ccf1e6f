//! Accepting: a goroutine of steps for each listener.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use wirepath_runtime::context::Context;
use wirepath_runtime::net::{TcpListener, TcpStream};
use wirepath_runtime::{Next, Wait, now, steps};

use super::Server;
use crate::conn::{Conn, Connection, Outcome};
use crate::net::NetConn;
use crate::service::Registration;
use crate::targets;

/// The wait after a first failure to accept; it doubles with each. As in Go.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// The longest wait after a failure to accept. As in Go.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// Connections accepted in one step.
const BATCH: usize = 64;

/// Makes what HTTP is spoken over of a connection that was accepted: that
/// connection itself, or a session over it. `None`: it is over.
pub(crate) type Wrap = Box<dyn Fn(&Server, &Arc<NetConn>) -> Option<Arc<dyn Conn>> + Send>;

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

/// What connections are accepted from.
pub(super) trait Listen: Send + Sync + 'static {
    /// Takes a connection, or fails with `WouldBlock`.
    fn try_accept(&self) -> io::Result<(TcpStream, SocketAddr)>;
    /// What to wait for then.
    fn acceptable(&self) -> Wait;
}

impl Listen for TcpListener {
    fn try_accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        TcpListener::try_accept(self)
    }

    fn acceptable(&self) -> Wait {
        TcpListener::acceptable(self)
    }
}

/// The accepting goroutine between steps.
pub(super) struct Accepting<L> {
    pub server: Server,
    pub listener: Arc<L>,
    /// What the contexts of the listener's requests are made from.
    pub base: Context,
    pub wrap: Wrap,
    /// The wait after the next failure.
    pub pause: Duration,
    /// What ended it.
    pub failure: Arc<Mutex<Option<io::Error>>>,
}

impl<L: Listen> Accepting<L> {
    pub fn step(&mut self) -> Next {
        for _ in 0..BATCH {
            match self.listener.try_accept() {
                Ok((stream, peer)) => {
                    self.pause = FIRST_PAUSE;
                    self.take_in(stream, peer);
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
        let service = &self.server.service;
        if service.is_draining() {
            return Next::Done;
        }
        service.stats.accept_failures.add(1);
        if may_pass(&e) {
            let pause = self.pause;
            tracing::warn!(target: targets::ACCEPT, ?pause, "accepting failed, trying again: {e}");
            self.pause = (pause * 2).min(MAX_PAUSE);
            return Next::Sleep(now() + pause);
        }
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
        Next::Done
    }

    fn take_in(&self, stream: TcpStream, peer: SocketAddr) {
        let service = &self.server.service;
        let Some(ticket) = service.admit(peer.ip()) else {
            // Nothing of it stays, as it would after a close in order.
            stream.abort();
            return;
        };
        // One that is over already has no addresses.
        let Ok(net) = NetConn::new(stream, peer).map(Arc::new) else {
            return;
        };
        let Some(conn) = (self.wrap)(&self.server, &net) else {
            return;
        };
        let base = Some(self.base.clone());
        let connection = Connection::of_listener(service.clone(), conn, base, now());
        let registration = service.enter(ticket, connection.entry());
        let task = Task {
            connection,
            net,
            _registration: registration,
        };
        steps(task, Task::step);
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use wirepath_runtime::{Nanos, simulate};

    /// A listener whose accepts fail, with these errors and at these times.
    struct Failing {
        errors: Mutex<VecDeque<io::Error>>,
        tried: Mutex<Vec<Nanos>>,
    }

    impl Listen for Failing {
        fn try_accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
            self.tried.lock().unwrap().push(now());
            Err(self.errors.lock().unwrap().pop_front().unwrap())
        }

        fn acceptable(&self) -> Wait {
            unreachable!("no error is WouldBlock")
        }
    }

    /// Accepts until that ends: the milliseconds between attempts, what ended
    /// it, and how many failures were counted.
    fn accept(errors: Vec<io::Error>, server: &Server) -> (Vec<u128>, Option<io::ErrorKind>, u64) {
        let listener = Arc::new(Failing {
            errors: Mutex::new(errors.into()),
            tried: Mutex::default(),
        });
        let failure = Arc::new(Mutex::new(None));
        let accepting = Accepting {
            server: server.clone(),
            listener: listener.clone(),
            base: Context::background(),
            wrap: Box::new(|_, _| None),
            pause: FIRST_PAUSE,
            failure: failure.clone(),
        };
        steps(accepting, Accepting::step).join().unwrap();
        let tried = listener.tried.lock().unwrap();
        let gaps = tried.windows(2).map(|t| t[1].since(t[0]).as_millis());
        let kind = failure.lock().unwrap().as_ref().map(io::Error::kind);
        let failures = server.service.stats.accept_failures.get();
        (gaps.collect(), kind, failures)
    }

    fn too_many_files() -> io::Error {
        io::ErrorKind::QuotaExceeded.into()
    }

    #[test]
    fn a_listener_that_fails_is_tried_less_and_less_often() {
        let run = simulate(1, || {
            let server = Server::new(crate::not_found);
            let mut errors: Vec<_> = (0..10).map(|_| too_many_files()).collect();
            errors.push(io::ErrorKind::InvalidInput.into());
            let (gaps, end, failures) = accept(errors, &server);
            assert_eq!(gaps, [5, 10, 20, 40, 80, 160, 320, 640, 1_000, 1_000]);
            assert_eq!(end, Some(io::ErrorKind::InvalidInput));
            assert_eq!(failures, 11);
        });
        run.unwrap();
    }

    #[test]
    fn a_failure_of_a_server_that_stops_is_its_end() {
        let run = simulate(1, || {
            let server = Server::new(crate::not_found);
            server.close();
            let closed = io::ErrorKind::ConnectionAborted.into();
            assert_eq!(accept(vec![closed], &server), (vec![], None, 0));
        });
        run.unwrap();
    }
}
