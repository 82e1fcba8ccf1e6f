//! One queue of a card, as the stack polls it.
//!
//! # Who has a slot
//! Each slot of the UMEM is on the pool's free list, or in a [`Frame`] that
//! somebody holds, or lent to the kernel. What is lent has a frame too, which
//! waits in [`Lent`] at the slot's number: lent for receiving from the time its
//! descriptor is put into the fill ring until it comes out of the RX ring, and
//! for sending from the TX ring until the completion ring. Nobody can reach a
//! lent frame, so the kernel alone touches its bytes. Only frames of the queue's own
//! pool are lent: a frame of another is copied into one of it to be sent, for its
//! slot's number means another slot here.
//!
//! The fill ring and the RX ring have the same length, and no more slots are lent
//! for receiving than that, so the RX ring is never full: what cannot be received
//! is dropped for want of a slot, in one counter.
//!
//! # Kicks
//! The kernel says in a flag of the TX ring (`XDP_USE_NEED_WAKEUP`) whether it
//! has to be called. Where it copies it always has, and sends 32 frames or so a
//! call (`TX_BATCH_SIZE` of net/xdp/xsk.c), and then says `EAGAIN`, as it also does
//! when the completion ring or the socket's send buffer is full. So a kick goes on
//! while it gets anywhere, and what is left is tried again after [`RETRY`].
//!
//! The fill ring has the same flag, which a driver sets that found the ring empty
//! or stopped its polling. It is looked at whenever slots were lent, not only
//! before sleeping: an owner that polls on would else never receive again.
//!
//! # Links
//! An interface that is down takes nothing: what is in the TX ring waits until it
//! is up again, which is counted and no error. One that is deleted is an error, for
//! good.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use xsk_rs::{FrameDesc, Umem};

use super::Held;
use super::bind::{self, Rings};
use super::error::Place;
use super::interface::Interface;
use super::lent::Lent;
use super::options::{Shape, XdpOptions};
use super::stats::{Occupancy, Shared};
use super::umem::Memory;
use super::{XdpError, sys};
use crate::clock::Nanos;
use crate::frame::{Frame, FrameMeta, FramePool, Spares};
use crate::ring::{
    BURST_FRAMES, ETHERNET_HEADER, Queue, QueueInfo, RingFill, RingStats, trace_frame,
};
use crate::trace::{self, Kind, enabled, stamp_if_enabled};

/// How long to wait before calling the kernel again that left frames in the TX
/// ring. Nothing announces that it could take more.
const RETRY: Duration = Duration::from_millis(1);

/// How often a queue that receives nothing asks whether its interface is still
/// there, and one that cannot send whether it is up.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// How often a busy queue lets others see how far it is. To look at a ring's other
/// cursor takes a cache line from whoever moves it.
const SHOW_INTERVAL: Duration = Duration::from_millis(1);

/// One queue of an interface. Dropping it closes its socket; the program leaves
/// the interface with the last queue.
pub struct XdpQueue {
    /// First, so that nobody asks a socket that is closed.
    shared: Closing,
    rings: Rings,
    lent: Lent,
    spares: Spares,
    /// By slot.
    slots: Box<[FrameDesc]>,
    umem: Umem,
    /// The length of a slot, which is a power of two, as its exponent.
    frame_len_log2: u32,
    pool: FramePool,
    _held: Option<Arc<Held>>,
    info: QueueInfo,
    interface: String,
    stats: RingStats,
    is_zero_copy: bool,
    is_busy_polling: bool,
    ring_len: u32,
    /// Slots to lend for receiving.
    rx_share: u32,
    /// Slots lent for receiving.
    rx_lent: u32,
    /// Descriptors taken off the RX ring, put into the TX ring, and taken off the
    /// completion ring.
    received: u64,
    queued: u64,
    completed: u64,
    /// Whether the TX ring has frames that the kernel was not told of.
    is_unkicked: bool,
    /// What those carry, while tracing.
    unkicked: Vec<(FrameMeta, usize)>,
    /// When to call the kernel again, which left frames in the TX ring.
    retry_at: Option<Nanos>,
    check_at: Nanos,
    /// When to let others see how far it is.
    show_at: Nanos,
    /// What the kernel said when the interface was gone.
    gone: Option<i32>,
    /// Where descriptors go through.
    descs: [FrameDesc; BURST_FRAMES],
}

struct Closing(Arc<Shared>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Binds a socket to queue `number`, and lends it frames to receive into.
pub(super) fn open(
    options: &XdpOptions,
    interface: &Interface,
    shape: Shape,
    number: u32,
) -> Result<XdpQueue, XdpError> {
    let memory = Memory::create(shape, options.huge_pages)?;
    let place = Place {
        interface: &interface.name,
        queue: number,
        bytes: shape.bytes(),
    };
    let rings = bind::bind(options, shape, &memory.umem, &place)?;
    let socket = rings.socket();
    let is_zero_copy = socket.is_zero_copy().map_err(|source| XdpError::System {
        step: "read how an AF_XDP socket was bound",
        source,
    })?;
    let info = QueueInfo {
        name: format!("xdp {} queue {number}", interface.name),
        mtu: interface.mtu as usize,
        sees_nic_rx: false,
        sees_nic_done: true,
    };
    let mut queue = XdpQueue {
        shared: Closing(Arc::new(Shared::new(number, shape.ring_len_frames, socket))),
        rings,
        lent: Lent::new(shape.frames),
        spares: Spares::new(&memory.pool),
        slots: memory.descs,
        umem: memory.umem,
        frame_len_log2: shape.frame_len.ilog2(),
        pool: memory.pool,
        _held: None,
        info,
        interface: interface.name.clone(),
        stats: RingStats::default(),
        is_zero_copy,
        is_busy_polling: options.busy_poll.is_some(),
        ring_len: shape.ring_len_frames,
        rx_share: shape.ring_len_frames.min(shape.frames / 2),
        rx_lent: 0,
        received: 0,
        queued: 0,
        completed: 0,
        is_unkicked: false,
        unkicked: Vec::new(),
        retry_at: None,
        check_at: Nanos(0),
        show_at: Nanos(0),
        gone: None,
        descs: [FrameDesc::default(); BURST_FRAMES],
    };
    while queue.lend() > 0 {}
    queue.show();
    Ok(queue)
}

impl XdpQueue {
    /// Whether the card reaches into the UMEM itself.
    pub fn is_zero_copy(&self) -> bool {
        self.is_zero_copy
    }

    /// Takes frames of this queue that were read, which saves the pool's lock for
    /// each.
    pub fn give_back(&mut self, frames: impl IntoIterator<Item = Frame>) {
        frames.into_iter().for_each(|frame| self.spares.put(frame));
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        self.shared.0.clone()
    }

    /// Keeps the program on the interface while the queue lives.
    pub(super) fn keep(&mut self, held: Arc<Held>) {
        self._held = Some(held);
    }

    pub(super) fn with_socket<T>(&self, f: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        f(self.fd())
    }

    fn socket(&self) -> sys::Socket {
        self.rings.socket()
    }

    fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket is open as long as the rings that self owns.
        unsafe { BorrowedFd::borrow_raw(self.socket().0) }
    }

    /// Takes up to a burst off the RX ring; returns how many were good.
    fn receive(&mut self, now: Nanos, frames: &mut Vec<Frame>) -> usize {
        // SAFETY: the descriptors that were there are copies that nobody uses.
        let count = unsafe { self.rings.rx.consume(&mut self.descs) };
        if count == 0 {
            return 0;
        }
        let at = stamp_if_enabled();
        let before = frames.len();
        for place in 0..count {
            let desc = self.descs[place];
            if let Some(mut frame) = self.received_frame(&desc) {
                frame.meta.polled_at = now;
                frame.meta.stamp = at;
                self.stats.rx_frames += 1;
                self.stats.rx_bytes += frame.len() as u64;
                frames.push(frame);
            }
        }
        frames.len() - before
    }

    /// The slot that a descriptor names, and the byte in it.
    fn place(&self, desc: &FrameDesc) -> (usize, usize) {
        let in_slot = (1 << self.frame_len_log2) - 1;
        (desc.addr() >> self.frame_len_log2, desc.addr() & in_slot)
    }

    /// The frame that a descriptor of the RX ring tells of, unless it makes no
    /// sense.
    fn received_frame(&mut self, desc: &FrameDesc) -> Option<Frame> {
        let (slot, at) = self.place(desc);
        let mut frame = self.lent.take(slot)?;
        self.rx_lent -= 1;
        self.received += 1;
        let (start, len) = (
            at.checked_sub(super::umem::HEADROOM as usize),
            desc.lengths().data(),
        );
        match start {
            Some(start) if len >= ETHERNET_HEADER && start + len <= frame.capacity() => {
                frame.reset();
                frame.set_bounds(start, len);
                Some(frame)
            }
            _ => {
                self.stats.rx_bad_len += 1;
                self.spares.put(frame);
                None
            }
        }
    }

    /// Lends the kernel up to a burst of slots to receive into; returns how many.
    fn lend(&mut self) -> usize {
        let wanted = (self.rx_share - self.rx_lent).min(BURST_FRAMES as u32) as usize;
        let mut count = 0;
        while count < wanted {
            let at_hand = self.spares.take();
            let Some(frame) = at_hand.or_else(|| self.restock(wanted - count)) else {
                self.stats.rx_no_frame += 1;
                break;
            };
            self.descs[count] = self.slots[frame.slot() as usize];
            self.lent.put(frame);
            count += 1;
        }
        // SAFETY: the descriptors are of this socket's UMEM, and their frames
        // have just been put where nobody reaches them.
        let taken = unsafe { self.rings.fill.produce(&self.descs[..count]) };
        assert_eq!(taken, count, "the fill ring has room for all that is lent");
        self.rx_lent += taken as u32;
        taken
    }

    /// A frame off the pool, with the others that are wanted at hand.
    fn restock(&mut self, wanted: usize) -> Option<Frame> {
        self.spares.stock(wanted);
        self.spares.take()
    }

    /// Lends what came back, a good part of a burst at a time.
    fn lend_again(&mut self) {
        let missing = self.rx_share - self.rx_lent;
        if missing >= (BURST_FRAMES as u32 / 2).min(self.rx_share / 4).max(1) {
            while self.lend() == BURST_FRAMES {}
            self.wake_receiver();
        }
    }

    /// Tells the kernel of lent slots if it asked for that.
    fn wake_receiver(&mut self) {
        order_before_flag();
        if self.rings.fill.needs_wakeup() {
            // It fails while the interface is down, when nothing comes in.
            let _ = self.socket().kick_rx();
        }
    }

    /// With nothing received: drives a card that is busy-polled, and asks now and
    /// then whether the interface is still there.
    fn look_again(&mut self, now: Nanos, frames: &mut Vec<Frame>) -> io::Result<usize> {
        if now >= self.check_at {
            self.check_at = now + CHECK_INTERVAL;
            // The kernel tells it once.
            self.socket().take_error().map_err(|e| self.note_gone(&e))?;
        }
        if !self.is_busy_polling {
            return Ok(0);
        }
        // It fails while the interface is down, when nothing comes in anyway.
        let _ = self.socket().kick_rx();
        Ok(self.receive(now, frames))
    }

    /// The error of this call, and of all later ones.
    fn note_gone(&mut self, error: &io::Error) -> io::Error {
        let errno = *self
            .gone
            .insert(error.raw_os_error().unwrap_or(libc::ENETDOWN));
        self.say_gone(errno)
    }

    fn say_gone(&self, errno: i32) -> io::Error {
        let error = io::Error::from_raw_os_error(errno);
        let text = format!("the interface {} is gone ({error})", self.interface);
        io::Error::new(io::ErrorKind::NotConnected, text)
    }

    fn check_gone(&self) -> io::Result<()> {
        self.gone.map_or(Ok(()), |errno| Err(self.say_gone(errno)))
    }

    /// The frame to send for `frame`: itself, or a copy of one of another pool,
    /// whose slot is none of ours. None, and counted, where no card could send it;
    /// itself as an error where there is no slot for a copy now.
    fn own(&mut self, frame: Frame) -> Result<Option<Frame>, Frame> {
        if !(ETHERNET_HEADER..=self.pool.slot_len()).contains(&frame.len()) {
            self.stats.tx_errors += 1;
            return Ok(None);
        }
        if frame.is_of(&self.pool) {
            return Ok(Some(frame));
        }
        let Some(mut copy) = self.spares.take().or_else(|| self.pool.take_tx()) else {
            return Err(frame);
        };
        copy.set_bounds(0, frame.len());
        copy.copy_from_slice(&frame);
        copy.meta = frame.meta;
        Ok(Some(copy))
    }

    /// Moves frames to `descs` until there are `room`; returns how many there are,
    /// and how many frames were taken for that.
    fn prepare_all(&mut self, room: usize, frames: &mut VecDeque<Frame>) -> (usize, usize) {
        let (mut count, mut taken) = (0, 0);
        while count < room && taken < BURST_FRAMES {
            let Some(frame) = frames.pop_front() else {
                break;
            };
            match self.own(frame) {
                Ok(Some(frame)) => {
                    self.prepare(count, frame);
                    count += 1;
                }
                Ok(None) => {}
                Err(frame) => {
                    frames.push_front(frame);
                    break;
                }
            }
            taken += 1;
        }
        (count, taken)
    }

    /// Puts a frame of ours into `descs`, and where nobody reaches it.
    fn prepare(&mut self, place: usize, mut frame: Frame) {
        frame.move_to_start();
        let len = frame.len();
        let mut desc = self.slots[frame.slot() as usize];
        // SAFETY: the slot is `frame`'s, whose bytes nobody refers to now.
        unsafe { self.umem.data_mut(&mut desc) }
            .cursor()
            .set_pos(len);
        self.descs[place] = desc;
        if enabled() && frame.meta.tag.flow != 0 {
            frame.meta.ring_stamp = trace::stamp();
            self.unkicked.push((frame.meta, len));
        }
        self.stats.tx_frames += 1;
        self.stats.tx_bytes += len as u64;
        self.lent.put(frame);
    }

    /// Frames in the TX ring.
    fn in_tx_ring(&mut self) -> u32 {
        self.ring_len - self.rings.tx.nb_free_exact()
    }

    /// Has the kernel take what is in the TX ring, as far as it does.
    fn drive(&mut self, now: Nanos) -> io::Result<()> {
        self.retry_at = None;
        let mut left = self.in_tx_ring();
        while left > 0 {
            match self.socket().kick_tx().map_err(|e| (e.raw_os_error(), e)) {
                // All of it was taken, or the card will.
                Ok(()) => return Ok(()),
                Err((Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::EINTR), _)) => {}
                Err((Some(libc::ENETDOWN), _)) => {
                    self.shared.0.count_link_down();
                    self.retry_at = Some(now + CHECK_INTERVAL);
                    return Ok(());
                }
                Err((_, error)) => return Err(self.note_gone(&error)),
            }
            self.take_back();
            let before = std::mem::replace(&mut left, self.in_tx_ring());
            if left >= before {
                break;
            }
        }
        self.retry_at = (left > 0).then(|| now + RETRY);
        Ok(())
    }

    fn drive_if_due(&mut self, now: Nanos) -> io::Result<()> {
        match self.retry_at {
            Some(at) if at <= now => self.drive(now),
            _ => Ok(()),
        }
    }

    /// Takes sent frames off the completion ring; returns how many.
    fn take_back(&mut self) -> usize {
        let mut taken = 0;
        loop {
            // SAFETY: the descriptors that were there are copies that nobody
            // uses.
            let count = unsafe { self.rings.comp.consume(&mut self.descs) };
            for place in 0..count {
                let (slot, _) = self.place(&self.descs[place]);
                if let Some(frame) = self.lent.take(slot) {
                    trace_frame(stamp_if_enabled(), Kind::NicDone, &frame);
                    self.spares.put(frame);
                }
            }
            taken += count;
            if count < BURST_FRAMES {
                break;
            }
        }
        self.completed += taken as u64;
        taken
    }

    /// Lets others see how far it is.
    fn show(&mut self) {
        let shared = &self.shared.0;
        let rx = self.rings.rx.nb_avail_exact();
        shared.show(&Occupancy {
            fill: self.rx_lent.saturating_sub(rx),
            rx,
            tx: self.ring_len - self.rings.tx.nb_free_exact(),
            completion: self.rings.comp.nb_avail_exact(),
        });
        shared.count(self.received, self.queued, self.completed);
    }
}

/// A ring's position was written before the ring's flag is read. The kernel
/// does the same the other way round, so one of the two sees the other's; else a
/// frame could wait for a call that nobody makes.
fn order_before_flag() {
    fence(Ordering::SeqCst);
}

impl Drop for XdpQueue {
    /// The last counts, before the rings go.
    fn drop(&mut self) {
        self.take_back();
        self.show();
    }
}

impl Queue for XdpQueue {
    fn info(&self) -> &QueueInfo {
        &self.info
    }

    fn pool(&self) -> &FramePool {
        &self.pool
    }

    fn rx_burst(&mut self, now: Nanos, frames: &mut Vec<Frame>) -> io::Result<usize> {
        self.check_gone()?;
        self.drive_if_due(now)?;
        let mut taken = self.receive(now, frames);
        if taken == 0 {
            taken = self.look_again(now, frames)?;
        }
        self.lend_again();
        if now >= self.show_at {
            self.show_at = now + SHOW_INTERVAL;
            self.show();
        }
        Ok(taken)
    }

    fn tx_burst(&mut self, _now: Nanos, frames: &mut VecDeque<Frame>) -> io::Result<usize> {
        self.check_gone()?;
        self.take_back();
        let wanted = frames.len().min(BURST_FRAMES);
        let free = self.rings.tx.nb_free(wanted as u32) as usize;
        let (count, taken) = self.prepare_all(wanted.min(free), frames);
        self.stats.tx_ring_full += u64::from(taken < wanted);
        // SAFETY: the descriptors are of this socket's UMEM, and their frames
        // have just been put where nobody reaches them.
        let queued = unsafe { self.rings.tx.produce(&self.descs[..count]) };
        assert_eq!(
            queued, count,
            "a ring of which we are the producer does not fill by itself"
        );
        self.queued += count as u64;
        self.is_unkicked |= count > 0;
        Ok(taken)
    }

    fn kick(&mut self, now: Nanos) -> io::Result<()> {
        if !std::mem::take(&mut self.is_unkicked) {
            return Ok(());
        }
        self.stats.kicks += 1;
        let kicked = stamp_if_enabled();
        for (meta, frame_len) in self.unkicked.drain(..) {
            trace::departed(&meta, frame_len, kicked);
        }
        order_before_flag();
        if self.rings.tx.needs_wakeup() {
            self.drive(now)?;
        }
        Ok(())
    }

    fn reclaim(&mut self, _now: Nanos) -> usize {
        self.take_back()
    }

    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd())
    }

    fn arm(&mut self) -> bool {
        self.wake_receiver();
        self.show();
        self.rings.rx.nb_avail(1) > 0
    }

    fn next_event(&self) -> Option<Nanos> {
        self.retry_at
    }

    fn stats(&self) -> RingStats {
        self.stats
    }

    fn rings(&self) -> Vec<RingFill> {
        let now = self.shared.0.occupancy();
        let ring = |name, used| RingFill {
            name,
            len: self.ring_len,
            used,
        };
        vec![
            ring("fill", now.fill),
            ring("rx", now.rx),
            ring("tx", now.tx),
            ring("completion", now.completion),
        ]
    }
}

impl fmt::Debug for XdpQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("XdpQueue")
            .field("info", &self.info)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}
