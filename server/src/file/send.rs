//! From a file to the wire, without holding up other goroutines.
//!
//! What the kernel has in memory is read at once; only a read that has to wait
//! goes through `blocking`, which costs a hand-over of the P. Over a kernel
//! socket the pages of a file go out by sendfile(2), which has no flag against
//! waiting: each stretch is looked at first, by reading its first and last
//! byte, and one that is not in memory is read instead.
//!
//! Buffers are pooled: a client that takes its time holds one, and nobody
//! another.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use wirepath_runtime::blocking;

use super::fs::File;
use crate::response::ResponseWriter;

/// Bytes that are read at once: as many as a send buffer of the stack takes, and
/// little enough to be still in the core's cache when they are written.
const BUFFER_BYTES: usize = 64 * 1024;
/// Buffers that are kept for the next who needs one: 4 MiB.
const KEPT_BUFFERS: usize = 64;
/// Bytes that are looked at and given to sendfile(2) at once.
const STRETCH_BYTES: u64 = 1024 * 1024;
/// Up to this many bytes are read, since then they leave in one write with the
/// head.
const SMALL_BYTES: u64 = 16 * 1024;

static BUFFERS: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// A buffer of the pool.
struct Buffer(Box<[u8]>);

impl Buffer {
    fn take() -> Buffer {
        let mut kept = BUFFERS.lock().unwrap_or_else(PoisonError::into_inner);
        let buffer = kept.pop();
        drop(kept);
        Buffer(buffer.unwrap_or_else(|| vec![0; BUFFER_BYTES].into()))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut kept = BUFFERS.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_BUFFERS {
            kept.push(std::mem::take(&mut self.0));
        }
    }
}

/// Reads some bytes: at once if they are in memory, else off the scheduler.
fn read(file: &dyn File, buf: &mut [u8], at: u64) -> io::Result<usize> {
    match file.try_read_at(buf, at) {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => blocking(|| file.read_at(buf, at)),
        read => read,
    }
}

/// Fills `buf` from the start of the file, as far as that goes.
pub(super) fn read_start(file: &dyn File, buf: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match read(file, &mut buf[filled..], filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Writes `len` bytes of the file from `at` on as the body, or part of it. A
/// file that shrank ends early, which the declared length betrays.
pub(super) fn send(w: &mut ResponseWriter, file: &dyn File, at: u64, len: u64) -> io::Result<()> {
    let end = at + len;
    if let Some(bytes) = file.bytes() {
        let part = |at| usize::try_from(at).map_or(bytes.len(), |at| at.min(bytes.len()));
        return w.write_all(&bytes[part(at)..part(end)]);
    }
    match file.as_fd() {
        Some(_) if len > SMALL_BYTES && w.can_send_file() => send_pages(w, file, at, end),
        _ => copy(w, file, at, end).map(drop),
    }
}

/// Copies through a buffer; returns where it ended.
fn copy(w: &mut ResponseWriter, file: &dyn File, mut at: u64, end: u64) -> io::Result<u64> {
    let mut buffer = Buffer::take();
    while at < end {
        let most = usize::try_from(end - at).map_or(BUFFER_BYTES, |left| left.min(BUFFER_BYTES));
        match read(file, &mut buffer.0[..most], at) {
            Ok(0) => break,
            Ok(n) => {
                w.write_all(&buffer.0[..n])?;
                at += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(at)
}

fn send_pages(w: &mut ResponseWriter, file: &dyn File, mut at: u64, end: u64) -> io::Result<()> {
    let fd = file.as_fd().expect("asked before");
    while at < end {
        let stretch = end.min(at + STRETCH_BYTES);
        let sent = match is_cached(file, at) && is_cached(file, stretch - 1) {
            true => at + w.send_file(fd, at, stretch - at)?,
            false => copy(w, file, at, stretch)?,
        };
        if sent == at {
            break;
        }
        at = sent;
    }
    Ok(())
}

fn is_cached(file: &dyn File, at: u64) -> bool {
    file.try_read_at(&mut [0], at).is_ok()
}
