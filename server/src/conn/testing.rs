//! Connections for tests: one in memory, and one of the kernel's loopback.

use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use wirepath_runtime::Nanos;

use super::{Conn, Connection, Outcome};
use crate::handler::Handler;
use crate::service::{Config, Service};

/// What the client of a [`MemoryConn`] sent, and got.
#[derive(Default)]
struct Sides {
    /// What each read gives, in order.
    arriving: VecDeque<Vec<u8>>,
    sent: Vec<u8>,
    reads: usize,
    writes: usize,
    aborted: bool,
    /// Pieces come as if each arrived only once the one before was read.
    drains: bool,
}

/// A connection whose client sent all that it will send before it starts.
#[derive(Default)]
pub(crate) struct MemoryConn {
    sides: Mutex<Sides>,
}

impl MemoryConn {
    fn sides(&self) -> MutexGuard<'_, Sides> {
        self.sides.lock().unwrap()
    }

    /// Lets bytes arrive, to be read in one piece.
    pub fn arrive(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.sides().arriving.push_back(bytes.to_vec());
        }
    }

    /// What was sent to the client so far.
    pub fn sent(&self) -> Vec<u8> {
        self.sides().sent.clone()
    }

    pub fn take_sent(&self) -> Vec<u8> {
        std::mem::take(&mut self.sides().sent)
    }

    /// Makes room for so many bytes that are sent.
    pub fn reserve(&self, bytes: usize) {
        self.sides().sent.reserve(bytes);
    }

    /// Has each piece arrive after the one before was read.
    pub fn arrive_apart(&self) {
        self.sides().drains = true;
    }

    pub fn reads(&self) -> usize {
        self.sides().reads
    }

    pub fn writes(&self) -> usize {
        self.sides().writes
    }

    pub fn aborted(&self) -> bool {
        self.sides().aborted
    }
}

impl Conn for MemoryConn {
    /// Where a real connection would wait, time runs out.
    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        self.try_read(into)
            .map_err(|_| io::ErrorKind::TimedOut.into())
    }

    fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut sides = self.sides();
        sides.reads += 1;
        let Some(piece) = sides.arriving.front_mut() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let n = piece.len().min(into.len());
        into[..n].copy_from_slice(&piece[..n]);
        piece.drain(..n);
        if piece.is_empty() {
            sides.arriving.pop_front();
        }
        Ok(n)
    }

    fn short_read_drains(&self) -> bool {
        self.sides().drains
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut sides = self.sides();
        sides.sent.extend_from_slice(bytes);
        sides.writes += 1;
        Ok(bytes.len())
    }

    fn set_read_deadline(&self, _at: Option<Nanos>) {}
    fn set_write_deadline(&self, _at: Option<Nanos>) {}

    fn shutdown(&self, _how: Shutdown) -> io::Result<()> {
        Ok(())
    }

    fn abort(&self) {
        self.sides().aborted = true;
    }

    fn peer_addr(&self) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], 40_000))
    }

    fn local_addr(&self) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 2], 80))
    }

    fn flow(&self) -> u64 {
        7
    }
}

/// A connection of the service, and the conn below it.
pub(crate) fn connect(service: &Arc<Service>) -> (Connection, Arc<MemoryConn>) {
    let conn = Arc::new(MemoryConn::default());
    let connection = Connection::new(service.clone(), conn.clone(), wirepath_runtime::now());
    (connection, conn)
}

pub(crate) fn service(handler: impl Handler) -> Arc<Service> {
    Arc::new(Service::new(Box::new(handler), Config::default()))
}

/// What a client gets that sends `pieces`, and what the connection does then.
pub(crate) fn exchange(handler: impl Handler, pieces: &[&[u8]]) -> (String, Outcome) {
    let (mut connection, conn) = connect(&service(handler));
    for piece in pieces {
        conn.arrive(piece);
    }
    let outcome = run(&mut connection);
    (String::from_utf8_lossy(&conn.sent()).into_owned(), outcome)
}

/// Steps until the connection waits or is over.
pub(crate) fn run(connection: &mut Connection) -> Outcome {
    loop {
        match connection.step() {
            Outcome::Yield => {}
            outcome => return outcome,
        }
    }
}
