//! The protocol of waiting, deadline and close, over a stack that nothing
//! reaches.
#![cfg(not(loom))]

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use wirepath_driver::{Frame, FramePool, Queue, QueueInfo, RingStats};
use wirepath_stack::{Config, ListenOptions};

use super::*;
use crate::timer::TimerTarget;

/// A queue on which nothing arrives, and that takes whatever is sent.
struct Silent {
    info: QueueInfo,
    pool: FramePool,
}

impl Queue for Silent {
    fn info(&self) -> &QueueInfo {
        &self.info
    }
    fn pool(&self) -> &FramePool {
        &self.pool
    }
    fn rx_burst(&mut self, _now: Nanos, _frames: &mut Vec<Frame>) -> io::Result<usize> {
        Ok(0)
    }
    fn tx_burst(&mut self, _now: Nanos, frames: &mut VecDeque<Frame>) -> io::Result<usize> {
        Ok(frames.drain(..).count())
    }
    fn kick(&mut self, _now: Nanos) -> io::Result<()> {
        Ok(())
    }
    fn reclaim(&mut self, _now: Nanos) -> usize {
        0
    }
    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    fn stats(&self) -> RingStats {
        RingStats::default()
    }
}

fn netpoll(shards: usize) -> Netpoll {
    let queue = |_| -> Box<dyn Queue> {
        Box::new(Silent {
            info: QueueInfo {
                name: "silent".into(),
                mtu: 1500,
                sees_nic_rx: false,
                sees_nic_done: false,
            },
            pool: FramePool::new(64, 2048, 16).unwrap(),
        })
    };
    let mac = "02:00:00:00:00:01".parse().unwrap();
    let config = Config::new(mac, vec!["10.0.0.1/24".parse().unwrap()]);
    let stack = Stack::new(config, (0..shards).map(queue).collect()).unwrap();
    Netpoll::new(Some(stack))
}

fn listen(netpoll: &Netpoll) -> Vec<Fd> {
    let addr = "10.0.0.1:0".parse().unwrap();
    let stack = netpoll.stack().unwrap();
    stack.listen(addr, &ListenOptions::default()).unwrap()
}

fn open() -> (Netpoll, Arc<PollDesc>) {
    let netpoll = netpoll(1);
    let desc = netpoll.open(&listen(&netpoll), true).unwrap();
    (netpoll, desc)
}

fn after(from: Nanos, secs: u64) -> Option<Nanos> {
    Some(from + Duration::from_secs(secs))
}

/// A thread that waits in `desc`, or is about to: its first try was made.
/// Returns the kind of the error that ends it.
fn blocked(desc: &Arc<PollDesc>, dir: Dir) -> thread::JoinHandle<ErrorKind> {
    let mine = desc.clone();
    let (tried, first_try) = mpsc::channel();
    let thread = thread::spawn(move || {
        let call = |_| {
            // Nobody listens after the first.
            let _ = tried.send(());
            Err::<(), _>(Errno::WouldBlock)
        };
        mine.retry(dir, call).unwrap_err().kind()
    });
    first_try.recv().unwrap();
    thread
}

#[test]
fn an_edge_takes_the_waiter_it_concerns() {
    let (_netpoll, desc) = open();
    for (ready, wakes) in [
        (Ready::READ, [true, false]),
        (Ready::WRITE, [false, true]),
        (Ready::HANGUP, [true, true]),
        (Ready::READ | Ready::WRITE, [true, true]),
        (Ready::empty(), [false, false]),
    ] {
        for dir in [Dir::Read, Dir::Write] {
            assert_eq!(desc.arm(dir, Parker::current()), Arm::Armed);
        }
        let mut woken = Vec::new();
        desc.notify(ready, &mut woken);
        let taken = [Dir::Read, Dir::Write].map(|dir| desc.side(dir).word.disarm().is_none());
        assert_eq!(taken, wakes, "{ready:?}");
        assert_eq!(woken.len(), wakes.iter().filter(|w| **w).count());
    }
}

#[test]
fn an_edge_before_the_wait_is_not_lost() {
    let (netpoll, desc) = open();
    let mut woken = Vec::new();
    let mut event = |fd| {
        let token = desc.slot.token;
        netpoll.table.notify(token, fd, Ready::READ, &mut woken);
    };
    event(desc.fd);
    assert_eq!(desc.arm(Dir::Read, Parker::current()), Arm::Ready);
    // One of a descriptor that had the slot before is none of ours.
    event(listen(&netpoll)[0]);
    assert_eq!(desc.arm(Dir::Read, Parker::current()), Arm::Armed);
}

#[test]
fn events_for_nobody_are_ignored() {
    let (netpoll, desc) = open();
    let mut woken = Vec::new();
    for token in [1, 300, u64::MAX] {
        netpoll
            .table
            .notify(token, desc.fd, Ready::READ, &mut woken);
    }
    assert_eq!(desc.arm(Dir::Read, Parker::current()), Arm::Armed);
    assert!(woken.is_empty());
}

#[test]
fn a_listener_hears_of_every_shard() {
    let netpoll = netpoll(3);
    let fds = listen(&netpoll);
    let desc = netpoll.open(&fds, true).unwrap();
    for fd in fds {
        let mut woken = Vec::new();
        assert_eq!(desc.arm(Dir::Read, Parker::current()), Arm::Armed);
        let token = desc.slot.token;
        netpoll.table.notify(token, fd, Ready::READ, &mut woken);
        assert_eq!(woken.len(), 1);
    }
}

#[test]
fn one_waits_in_each_direction() {
    let (_netpoll, desc) = open();
    let (ended, end) = mpsc::channel();
    let wait = |dir| {
        let (desc, ended) = (desc.clone(), ended.clone());
        thread::spawn(move || {
            let error = desc.retry::<()>(dir, |_| Err(Errno::WouldBlock));
            ended.send(error.unwrap_err()).unwrap();
        });
    };
    [Dir::Read, Dir::Write, Dir::Read]
        .into_iter()
        .for_each(wait);
    let refused = end.recv().unwrap();
    assert_eq!(refused.kind(), ErrorKind::ResourceBusy);
    let words = refused.to_string();
    assert!(words.contains("already waits to read"), "{words}");
    desc.close();
    for _ in 0..2 {
        assert_eq!(end.recv().unwrap().kind(), ErrorKind::ConnectionAborted);
    }
}

#[test]
fn a_close_is_seen_by_who_comes_after_it() {
    let (_netpoll, desc) = open();
    assert!(desc.close());
    assert!(!desc.close());
    // What is announced after the close is woken by itself.
    assert_eq!(desc.arm(Dir::Read, Parker::current()), Arm::Armed);
    assert!(desc.side(Dir::Read).word.disarm().is_none());
    let call = desc.retry(Dir::Read, |_| -> Result<(), Errno> {
        panic!("it is closed")
    });
    let error = call.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    assert_eq!(error.to_string(), "the listener was closed on this side");
}

#[test]
fn a_deadline_ends_a_wait() {
    let (_netpoll, desc) = open();
    let set = crate::time::now();
    let deadline = set + Duration::from_millis(30);
    desc.set_deadline(Dir::Read, Some(deadline));
    let reader = blocked(&desc, Dir::Read);
    let start = Instant::now();
    while crate::time::now() < deadline {
        assert!(start.elapsed().as_secs() < 20, "the clock stands");
        thread::yield_now();
    }
    let mut woken = Vec::new();
    // As the timer does.
    desc.slot.clone().fire(deadline, 1 << 1, &mut woken);
    woken.iter().for_each(Parker::unpark);
    assert_eq!(reader.join().unwrap(), ErrorKind::TimedOut);
}

#[test]
fn a_passed_deadline_holds_until_it_is_set_anew() {
    let (_netpoll, desc) = open();
    let now = crate::time::now();
    desc.set_deadline(Dir::Write, Some(now));
    let ready = || desc.attempt(Dir::Write, |_| Ok(())).map_err(|e| e.kind());
    assert_eq!(ready(), Err(ErrorKind::TimedOut));
    assert_eq!(ready(), Err(ErrorKind::TimedOut));
    assert!(desc.attempt(Dir::Read, |_| Ok(())).is_ok());
    desc.set_deadline(Dir::Write, after(now, 3_600));
    assert_eq!(ready(), Ok(()));
    desc.set_deadline(Dir::Write, Some(now));
    desc.set_deadline(Dir::Write, None);
    assert_eq!(ready(), Ok(()));
}

#[test]
fn a_timer_of_the_slot_s_former_user_wakes_nobody() {
    let (netpoll, old) = open();
    let now = crate::time::now();
    old.set_deadline(Dir::Read, after(now, 10));
    assert!(old.close());
    netpoll.release(&old);
    let new = netpoll.open(&listen(&netpoll), true).unwrap();
    assert!(Arc::ptr_eq(&new.slot, &old.slot));
    new.set_deadline(Dir::Read, after(now, 60));
    assert_eq!(new.arm(Dir::Read, Parker::current()), Arm::Armed);
    let mut woken = Vec::new();
    new.slot
        .clone()
        .fire(now + Duration::from_secs(10), 1 << 1, &mut woken);
    assert!(woken.is_empty());
    // The entry of the former user covered the new deadline, and went on.
    new.slot
        .clone()
        .fire(now + Duration::from_secs(60), 2 << 1, &mut woken);
    assert_eq!(woken.len(), 1);
}

#[test]
fn a_netpoll_without_a_stack_is_quiet() {
    let netpoll = Netpoll::new(None);
    assert_eq!((netpoll.shards(), netpoll.wakeup_fds().len()), (0, 0));
    assert_eq!(
        netpoll.stack().err().unwrap().kind(),
        ErrorKind::NetworkDown
    );
    assert!(!netpoll.arm(0) && netpoll.next_event(0).is_none());
    let turn = netpoll.poll(0, Nanos::ZERO, 64, &mut Vec::new());
    assert_eq!(turn.frames, 0);
}
