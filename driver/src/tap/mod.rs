//! TAP devices: Ethernet frames to and from the kernel of this machine
//! (Documentation/networking/tuntap.rst).
//!
//! One read(2) takes one frame and one write(2) gives one, so a burst costs a
//! system call a frame and the trace can tell neither ring nor completion
//! apart from them. tun-tap opens the device; it can ask for neither
//! virtio-net headers nor several queues.

mod error;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;
use tun_tap::{Iface, Mode};

use crate::clock::Nanos;
use crate::frame::{Frame, FramePool};
use crate::ring::{BURST_FRAMES, Queue, QueueInfo, RingStats};
use crate::trace::{self, Event, Stage};

pub use error::TapError;

/// Frames that the TX ring holds between two kicks.
const TX_RING_FRAMES: usize = 256;
/// Bytes of an Ethernet header with a VLAN tag, beyond the MTU.
const LINK_HEADER_LEN: usize = 18;
/// The shortest frame: an Ethernet header.
const MIN_FRAME_LEN: usize = 14;

/// How to open a TAP.
#[derive(Clone, Debug)]
pub struct TapOptions {
    /// The device's name, 1 to 15 bytes.
    pub name: String,
    /// Frames of the pool.
    pub slots: u32,
}

impl TapOptions {
    /// The device `name`, with a pool of 1,024 frames.
    pub fn new(name: &str) -> TapOptions {
        TapOptions {
            name: name.to_owned(),
            slots: 1024,
        }
    }
}

/// An open TAP with one queue.
#[derive(Debug)]
pub struct Tap {
    info: QueueInfo,
    fd: OwnedFd,
    pool: FramePool,
    tx: VecDeque<Frame>,
    stats: RingStats,
}

impl Tap {
    /// Opens the TAP of that name. Makes it if there is none, for as long as it
    /// is open; takes it if it is persistent and the caller may.
    ///
    /// # Errors
    /// [`TapError`] says what to do.
    pub fn open(options: &TapOptions) -> Result<Tap, TapError> {
        let name = &options.name;
        error::check_name(name)?;
        let iface =
            Iface::without_packet_info(name, Mode::Tap).map_err(|e| TapError::open(name, e))?;
        // SAFETY: `into_raw_fd` gives up the descriptor, which nobody else has.
        let fd = unsafe { OwnedFd::from_raw_fd(iface.into_raw_fd()) };
        let broken = |source: io::Error| TapError::Setup {
            name: name.clone(),
            source,
        };
        let flags = rustix::fs::fcntl_getfl(&fd).map_err(|e| broken(e.into()))?;
        rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK).map_err(|e| broken(e.into()))?;
        let mtu = read_mtu(name).map_err(broken)?;
        let slot_len = (mtu + LINK_HEADER_LEN).next_power_of_two().max(2048);
        let pool = FramePool::new(options.slots, slot_len, options.slots / 4)?;
        let info = QueueInfo {
            name: format!("TAP {name}"),
            mtu,
            sees_nic_rx: false,
            sees_nic_done: false,
        };
        let tx = VecDeque::with_capacity(TX_RING_FRAMES);
        Ok(Tap {
            info,
            fd,
            pool,
            tx,
            stats: RingStats::default(),
        })
    }

    /// Writes the frames of the ring until the kernel takes no more.
    fn write_ring(&mut self) -> io::Result<()> {
        while let Some(frame) = self.tx.front() {
            match rustix::io::write(&self.fd, frame) {
                Ok(_) => {
                    self.stats.tx_frames += 1;
                    self.stats.tx_bytes += frame.len() as u64;
                    trace_frame(Stage::DriverKick, frame);
                }
                Err(Errno::INTR) => continue,
                // The kernel is short of memory for the moment.
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => return Ok(()),
                Err(Errno::BADFD | Errno::BADF | Errno::NODEV) => {
                    return Err(Errno::NODEV.into());
                }
                // The interface is down (EIO), or the frame is not one that it
                // takes: the wire loses it.
                Err(_) => self.stats.tx_errors += 1,
            }
            self.tx.pop_front();
        }
        Ok(())
    }
}

/// The device's MTU, bytes. A process may see an interface and not its /sys,
/// which belongs to the mount namespace: then the kernel's default for TAPs.
fn read_mtu(name: &str) -> io::Result<usize> {
    const DEFAULT: usize = 1500;
    match std::fs::read_to_string(format!("/sys/class/net/{name}/mtu")) {
        Ok(text) => text.trim().parse().map_err(io::Error::other),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(DEFAULT),
        Err(e) => Err(e),
    }
}

fn trace_frame(stage: Stage, frame: &Frame) {
    let tag = frame.meta.tag;
    if trace::enabled() && tag.flow != 0 {
        let event = Event::new(crate::clock::now(), stage, tag.flow);
        trace::emit(event.bytes(tag.offset, tag.len as usize).frame(frame.len()));
    }
}

impl Queue for Tap {
    fn info(&self) -> &QueueInfo {
        &self.info
    }

    fn pool(&self) -> &FramePool {
        &self.pool
    }

    fn rx_burst(&mut self, now: Nanos, frames: &mut Vec<Frame>) -> io::Result<usize> {
        let mut taken = 0;
        while taken < BURST_FRAMES {
            let Some(mut frame) = self.pool.take_rx() else {
                // What is in the kernel's queue stays there.
                self.stats.rx_no_frame += 1;
                break;
            };
            frame.set_bounds(0, frame.capacity());
            match rustix::io::read(&self.fd, &mut *frame) {
                Ok(len) if len < MIN_FRAME_LEN || len > self.info.mtu + LINK_HEADER_LEN => {
                    self.stats.rx_bad_len += 1;
                }
                Ok(len) => {
                    frame.set_bounds(0, len);
                    frame.meta.polled_at = if trace::enabled() {
                        crate::clock::now()
                    } else {
                        now
                    };
                    self.stats.rx_frames += 1;
                    self.stats.rx_bytes += len as u64;
                    frames.push(frame);
                    taken += 1;
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(Errno::BADFD | Errno::BADF | Errno::NODEV) => {
                    return Err(Errno::NODEV.into());
                }
                // The interface is down; it may come up again.
                Err(_) => break,
            }
        }
        Ok(taken)
    }

    fn tx_burst(&mut self, _: Nanos, frames: &mut VecDeque<Frame>) -> io::Result<usize> {
        let room = TX_RING_FRAMES - self.tx.len();
        let taken = frames.len().min(room).min(BURST_FRAMES);
        self.stats.tx_ring_full += u64::from(taken < frames.len().min(BURST_FRAMES));
        for frame in frames.drain(..taken) {
            trace_frame(Stage::NicTx, &frame);
            self.tx.push_back(frame);
        }
        Ok(taken)
    }

    fn kick(&mut self, _: Nanos) -> io::Result<()> {
        if self.tx.is_empty() {
            return Ok(());
        }
        self.stats.kicks += 1;
        self.write_ring()
    }

    fn reclaim(&mut self, _: Nanos) -> usize {
        // A frame is back in the pool as soon as it is written.
        0
    }

    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }

    fn stats(&self) -> RingStats {
        self.stats
    }
}
