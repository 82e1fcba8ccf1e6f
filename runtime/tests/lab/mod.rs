//! Two runtimes with a stack each, joined by a cable in memory.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use wirepath_driver::cable::{CableEnd, CableOptions, cable};
use wirepath_driver::{Frame, FramePool, Nanos, Queue, QueueInfo, RingStats};
use wirepath_runtime::{Runtime, Stack};
use wirepath_stack::Config;

pub const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 7, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 7, 0, 2));

/// An end of the cable that loses the next `lose` frames sent from it.
struct Lossy {
    end: CableEnd,
    lose: Arc<AtomicUsize>,
}

impl Queue for Lossy {
    fn info(&self) -> &QueueInfo {
        self.end.info()
    }

    fn pool(&self) -> &FramePool {
        self.end.pool()
    }

    fn rx_burst(&mut self, now: Nanos, frames: &mut Vec<Frame>) -> io::Result<usize> {
        self.end.rx_burst(now, frames)
    }

    fn tx_burst(&mut self, now: Nanos, frames: &mut VecDeque<Frame>) -> io::Result<usize> {
        let lost = self.lose.load(Ordering::SeqCst).min(frames.len());
        self.lose.fetch_sub(lost, Ordering::SeqCst);
        frames.drain(..lost);
        Ok(lost + self.end.tx_burst(now, frames)?)
    }

    fn kick(&mut self, now: Nanos) -> io::Result<()> {
        self.end.kick(now)
    }

    fn reclaim(&mut self, now: Nanos) -> usize {
        self.end.reclaim(now)
    }

    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        self.end.wakeup()
    }

    fn arm(&mut self) -> bool {
        self.end.arm()
    }

    fn next_event(&self) -> Option<Nanos> {
        self.end.next_event()
    }

    fn stats(&self) -> RingStats {
        self.end.stats()
    }
}

pub struct Lab {
    pub server: Runtime,
    pub client: Runtime,
    /// The server's stack.
    #[allow(dead_code, reason = "not every test that uses the lab asks it")]
    pub stack: Stack,
    client_loses: Arc<AtomicUsize>,
}

impl Lab {
    #[allow(dead_code, reason = "some tests want several cables")]
    pub fn new() -> Lab {
        Lab::with_cables(1, 2)
    }

    /// Joined by several cables, each a queue of both; the server has `procs`
    /// P's, and the client two.
    pub fn with_cables(cables: usize, procs: usize) -> Lab {
        let lose = Arc::new(AtomicUsize::new(0));
        let (mut near, mut far) = (Vec::new(), Vec::new());
        for _ in 0..cables {
            let (here, end) = cable(CableOptions::default()).unwrap();
            let lose = lose.clone();
            near.push(Box::new(here) as Box<dyn Queue>);
            far.push(Box::new(Lossy { end, lose }) as Box<dyn Queue>);
        }
        let (server, client) = (stack(1, SERVER, near), stack(2, CLIENT, far));
        Lab {
            server: runtime(procs, server.clone()),
            client: runtime(2, client),
            stack: server,
            client_loses: lose,
        }
    }

    /// What loses the next two frames of the client.
    #[allow(dead_code, reason = "not every test that uses the lab loses frames")]
    pub fn loser(&self) -> impl FnOnce() + Send + use<> {
        let lose = self.client_loses.clone();
        move || lose.store(2, Ordering::SeqCst)
    }
}

fn stack(number: u8, addr: IpAddr, queues: Vec<Box<dyn Queue>>) -> Stack {
    let mac = format!("02:00:00:00:00:0{number}").parse().unwrap();
    let config = Config::new(mac, vec![format!("{addr}/24").parse().unwrap()]);
    Stack::new(config, queues).unwrap()
}

fn runtime(procs: usize, stack: Stack) -> Runtime {
    let builder = Runtime::builder().max_procs(procs).stack(stack);
    builder.build().unwrap()
}

#[allow(dead_code, reason = "not every test that uses the lab waits so")]
#[track_caller]
pub fn wait_until(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        let waited = start.elapsed();
        assert!(waited < Duration::from_secs(20), "waited too long");
        std::thread::yield_now();
    }
}
