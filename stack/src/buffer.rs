//! Socket buffers: memory of TCP sockets, cut from reserved regions.
//!
//! An [`Arena`] holds regions cut into pieces of a power of two. A piece given
//! back last is used next, because touching a page for the first time costs
//! more than serving a request; of the free pieces only some megabytes keep
//! their pages. [`BufferedSocket`] joins a `tcp::Socket` to its two pieces and is
//! the only thing that knows both, so that the argument for the `unsafe` is in
//! this file:
//!
//! smoltcp wants `&'static mut [u8]`. A piece is in exactly one
//! [`BufferedSocket`] or in the free list. The slices made of it live in the
//! socket, in `set`, which is dropped before the pieces are (fields drop in
//! order of declaration) and is lent to the interface's polls only, which
//! neither take a socket out nor keep a reference. A piece keeps its arena's
//! memory mapped.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use wirepath_driver::region::{PAGE, Region};

/// Bytes that one region of an arena holds, unless a piece is larger.
const CHUNK_BYTES: usize = 4 << 20;
/// Bytes of free pieces of one size that keep their pages.
const WARM_BYTES: usize = 16 << 20;
/// The largest buffer, bytes: what smoltcp takes (RFC 7323 window limit).
pub(crate) const MAX_BUFFER: usize = 1 << 30;

/// Pieces of one size.
struct Class {
    piece_len: usize,
    chunks: Vec<Region>,
    /// Pieces whose pages may be resident, the last given back on top.
    warm: Vec<u32>,
    /// Pieces without pages.
    cold: Vec<u32>,
}

impl Class {
    fn pieces_per_chunk(&self) -> usize {
        (CHUNK_BYTES / self.piece_len).max(1)
    }

    fn take(&mut self) -> io::Result<u32> {
        if let Some(piece) = self.warm.pop().or_else(|| self.cold.pop()) {
            return Ok(piece);
        }
        let per_chunk = self.pieces_per_chunk();
        let first = u32::try_from(self.chunks.len() * per_chunk)
            .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        self.chunks
            .push(Region::reserve(per_chunk * self.piece_len)?);
        let count = u32::try_from(per_chunk).expect("a chunk holds few pieces");
        self.cold.extend((first + 1..first + count).rev());
        Ok(first)
    }

    fn place(&self, piece: u32) -> (&Region, usize) {
        let per_chunk = self.pieces_per_chunk();
        let chunk = &self.chunks[piece as usize / per_chunk];
        (chunk, piece as usize % per_chunk * self.piece_len)
    }

    /// Gives the pages of a piece back to the system.
    ///
    /// # Safety
    /// Nobody relies on the piece's contents, and no reference into it is used
    /// while this runs.
    unsafe fn discard(&self, piece: u32) {
        let (chunk, at) = self.place(piece);
        // SAFETY: passed on to the caller. A refusal by the system only means
        // that the pages stay.
        let _ = unsafe { chunk.discard(at..at + self.piece_len) };
    }

    fn give_back(&mut self, piece: u32) {
        if self.warm.len() * self.piece_len < WARM_BYTES {
            self.warm.push(piece);
        } else {
            // SAFETY: the piece comes from a dropped `Piece`, whose socket was
            // dropped before; nothing refers to it.
            unsafe { self.discard(piece) };
            self.cold.push(piece);
        }
    }
}

/// The buffers of one shard's sockets.
#[derive(Clone)]
pub(crate) struct Arena(Arc<Mutex<Vec<Class>>>);

/// One piece, given back when dropped.
struct Piece {
    arena: Arena,
    class: usize,
    index: u32,
}

impl Arena {
    pub(crate) fn new() -> Arena {
        let sizes = (PAGE.ilog2()..=MAX_BUFFER.ilog2()).map(|bits| 1usize << bits);
        let class = |piece_len| Class {
            piece_len,
            chunks: Vec::new(),
            warm: Vec::new(),
            cold: Vec::new(),
        };
        Arena(Arc::new(Mutex::new(sizes.map(class).collect())))
    }

    /// The classes. Nothing that holds the lock panics half-way through a
    /// change.
    fn classes(&self) -> MutexGuard<'_, Vec<Class>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn piece(&self, len: usize) -> io::Result<Piece> {
        let piece_len = len.clamp(PAGE, MAX_BUFFER).next_power_of_two();
        let class = (piece_len.ilog2() - PAGE.ilog2()) as usize;
        let index = self.classes()[class].take()?;
        Ok(Piece {
            arena: self.clone(),
            class,
            index,
        })
    }

    /// A closed TCP socket with buffers of these lengths, in bytes, from 1 to
    /// [`MAX_BUFFER`].
    ///
    /// # Errors
    /// The system has no more address space.
    pub(crate) fn socket(&self, recv: usize, send: usize) -> io::Result<BufferedSocket> {
        let (rx, tx) = (self.piece(recv)?, self.piece(send)?);
        // SAFETY: the slices go into the socket, the socket into the same
        // `BufferedSocket` as the pieces, where it is dropped before them.
        let (rx_bytes, tx_bytes) = unsafe { (rx.bytes(recv), tx.bytes(send)) };
        let socket = tcp::Socket::new(
            tcp::SocketBuffer::new(rx_bytes),
            tcp::SocketBuffer::new(tx_bytes),
        );
        let mut set = SocketSet::new(Vec::with_capacity(1));
        let handle = set.add(socket);
        Ok(BufferedSocket {
            set,
            handle,
            rx,
            tx,
        })
    }
}

impl Piece {
    /// The piece's first `len` bytes.
    ///
    /// # Safety
    /// Called once for a piece, and the slice does not outlive it.
    unsafe fn bytes(&self, len: usize) -> &'static mut [u8] {
        let classes = self.arena.classes();
        let class = &classes[self.class];
        let len = len.clamp(1, class.piece_len);
        let (chunk, at) = class.place(self.index);
        // SAFETY: the piece lies inside its chunk, is mapped and initialized
        // (zero or written) as long as the arena lives, which `self` sees to,
        // and is owned by this `Piece` alone. Lifetime and uniqueness beyond
        // that are the caller's.
        unsafe { std::slice::from_raw_parts_mut(chunk.base().as_ptr().add(at), len) }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.arena.classes()[self.class].give_back(self.index);
    }
}

/// A TCP socket alone in its set, with the memory of its buffers.
pub(crate) struct BufferedSocket {
    // Before the pieces: it is dropped first.
    set: SocketSet<'static>,
    handle: SocketHandle,
    rx: Piece,
    tx: Piece,
}

impl BufferedSocket {
    /// The set, for the interface's polls. Nobody may take the socket out.
    pub(crate) fn set_mut(&mut self) -> &mut SocketSet<'static> {
        &mut self.set
    }

    pub(crate) fn set(&self) -> &SocketSet<'static> {
        &self.set
    }

    pub(crate) fn get(&self) -> &tcp::Socket<'static> {
        self.set.get(self.handle)
    }

    pub(crate) fn get_mut(&mut self) -> &mut tcp::Socket<'static> {
        self.set.get_mut(self.handle)
    }

    /// Gives the buffers' pages back to the system, when both are empty.
    /// The caller vouches that no data waits beyond a gap in the receive
    /// buffer either.
    pub(crate) fn discard_pages(&mut self) -> bool {
        let socket = self.get();
        if socket.recv_queue() > 0 || socket.send_queue() > 0 {
            return false;
        }
        for piece in [&self.rx, &self.tx] {
            let classes = piece.arena.classes();
            // SAFETY: `&mut self` says that smoltcp runs on neither slice now;
            // both rings are empty and nothing waits beyond a gap, so it reads
            // no byte of them before it has written it. The slices stay valid:
            // the pages read as zero when touched next.
            unsafe { classes[piece.class].discard(piece.index) };
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_reused_last_in_first_out() {
        let arena = Arena::new();
        let a = arena.piece(5_000).unwrap();
        let b = arena.piece(8_192).unwrap();
        assert_eq!(a.class, b.class);
        assert_ne!(a.index, b.index);
        let last = a.index;
        drop(b);
        drop(a);
        assert_eq!(arena.piece(8_000).unwrap().index, last);
    }

    #[test]
    fn sockets_never_share_bytes() {
        let arena = Arena::new();
        let sockets: Vec<_> = (0..100)
            .map(|_| arena.socket(65_536, 4_096).unwrap())
            .collect();
        let mut seen = std::collections::HashSet::new();
        for socket in &sockets {
            assert_eq!(socket.get().recv_capacity(), 65_536);
            assert_eq!(socket.get().send_capacity(), 4_096);
            assert!(seen.insert((socket.rx.class, socket.rx.index)));
            assert!(seen.insert((socket.tx.class, socket.tx.index)));
        }
    }

    #[test]
    fn memory_beyond_the_warm_limit_is_given_back() {
        let arena = Arena::new();
        let pieces: Vec<_> = (0..10).map(|_| arena.piece(4 << 20).unwrap()).collect();
        drop(pieces);
        let class = (22 - PAGE.ilog2()) as usize;
        let classes = arena.classes();
        assert_eq!(classes[class].warm.len(), 4);
        assert_eq!(classes[class].cold.len(), 6);
    }
}
