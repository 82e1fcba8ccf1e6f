//! The bytes that arrived and are not used yet.

use std::io;

use super::wire::Wire;

/// What a fresh buffer holds. A head of a browser and a small body fit.
const INITIAL_BYTES: usize = 8 * 1024;
/// A buffer that grew past this for one head is not kept for the next.
const KEEP_BYTES: usize = 64 * 1024;

/// A buffer between the connection and the parsers of heads and bodies.
#[derive(Default)]
pub(crate) struct Input {
    /// Bytes `start..end` are filled and unused.
    buf: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    pub fn buffered(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub fn consume(&mut self, n: usize) {
        self.start += n;
        assert!(self.start <= self.end, "more consumed than there was");
    }

    /// Forgets everything, for another connection.
    pub fn reset(&mut self) {
        (self.start, self.end) = (0, 0);
        if self.buf.len() > KEEP_BYTES {
            self.buf = Vec::new();
        }
    }

    /// Takes in what has arrived, without waiting: `WouldBlock` if nothing
    /// has. 0 is the end of the stream.
    pub fn try_fill(&mut self, wire: &Wire) -> io::Result<usize> {
        self.fill_with(|room| wire.try_read(room))
    }

    /// Takes in what has arrived, waiting for the first byte.
    pub fn fill(&mut self, wire: &Wire) -> io::Result<usize> {
        self.fill_with(|room| wire.read(room))
    }

    fn fill_with(
        &mut self,
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.make_room();
        loop {
            match read(&mut self.buf[self.end..]) {
                Ok(n) => {
                    self.end += n;
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Makes room for at least one byte. The caller bounds what may be
    /// buffered, and with it the growth.
    fn make_room(&mut self) {
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
        if self.end < self.buf.len() {
            return;
        }
        if self.start > 0 {
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        } else {
            let len = (self.buf.len() * 2).max(INITIAL_BYTES);
            self.buf.resize(len, 0);
        }
    }

    /// Reads what is buffered, or else from the connection: into the caller's
    /// buffer directly when that is large.
    pub fn read(&mut self, wire: &Wire, into: &mut [u8]) -> io::Result<usize> {
        if self.is_empty() {
            if into.len() >= INITIAL_BYTES {
                return wire.read(into);
            }
            if self.fill(wire)? == 0 {
                return Ok(0);
            }
        }
        let n = into.len().min(self.end - self.start);
        into[..n].copy_from_slice(&self.buffered()[..n]);
        self.consume(n);
        Ok(n)
    }
}
