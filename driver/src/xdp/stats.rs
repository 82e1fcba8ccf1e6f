//! What a queue and its socket count, readable from any thread.
//!
//! The ledger: a frame that the program redirected was received, or waits in an
//! RX ring, or is in one of the kernel's counters of drops; a frame that was put
//! into a TX ring came back through the completion ring, or is still out, or was
//! invalid. [`QueueStats::each`] gives every term.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::filter::{Counters, Verdicts};
use super::sys::{Socket, Statistics};

macro_rules! fields {
    ($(#[doc = $what:literal])+ $name:ident { $($(#[doc = $doc:literal])+ $field:ident: $kind:ty,)+ }) => {
        $(#[doc = $what])+
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: $kind,)+
        }

        impl $name {
            /// Calls `f` with the name and value of each.
            pub fn each(&self, mut f: impl FnMut(&'static str, u64)) {
                $(f(stringify!($field), u64::from(self.$field));)+
            }
        }
    };
}

fields! {
    /// `XDP_STATISTICS` of a socket (linux/if_xdp.h).
    KernelStats {
        /// Frames for the socket that were dropped: the fill ring was empty, or
        /// they did not fit a slot.
        rx_dropped: u64,
        /// Descriptors of the fill ring that the kernel did not understand.
        rx_invalid_descs: u64,
        /// Descriptors of the TX ring that the kernel did not understand.
        tx_invalid_descs: u64,
        /// Frames dropped because the RX ring was full.
        rx_ring_full: u64,
        /// Times that the fill ring was found empty; what was dropped for that
        /// is in `rx_dropped`.
        rx_fill_ring_empty_descs: u64,
        /// Times that the TX ring was found empty.
        tx_ring_empty_descs: u64,
    }
}

fields! {
    /// Descriptors in each ring when the queue last looked.
    Occupancy {
        /// Slots that the kernel has for what comes in, and has not used.
        fill: u32,
        /// Received frames that wait for us.
        rx: u32,
        /// Frames to send that wait for the kernel.
        tx: u32,
        /// Sent frames that wait to be taken back.
        completion: u32,
    }
}

/// What one queue did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// The queue's number.
    pub queue: u32,
    /// Descriptors of each ring.
    pub ring_len_frames: u32,
    /// What the kernel counts.
    pub kernel: KernelStats,
    /// How full the rings are.
    pub occupancy: Occupancy,
    /// Descriptors taken off the RX ring.
    pub received: u64,
    /// Descriptors put into the TX ring.
    pub queued: u64,
    /// Descriptors that came back through the completion ring.
    pub completed: u64,
    /// Times that the kernel was to send and the interface was down. The frames
    /// wait in the TX ring.
    pub link_down: u64,
}

impl QueueStats {
    /// Calls `f` with the name and value of each counter.
    pub fn each(&self, mut f: impl FnMut(&'static str, u64)) {
        f("received", self.received);
        f("queued", self.queued);
        f("completed", self.completed);
        f("in_flight", self.in_flight());
        f("link_down", self.link_down);
        self.kernel.each(&mut f);
    }

    /// Frames for the socket, as its own counters tell: received, waiting, or
    /// dropped by the kernel.
    pub fn redirected(&self) -> u64 {
        let waiting = u64::from(self.occupancy.rx);
        self.received + waiting + self.kernel.rx_dropped + self.kernel.rx_ring_full
    }

    /// Frames in the TX ring, in the card, or in the completion ring.
    pub fn in_flight(&self) -> u64 {
        self.queued
            .saturating_sub(self.completed)
            .saturating_sub(self.kernel.tx_invalid_descs)
    }
}

/// What all queues and the program did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct XdpStats {
    /// Each queue, in the order of their numbers.
    pub queues: Vec<QueueStats>,
    /// What the program did with the frames of all queues.
    pub verdicts: Verdicts,
}

impl XdpStats {
    /// Frames that the program redirected and that no queue tells of. 0 on a
    /// quiet interface; while frames come in, the counters are read one after
    /// the other and may be apart.
    pub fn unaccounted(&self) -> i64 {
        let told: u64 = self.queues.iter().map(QueueStats::redirected).sum();
        self.verdicts.redirected().cast_signed() - told.cast_signed()
    }
}

/// Reads the counters of an interface's queues, from any thread, without a
/// capability, also after they were closed.
#[derive(Clone, Debug)]
pub struct Monitor {
    counters: Counters,
    queues: Arc<[Arc<Shared>]>,
}

impl Monitor {
    pub(super) fn new(counters: Counters, queues: impl Iterator<Item = Arc<Shared>>) -> Monitor {
        Monitor {
            counters,
            queues: queues.collect(),
        }
    }

    /// The counters now.
    pub fn read(&self) -> XdpStats {
        XdpStats {
            queues: self.queues.iter().map(|queue| queue.read()).collect(),
            verdicts: self.counters.read(),
        }
    }
}

/// What a queue lets others see of it.
#[derive(Debug)]
pub(super) struct Shared {
    queue: u32,
    ring_len: u32,
    socket: Mutex<Source>,
    fill: AtomicU32,
    rx: AtomicU32,
    tx: AtomicU32,
    completion: AtomicU32,
    received: AtomicU64,
    queued: AtomicU64,
    completed: AtomicU64,
    link_down: AtomicU64,
}

/// Where the kernel's counters come from.
#[derive(Debug)]
enum Source {
    Open(Socket),
    /// What they were at last.
    Closed(KernelStats),
}

impl Shared {
    pub(super) fn new(queue: u32, ring_len: u32, socket: Socket) -> Shared {
        Shared {
            queue,
            ring_len,
            socket: Mutex::new(Source::Open(socket)),
            fill: AtomicU32::new(0),
            rx: AtomicU32::new(0),
            tx: AtomicU32::new(0),
            completion: AtomicU32::new(0),
            received: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            completed: AtomicU64::new(0),
            link_down: AtomicU64::new(0),
        }
    }

    /// How full the rings were when the queue last looked.
    pub(super) fn occupancy(&self) -> Occupancy {
        Occupancy {
            fill: self.fill.load(Relaxed),
            rx: self.rx.load(Relaxed),
            tx: self.tx.load(Relaxed),
            completion: self.completion.load(Relaxed),
        }
    }

    pub(super) fn show(&self, at: &Occupancy) {
        self.fill.store(at.fill, Relaxed);
        self.rx.store(at.rx, Relaxed);
        self.tx.store(at.tx, Relaxed);
        self.completion.store(at.completion, Relaxed);
    }

    pub(super) fn count(&self, received: u64, queued: u64, completed: u64) {
        self.received.store(received, Relaxed);
        self.queued.store(queued, Relaxed);
        self.completed.store(completed, Relaxed);
    }

    pub(super) fn count_link_down(&self) {
        self.link_down.fetch_add(1, Relaxed);
    }

    /// Notes the last counters; nobody asks the socket after that.
    pub(super) fn close(&self) {
        let mut source = self.source();
        if let Source::Open(socket) = *source {
            *source = Source::Closed(kernel_stats(socket));
        }
    }

    fn read(&self) -> QueueStats {
        // Held while asking, so that the socket is not closed meanwhile.
        let source = self.source();
        let kernel = match *source {
            Source::Open(socket) => kernel_stats(socket),
            Source::Closed(last) => last,
        };
        drop(source);
        QueueStats {
            queue: self.queue,
            ring_len_frames: self.ring_len,
            kernel,
            occupancy: self.occupancy(),
            received: self.received.load(Relaxed),
            queued: self.queued.load(Relaxed),
            completed: self.completed.load(Relaxed),
            link_down: self.link_down.load(Relaxed),
        }
    }

    fn source(&self) -> MutexGuard<'_, Source> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All zero where the kernel does not tell, which it does since Linux 4.18.
fn kernel_stats(socket: Socket) -> KernelStats {
    let told: Statistics = socket.statistics().unwrap_or_default();
    KernelStats {
        rx_dropped: told.rx_dropped,
        rx_invalid_descs: told.rx_invalid_descs,
        tx_invalid_descs: told.tx_invalid_descs,
        rx_ring_full: told.rx_ring_full,
        rx_fill_ring_empty_descs: told.rx_fill_ring_empty_descs,
        tx_ring_empty_descs: told.tx_ring_empty_descs,
    }
}
