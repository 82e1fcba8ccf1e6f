//! A connection whose client has sent all that it will send.

use std::collections::VecDeque;
use std::io::{self, Cursor, Read};
use std::net::{Shutdown, SocketAddr};
use std::sync::{Mutex, PoisonError};

use wirepath_runtime::Nanos;

use crate::conn::Conn;

/// Gives what was sent, piece by piece, then the end; keeps what is written.
/// Nothing waits.
pub(super) struct Canned {
    left: Mutex<VecDeque<Cursor<Vec<u8>>>>,
    written: Mutex<Vec<u8>>,
    peer: SocketAddr,
    local: SocketAddr,
}

impl Canned {
    pub fn new(sent: Vec<u8>, peer: SocketAddr, local: SocketAddr) -> Canned {
        Canned::in_pieces([sent], peer, local)
    }

    pub fn in_pieces(
        sent: impl IntoIterator<Item = Vec<u8>>,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Canned {
        Canned {
            left: Mutex::new(sent.into_iter().map(Cursor::new).collect()),
            written: Mutex::default(),
            peer,
            local,
        }
    }

    /// What was written so far.
    pub fn take_written(&self) -> Vec<u8> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *written)
    }
}

impl Conn for Canned {
    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(piece) = left.front_mut() {
            match piece.read(into)? {
                0 if !into.is_empty() => drop(left.pop_front()),
                n => return Ok(n),
            }
        }
        Ok(0)
    }

    fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        self.read(into)
    }

    fn short_read_drains(&self) -> bool {
        false
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn set_read_deadline(&self, _at: Option<Nanos>) {}

    fn set_write_deadline(&self, _at: Option<Nanos>) {}

    fn shutdown(&self, _how: Shutdown) -> io::Result<()> {
        Ok(())
    }

    fn abort(&self) {}

    fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn flow(&self) -> u64 {
        0
    }
}
