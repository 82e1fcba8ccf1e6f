//! From a file to the wire, without holding up other goroutines.
//!
//! What the kernel has in memory is read at once; only a read that has to wait
//! goes through `blocking`, which costs a hand-over of the P. Over a kernel
//! socket the pages of a file go out by sendfile(2), which has no flag against
//! waiting: each stretch is looked at first, by reading its first and last
//! byte. One that is not in memory is read instead; of a file system that
//! cannot tell, such as overlayfs, it is sent in `blocking`.
//!
//! Buffers are pooled: a client that takes its time holds one, and nobody
//! another.

use std::io::{self, ErrorKind, Write};
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, PoisonError};

use wirepath_runtime::blocking;

use super::fs::File;
use crate::conn::Pages;
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
    loop {
        let read = match file.try_read_at(buf, at) {
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Unsupported) => {
                blocking(|| file.read_at(buf, at))
            }
            read => read,
        };
        match read {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// Fills `buf` from the start of the file, as far as that goes.
pub(super) fn read_start(file: &dyn File, buf: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match read(file, &mut buf[filled..], filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

/// Writes `len` bytes of the file from `at` on as the body, or part of it. A
/// file that shrank ends early, which the declared length betrays.
pub(super) fn send(
    w: &mut ResponseWriter,
    file: &dyn File,
    mut at: u64,
    len: u64,
) -> io::Result<()> {
    let end = at + len;
    if let Some(bytes) = file.bytes() {
        let part = |at| usize::try_from(at).map_or(bytes.len(), |at| at.min(bytes.len()));
        return w.write_all(&bytes[part(at)..part(end)]);
    }
    while at < end {
        // Asked each time: a filter of the body may have declined by now.
        let sent = match file.as_fd() {
            Some(fd) if end - at > SMALL_BYTES && w.can_send_file() => {
                send_pages(w, file, fd, at, end)?
            }
            _ => copy(w, file, at, end)?,
        };
        if sent == 0 {
            break;
        }
        at += sent;
    }
    Ok(())
}

/// Sends a buffer of bytes, and returns how many.
fn copy(w: &mut ResponseWriter, file: &dyn File, at: u64, end: u64) -> io::Result<u64> {
    let mut buffer = Buffer::take();
    let most = usize::try_from(end - at).map_or(BUFFER_BYTES, |left| left.min(BUFFER_BYTES));
    let n = read(file, &mut buffer.0[..most], at)?;
    w.write_all(&buffer.0[..n])?;
    Ok(n as u64)
}

/// Sends a stretch of pages, and returns how many bytes.
fn send_pages(
    w: &mut ResponseWriter,
    file: &dyn File,
    fd: BorrowedFd<'_>,
    at: u64,
    end: u64,
) -> io::Result<u64> {
    let len = STRETCH_BYTES.min(end - at);
    let seen = look(file, at).and_then(|()| look(file, at + len - 1));
    if seen == Err(ErrorKind::WouldBlock) {
        return copy(w, file, at, end);
    }
    w.send_file(Pages {
        file: fd,
        offset: at,
        len,
        is_cached: seen.is_ok(),
    })
}

/// Whether the byte at `at` is in memory.
fn look(file: &dyn File, at: u64) -> Result<(), ErrorKind> {
    let read = file.try_read_at(&mut [0], at);
    read.map(drop).map_err(|e| e.kind())
}
