//! A cable: two queues joined in memory.
//!
//! What one end sends, the other receives, in order. A frame is copied into
//! the receiver's pool when it is received, so the ends share no memory but
//! the wire; when the receiver is slow the wire fills, and the sender's ring is
//! full, as on a NIC with flow control. An end whose other end was dropped loses
//! what it sends (`tx_errors`). For tests, simulation, and a demo
//! without privileges.
//!
//! **Sleeping.** Each end has an eventfd. A busy receiver is not written to: it
//! says that it is about to sleep ([`Queue::arm`]), then looks at the wire once
//! more; the sender puts frames on the wire, then looks whether the receiver
//! sleeps. Both sides put a sequentially consistent fence between their write
//! and their look, so at least one of them sees the other's write and no frame
//! waits for a sleeper that nobody wakes.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam_queue::ArrayQueue;
use rustix::event::{EventfdFlags, eventfd};

use crate::clock::{self, Nanos};
use crate::frame::{Frame, FramePool, PoolError, SegmentTag};
use crate::ring::{BURST_FRAMES, Queue, QueueInfo, RingStats};
use crate::trace::{self, Event, Stage};

/// How to make a cable.
#[derive(Clone, Copy, Debug)]
pub struct CableOptions {
    /// The largest IP packet that it carries, bytes.
    pub mtu: usize,
    /// Frames that are on the wire at most, each way.
    pub wire_frames: usize,
    /// Frames of each end's pool.
    pub slots: u32,
}

impl Default for CableOptions {
    fn default() -> CableOptions {
        CableOptions {
            mtu: 1500,
            wire_frames: 256,
            slots: 1024,
        }
    }
}

/// Why a cable could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CableError {
    /// No memory for an end's frames.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// No eventfd: the process has too many descriptors.
    #[error("cannot make an eventfd for a cable")]
    Wakeup(#[source] io::Error),
}

/// A frame on the wire and when it came there.
struct OnWire {
    frame: Frame,
    at: Nanos,
}

/// One direction.
struct Wire {
    frames: ArrayQueue<OnWire>,
    /// What the sender is told of frames that were taken off, for its trace.
    done: ArrayQueue<(SegmentTag, u32, Nanos)>,
    /// The receiver sleeps or is about to.
    asleep: AtomicBool,
    /// Readable while the receiver is to be woken.
    wakeup: OwnedFd,
}

impl Wire {
    fn new(options: &CableOptions) -> Result<Arc<Wire>, CableError> {
        let wakeup = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
            .map_err(|e| CableError::Wakeup(e.into()))?;
        let len = options.wire_frames.max(1);
        Ok(Arc::new(Wire {
            frames: ArrayQueue::new(len),
            done: ArrayQueue::new(2 * len),
            asleep: AtomicBool::new(false),
            wakeup,
        }))
    }

    /// Wakes the receiver if it sleeps.
    fn wake(&self) {
        // After the frames were put on the wire; pairs with the fence of `arm`.
        fence(Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::Relaxed) {
            // A full counter is readable already, and nothing else can fail.
            let _ = rustix::io::write(&self.wakeup, &1u64.to_ne_bytes());
        }
    }
}

/// One end of a cable.
pub struct CableEnd {
    info: QueueInfo,
    pool: FramePool,
    rx: Arc<Wire>,
    tx: Arc<Wire>,
    kick_due: bool,
    /// Frames that the next kick tells of, kept while tracing.
    unkicked: Vec<(SegmentTag, usize)>,
    stats: RingStats,
}

/// Makes a cable and gives its two ends.
///
/// # Errors
/// [`CableError`].
pub fn cable(options: CableOptions) -> Result<(CableEnd, CableEnd), CableError> {
    let (there, back) = (Wire::new(&options)?, Wire::new(&options)?);
    let end = |name: &str, rx: &Arc<Wire>, tx: &Arc<Wire>| -> Result<CableEnd, CableError> {
        let slot_len = (options.mtu + 18).next_power_of_two().max(2048);
        Ok(CableEnd {
            info: QueueInfo {
                name: format!("cable end {name}"),
                mtu: options.mtu,
                sees_nic_rx: true,
                sees_nic_done: true,
            },
            pool: FramePool::new(options.slots, slot_len, options.slots / 4)?,
            rx: rx.clone(),
            tx: tx.clone(),
            kick_due: false,
            unkicked: Vec::new(),
            stats: RingStats::default(),
        })
    };
    Ok((end("a", &back, &there)?, end("b", &there, &back)?))
}

/// Emits an event of a frame that carries bytes of a flow.
fn trace_tag(stage: Stage, at: Nanos, tag: SegmentTag, frame_len: usize) {
    if tag.flow != 0 {
        let event = Event::new(at, stage, tag.flow);
        trace::emit(event.bytes(tag.offset, tag.len as usize).frame(frame_len));
    }
}

impl Queue for CableEnd {
    fn info(&self) -> &QueueInfo {
        &self.info
    }

    fn pool(&self) -> &FramePool {
        &self.pool
    }

    fn rx_burst(&mut self, now: Nanos, frames: &mut Vec<Frame>) -> io::Result<usize> {
        self.rx.asleep.store(false, Ordering::Relaxed);
        let mut taken = 0;
        while taken < BURST_FRAMES {
            let Some(mut frame) = self.pool.take_rx() else {
                self.stats.rx_no_frame += 1;
                break;
            };
            let Some(OnWire { frame: sent, at }) = self.rx.frames.pop() else {
                break;
            };
            let fits = frame.fill(&sent);
            if trace::enabled() {
                let done = (sent.meta.tag, sent.len() as u32, clock::now());
                self.rx.done.force_push(done);
            }
            if !fits || frame.len() < 14 {
                self.stats.rx_bad_len += 1;
                continue;
            }
            frame.meta.rx_at = Some(at);
            frame.meta.polled_at = if trace::enabled() { clock::now() } else { now };
            self.stats.rx_frames += 1;
            self.stats.rx_bytes += frame.len() as u64;
            frames.push(frame);
            taken += 1;
        }
        Ok(taken)
    }

    fn tx_burst(&mut self, now: Nanos, frames: &mut VecDeque<Frame>) -> io::Result<usize> {
        if Arc::strong_count(&self.tx) == 1 {
            // Unplugged: what is sent is lost.
            let lost = frames.len().min(BURST_FRAMES);
            frames.drain(..lost);
            self.stats.tx_errors += lost as u64;
            return Ok(lost);
        }
        let mut taken = 0;
        while taken < BURST_FRAMES {
            let Some(frame) = frames.pop_front() else {
                break;
            };
            let (tag, len) = (frame.meta.tag, frame.len());
            let at = if trace::enabled() { clock::now() } else { now };
            if let Err(OnWire { frame, .. }) = self.tx.frames.push(OnWire { frame, at }) {
                frames.push_front(frame);
                self.stats.tx_ring_full += 1;
                break;
            }
            trace_tag(Stage::NicTx, at, tag, len);
            if trace::enabled() {
                self.unkicked.push((tag, len));
            }
            self.stats.tx_frames += 1;
            self.stats.tx_bytes += len as u64;
            self.kick_due = true;
            taken += 1;
        }
        Ok(taken)
    }

    fn kick(&mut self, _: Nanos) -> io::Result<()> {
        if std::mem::take(&mut self.kick_due) {
            self.stats.kicks += 1;
            self.tx.wake();
            for (tag, len) in self.unkicked.drain(..) {
                trace_tag(Stage::DriverKick, clock::now(), tag, len);
            }
        }
        Ok(())
    }

    fn reclaim(&mut self, _: Nanos) -> usize {
        let mut taken = 0;
        while let Some((tag, len, at)) = self.tx.done.pop() {
            trace_tag(Stage::NicDone, at, tag, len as usize);
            taken += 1;
        }
        taken
    }

    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        Some(self.rx.wakeup.as_fd())
    }

    fn arm(&mut self) -> bool {
        let mut count = [0; 8];
        // Nothing to take back is as good.
        let _ = rustix::io::read(&self.rx.wakeup, &mut count);
        self.rx.asleep.store(true, Ordering::Relaxed);
        // Before the look; pairs with the fence of `wake`.
        fence(Ordering::SeqCst);
        !self.rx.frames.is_empty()
    }

    fn stats(&self) -> RingStats {
        self.stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::PAGE;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    const NOW: Nanos = Nanos(1);

    fn send(end: &mut CableEnd, bytes: &[u8]) -> usize {
        let mut frame = end.pool.take_tx().expect("a frame to send");
        assert!(frame.fill(bytes));
        let mut frames = VecDeque::from([frame]);
        end.tx_burst(NOW, &mut frames).unwrap();
        end.kick(NOW).unwrap();
        1 - frames.len()
    }

    fn receive(end: &mut CableEnd) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while end.rx_burst(NOW, &mut frames).unwrap() > 0 {}
        frames.iter().map(|f| f.to_vec()).collect()
    }

    fn is_readable(end: &CableEnd) -> bool {
        let fd = end.wakeup().expect("a cable has a wakeup");
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        poll(
            &mut fds,
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            }),
        )
        .unwrap()
            > 0
    }

    #[test]
    fn frames_cross_in_order_and_go_back_to_their_pools() {
        let (mut a, mut b) = cable(CableOptions::default()).unwrap();
        for i in 0..100u8 {
            assert_eq!(send(&mut a, &[i; 60]), 1);
        }
        let got = receive(&mut b);
        assert_eq!(got, (0..100u8).map(|i| vec![i; 60]).collect::<Vec<_>>());
        assert_eq!(a.pool.free(), a.pool.slots());
        assert_eq!((a.stats().tx_frames, b.stats().rx_frames), (100, 100));
        assert_eq!(a.stats().tx_bytes, b.stats().rx_bytes);
    }

    #[test]
    fn a_full_wire_is_reported_and_keeps_the_frame() {
        let options = CableOptions {
            wire_frames: 2,
            ..CableOptions::default()
        };
        let (mut a, mut b) = cable(options).unwrap();
        assert_eq!((0..3).map(|_| send(&mut a, &[7; 60])).sum::<usize>(), 2);
        assert_eq!(a.stats().tx_ring_full, 1);
        assert_eq!(receive(&mut b).len(), 2);
        assert_eq!(send(&mut a, &[7; 60]), 1);
    }

    #[test]
    fn a_frame_too_short_for_a_header_is_counted() {
        let (mut a, mut b) = cable(CableOptions::default()).unwrap();
        send(&mut a, &[1; 13]);
        assert!(receive(&mut b).is_empty());
        assert_eq!(b.stats().rx_bad_len, 1);
    }

    #[test]
    fn only_a_sleeper_is_woken() {
        let (mut a, mut b) = cable(CableOptions::default()).unwrap();
        send(&mut a, &[1; 60]);
        assert!(!is_readable(&b), "awake: no system call for it");
        assert!(b.arm(), "a frame waits already");
        receive(&mut b);
        assert!(!b.arm());
        send(&mut a, &[2; 60]);
        assert!(is_readable(&b));
        receive(&mut b);
        assert!(!b.arm() && !is_readable(&b));
    }

    #[test]
    fn an_unplugged_end_loses_what_it_sends() {
        let (mut a, b) = cable(CableOptions {
            slots: 4,
            ..CableOptions::default()
        })
        .unwrap();
        drop(b);
        for _ in 0..PAGE {
            send(&mut a, &[1; 60]);
        }
        assert_eq!(a.stats().tx_errors, PAGE as u64);
        assert_eq!(a.pool.free(), 4);
    }

    #[test]
    fn no_frame_waits_for_a_sleeper_that_nobody_wakes() {
        const FRAMES: usize = 20_000;
        let (mut a, mut b) = cable(CableOptions::default()).unwrap();
        let receiver = std::thread::spawn(move || {
            let (mut got, mut frames) = (0, Vec::new());
            while got < FRAMES {
                frames.clear();
                let taken = b.rx_burst(NOW, &mut frames).unwrap();
                got += taken;
                if taken == 0 && !b.arm() {
                    let fd = b.wakeup().expect("a cable has a wakeup");
                    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
                    let limit = Timespec {
                        tv_sec: 10,
                        tv_nsec: 0,
                    };
                    assert_eq!(
                        poll(&mut fds, Some(&limit)).unwrap(),
                        1,
                        "after {got} frames"
                    );
                }
            }
        });
        let mut sent = 0;
        while sent < FRAMES {
            match a.pool.take_tx() {
                Some(mut frame) => {
                    assert!(frame.fill(&[5; 60]));
                    let mut frames = VecDeque::from([frame]);
                    sent += a.tx_burst(NOW, &mut frames).unwrap();
                    a.kick(NOW).unwrap();
                }
                None => std::thread::yield_now(),
            }
        }
        receiver.join().unwrap();
    }
}
