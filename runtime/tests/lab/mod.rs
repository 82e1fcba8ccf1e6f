//! Two runtimes with a stack each, joined by a cable in memory whose ends an M
//! can sleep on.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use wirepath_driver::{BURST_FRAMES, Frame, FramePool, Nanos, Queue, QueueInfo, RingStats};
use wirepath_runtime::{Runtime, Stack};
use wirepath_stack::Config;

pub const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 7, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 7, 0, 2));

/// What is under way toward one end. The eventfd is readable while there may
/// be something.
struct Lane {
    frames: Mutex<VecDeque<Vec<u8>>>,
    /// Frames that will be lost, counted from the next.
    lose: AtomicUsize,
    bell: OwnedFd,
}

impl Lane {
    fn new() -> Arc<Lane> {
        Arc::new(Lane {
            frames: Mutex::default(),
            lose: AtomicUsize::new(0),
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap(),
        })
    }
}

struct End {
    info: QueueInfo,
    pool: FramePool,
    toward_us: Arc<Lane>,
    toward_peer: Arc<Lane>,
    stats: RingStats,
}

impl Queue for End {
    fn info(&self) -> &QueueInfo {
        &self.info
    }

    fn pool(&self) -> &FramePool {
        &self.pool
    }

    fn rx_burst(&mut self, now: Nanos, frames: &mut Vec<Frame>) -> io::Result<usize> {
        // Before the look into the lane, so that a later frame rings again.
        let _ = rustix::io::read(&self.toward_us.bell, &mut [0; 8]);
        let mut lane = self.toward_us.frames.lock().unwrap();
        let mut taken = 0;
        while taken < BURST_FRAMES
            && !lane.is_empty()
            && let Some(mut frame) = self.pool.take_rx()
        {
            let bytes = lane.pop_front().expect("it is not empty");
            assert!(frame.fill(&bytes));
            frame.meta.polled_at = now;
            frames.push(frame);
            taken += 1;
        }
        self.stats.rx_frames += taken as u64;
        Ok(taken)
    }

    fn tx_burst(&mut self, _now: Nanos, frames: &mut VecDeque<Frame>) -> io::Result<usize> {
        let count = frames.len().min(BURST_FRAMES);
        let mut lane = self.toward_peer.frames.lock().unwrap();
        let lost = self.toward_peer.lose.load(Ordering::SeqCst).min(count);
        self.toward_peer.lose.fetch_sub(lost, Ordering::SeqCst);
        lane.extend(frames.drain(..count).skip(lost).map(|frame| frame.to_vec()));
        self.stats.tx_frames += count as u64;
        Ok(count)
    }

    fn kick(&mut self, _now: Nanos) -> io::Result<()> {
        self.stats.kicks += 1;
        rustix::io::write(&self.toward_peer.bell, &1_u64.to_ne_bytes())?;
        Ok(())
    }

    fn reclaim(&mut self, _now: Nanos) -> usize {
        0
    }

    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        Some(self.toward_us.bell.as_fd())
    }

    fn arm(&mut self) -> bool {
        !self.toward_us.frames.lock().unwrap().is_empty()
    }

    fn stats(&self) -> RingStats {
        self.stats
    }
}

pub struct Lab {
    pub server: Runtime,
    pub client: Runtime,
    toward_server: Arc<Lane>,
}

impl Lab {
    pub fn new() -> Lab {
        let (there, back) = (Lane::new(), Lane::new());
        Lab {
            server: runtime(1, SERVER, &there, &back),
            client: runtime(2, CLIENT, &back, &there),
            toward_server: there,
        }
    }

    /// What loses the next two frames of the client.
    pub fn loser(&self) -> impl FnOnce() + Send + use<> {
        let lane = self.toward_server.clone();
        move || lane.lose.store(2, Ordering::SeqCst)
    }
}

fn runtime(number: u8, addr: IpAddr, toward_us: &Arc<Lane>, toward_peer: &Arc<Lane>) -> Runtime {
    let end = End {
        info: QueueInfo {
            name: format!("cable end {number}"),
            mtu: 1500,
            sees_nic_rx: false,
            sees_nic_done: false,
        },
        pool: FramePool::new(4096, 2048, 256).unwrap(),
        toward_us: toward_us.clone(),
        toward_peer: toward_peer.clone(),
        stats: RingStats::default(),
    };
    let mac = format!("02:00:00:00:00:0{number}").parse().unwrap();
    let config = Config::new(mac, vec![format!("{addr}/24").parse().unwrap()]);
    let stack = Stack::new(config, vec![Box::new(end)]).unwrap();
    let builder = Runtime::builder().max_procs(2).stack(stack);
    builder.build().unwrap()
}

#[track_caller]
pub fn wait_until(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        let waited = start.elapsed();
        assert!(waited < Duration::from_secs(20), "waited too long");
        std::thread::yield_now();
    }
}
