//! A TAP device: Ethernet frames to and from the kernel by read(2) and
//! write(2), one frame a call.
//!
//! * [`open`](self) asks the kernel for the device; [`Tap`] is the queue.
//! * The kernel's queue towards us is the RX ring. It cannot be looked at, so
//!   there is no `nic.rx` time. [`Tap::rx_burst`] reads until `EAGAIN`. That last
//!   read costs a call, but leaving it out saves none: a caller must learn
//!   somehow that the ring is empty, and asking epoll is dearer. Stopping early
//!   (a full burst, an empty pool) is safe because the fd is level-triggered:
//!   it stays readable while frames wait.
//! * The TX ring is a list in memory. A write is kick and completion in one, so
//!   there is no `nic.done` time. When the kernel is short of room (`EAGAIN`,
//!   `ENOBUFS`, `ENOMEM`) the frames stay in the ring, in order, for the next
//!   kick or [`Tap::next_event`], whichever comes first.
//!
//! * With `offload` each frame has a header before it (`vnet`), and the kernel
//!   completes checksums and cuts long TCP segments.
//!
//! Kernel behaviour: Documentation/networking/tuntap.rst and
//! drivers/net/tun.c. tun-tap opens a plain TAP; it cannot ask for several
//! queues or for that header, so those are opened by a `TUNSETIFF` of our own.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;

use crate::clock::Nanos;
use crate::frame::{Frame, FramePool, Spares};
use crate::ring::{
    BURST_FRAMES, ETHERNET_HEADER, Queue, QueueInfo, RingFill, RingStats, VLAN_TAG, move_to_ring,
};
use crate::trace::{self, stamp_if_enabled};

mod error;
mod open;
#[cfg(test)]
mod tests;
mod vnet;

pub use error::{NameFault, TapError};

/// Frames that the TX ring holds: four bursts, so that a kernel that is busy
/// for a moment does not push back on the stack at once.
const TX_RING_FRAMES: usize = 256;

/// How long to wait before writing again after the kernel was short of room.
/// Nothing announces that there is room again but `EPOLLOUT`, which nobody
/// waits for because it is true nearly always.
const RETRY: Duration = Duration::from_millis(1);

/// How to open a TAP.
#[derive(Clone, Debug)]
pub struct TapOptions {
    /// The device's name, up to 15 bytes. It is made if it does not exist and
    /// then vanishes with the queue. A `%d` in it stands for the first free
    /// number.
    pub name: String,
    /// The MTU to give the device, in bytes. None leaves what it has, which is
    /// 1500 for a new one.
    pub mtu: Option<usize>,
    /// Slots of each queue's frame pool.
    pub slots: u32,
    /// Whether the kernel completes checksums and cuts long TCP segments. True
    /// unless changed; a device of several queues always does.
    pub offload: bool,
}

/// Frames for long TCP segments, of 64 KiB each.
const LONG_FRAMES: u32 = 64;
const LONG_FRAME_LEN: usize = 64 * 1024;

impl TapOptions {
    /// The TAP `name` with its own MTU and 2048 slots.
    pub fn new(name: impl Into<String>) -> TapOptions {
        TapOptions {
            name: name.into(),
            mtu: None,
            slots: 2048,
            offload: true,
        }
    }
}

/// One queue of a TAP device.
#[derive(Debug)]
pub struct Tap {
    fd: OwnedFd,
    name: String,
    info: QueueInfo,
    pool: FramePool,
    /// There where each frame has a header before it.
    long: Option<FramePool>,
    stats: RingStats,
    /// Frames that were written, or taken for a read that found nothing.
    spares: Spares,
    tx: VecDeque<Frame>,
    /// When to write again, after the kernel was short of room.
    retry_at: Option<Nanos>,
}

impl Tap {
    /// Opens the TAP, makes its pool, and reads its MTU. The device is not
    /// brought up and gets no address: that is for who runs the machine.
    ///
    /// # Errors
    /// See [`TapError`], which says what to do.
    pub fn open(options: &TapOptions) -> Result<Tap, TapError> {
        let (fd, name) = match options.offload {
            true => open::open_with_header(&options.name)?,
            false => open::open(&options.name)?,
        };
        let mtu = wanted_mtu(options, &name)?;
        let mut tap = Tap::from_fd(fd, name, 0, mtu, pool(options, mtu)?);
        if options.offload {
            tap.long = Some(long_pool()?);
        }
        Ok(tap)
    }

    /// Opens `queues` queues of the TAP, each with a pool of its own. The kernel
    /// sends a flow's frames to the queue that it last had a frame of that flow
    /// from, and those of flows that it does not know by a hash
    /// (`tun_select_queue` of drivers/net/tun.c).
    ///
    /// One queue is opened as [`Tap::open`] does. Several take a device that was
    /// made for several, or that does not exist yet.
    ///
    /// # Errors
    /// See [`TapError`], which says what to do.
    pub fn open_queues(options: &TapOptions, queues: u32) -> Result<Vec<Tap>, TapError> {
        if queues == 1 {
            return Tap::open(options).map(|tap| vec![tap]);
        }
        let (first, name) = open::open_queue(&options.name, queues)?;
        let mut fds = vec![first];
        while fds.len() < queues as usize {
            fds.push(open::open_queue(&name, queues)?.0);
        }
        let mtu = wanted_mtu(options, &name)?;
        let taps = (0..).zip(fds).map(|(number, fd)| {
            let pool = pool(options, mtu)?;
            let mut tap = Tap::from_fd(fd, name.clone(), number, mtu, pool);
            tap.long = Some(long_pool()?);
            Ok(tap)
        });
        taps.collect()
    }

    fn from_fd(fd: OwnedFd, name: String, number: u32, mtu: usize, pool: FramePool) -> Tap {
        let info = QueueInfo {
            name: format!("tap {name} queue {number}"),
            mtu,
            sees_nic_rx: false,
            sees_nic_done: false,
        };
        Tap {
            fd,
            name,
            info,
            spares: Spares::new(&pool),
            pool,
            long: None,
            stats: RingStats::default(),
            tx: VecDeque::with_capacity(TX_RING_FRAMES),
            retry_at: None,
        }
    }

    /// The device's name, as the kernel has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads one frame; none when no frame waits.
    fn read(&mut self, now: Nanos, mut frame: Frame) -> io::Result<Read> {
        frame.set_bounds(0, frame.capacity());
        let len = loop {
            match rustix::io::read(&self.fd, &mut *frame) {
                Ok(len) => break len,
                Err(Errno::INTR) => {}
                Err(errno) => {
                    self.spares.put(frame);
                    let empty = errno == Errno::AGAIN;
                    return if empty {
                        Ok(Read::Empty)
                    } else {
                        Err(errno.into())
                    };
                }
            }
        };
        let start = self.header_len();
        if len < start + ETHERNET_HEADER || len == frame.capacity() {
            self.stats.rx_bad_len += 1;
            self.spares.put(frame);
            return Ok(Read::Bad);
        }
        frame.meta.offload = vnet::offload(&frame[..start]);
        frame.set_bounds(start, len - start);
        frame.meta.polled_at = now;
        frame.meta.stamp = stamp_if_enabled();
        Ok(Read::Frame(frame))
    }

    /// Bytes that are before each frame.
    fn header_len(&self) -> usize {
        self.long.as_ref().map_or(0, |_| vnet::HEADER_LEN)
    }

    fn write(&self, frame: &Frame) -> Result<usize, Errno> {
        match &self.long {
            None => rustix::io::write(&self.fd, frame),
            Some(_) => {
                let header = vnet::header(frame);
                rustix::io::writev(&self.fd, &[IoSlice::new(&header), IoSlice::new(frame)])
            }
        }
    }

    /// Writes what is in the TX ring, as far as the kernel takes it.
    fn write_ring(&mut self, now: Nanos) -> io::Result<()> {
        self.retry_at = None;
        while let Some(frame) = self.tx.front() {
            match self.write(frame) {
                Ok(_) => {
                    trace::departed(&frame.meta, frame.len(), stamp_if_enabled());
                    self.stats.tx_frames += 1;
                    self.stats.tx_bytes += frame.len() as u64;
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => {
                    self.retry_at = Some(now + RETRY);
                    return Ok(());
                }
                // The interface is not up: what waits is lost, as on a NIC
                // without a cable.
                Err(Errno::IO) => {
                    self.stats.tx_down += self.tx.len() as u64;
                    self.tx.clear();
                    return Ok(());
                }
                // The interface was deleted under the fd.
                Err(gone @ (Errno::BADFD | Errno::BADF | Errno::NODEV)) => return Err(gone.into()),
                Err(_) => self.stats.tx_errors += 1,
            }
            if let Some(done) = self.tx.pop_front() {
                self.spares.put(done);
            }
        }
        Ok(())
    }

    fn write_if_due(&mut self, now: Nanos) -> io::Result<()> {
        match self.retry_at {
            Some(at) if at <= now => self.write_ring(now),
            _ => Ok(()),
        }
    }
}

/// The device's MTU in bytes, after it was set where asked for.
fn wanted_mtu(options: &TapOptions, name: &str) -> Result<usize, TapError> {
    if let Some(mtu) = options.mtu {
        open::set_mtu(name, mtu)?;
    }
    open::mtu(name)
}

fn pool(options: &TapOptions, mtu: usize) -> Result<FramePool, TapError> {
    let slots = options.slots;
    // A read that fills the slot may have been cut, so the slot is longer than
    // any frame that fits the MTU.
    let longest = vnet::HEADER_LEN + mtu + ETHERNET_HEADER + VLAN_TAG;
    let slot_len = (longest + 1).next_power_of_two().clamp(2048, 65536);
    Ok(FramePool::new(slots, slot_len, slots / 4)?)
}

fn long_pool() -> Result<FramePool, TapError> {
    Ok(FramePool::new(LONG_FRAMES, LONG_FRAME_LEN, 0)?)
}

/// What one read gave.
enum Read {
    Frame(Frame),
    Bad,
    Empty,
}

impl Queue for Tap {
    fn info(&self) -> &QueueInfo {
        &self.info
    }

    fn pool(&self) -> &FramePool {
        &self.pool
    }

    fn long_segments(&self) -> Option<&FramePool> {
        self.long.as_ref()
    }

    fn rx_burst(&mut self, now: Nanos, frames: &mut Vec<Frame>) -> io::Result<usize> {
        self.write_if_due(now)?;
        let mut taken = 0;
        for _ in 0..BURST_FRAMES {
            let Some(frame) = self.spares.take().or_else(|| self.pool.take_rx()) else {
                self.stats.rx_no_frame += 1;
                break;
            };
            match self.read(now, frame)? {
                Read::Frame(frame) => {
                    self.stats.rx_frames += 1;
                    self.stats.rx_bytes += frame.len() as u64;
                    frames.push(frame);
                    taken += 1;
                }
                Read::Bad => {}
                Read::Empty => break,
            }
        }
        Ok(taken)
    }

    fn tx_burst(&mut self, _now: Nanos, frames: &mut VecDeque<Frame>) -> io::Result<usize> {
        let room = TX_RING_FRAMES - self.tx.len();
        Ok(move_to_ring(&mut self.tx, room, frames, &mut self.stats))
    }

    fn kick(&mut self, now: Nanos) -> io::Result<()> {
        if self.tx.is_empty() {
            return Ok(());
        }
        self.stats.kicks += 1;
        self.write_ring(now)
    }

    /// Nothing to take back: a write is its own completion.
    fn reclaim(&mut self, _now: Nanos) -> usize {
        0
    }

    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }

    fn next_event(&self) -> Option<Nanos> {
        self.retry_at
    }

    fn stats(&self) -> RingStats {
        self.stats
    }

    fn rings(&self) -> Vec<RingFill> {
        vec![RingFill {
            name: "tx",
            len: TX_RING_FRAMES as u32,
            used: self.tx.len() as u32,
        }]
    }
}
