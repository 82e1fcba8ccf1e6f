//! The protocol of waiting, deadline and close, over a stack that nothing
//! reaches.
#![cfg(not(loom))]

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use wirepath_driver::{Frame, FramePool, Queue, QueueInfo, RingStats, clock};
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
    Netpoll::new(Some(stack)).unwrap()
}

fn listen(netpoll: &Netpoll) -> Vec<Fd> {
    let addr = "10.0.0.1:0".parse().unwrap();
    let stack = netpoll.stack().unwrap();
    stack.listen(addr, &ListenOptions::default()).unwrap()
}

fn open() -> (Netpoll, Arc<PollDesc>) {
    let netpoll = netpoll(1);
    let desc = netpoll.open(&listen(&netpoll), "the listener").unwrap();
    (netpoll, desc)
}

fn fd_of(desc: &PollDesc) -> Fd {
    match desc.source {
        Source::Stack { fd, .. } => fd,
        Source::Kernel(_) => panic!("it is of the stack"),
    }
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
        (Ready::READ | Ready::WRITE, [true, true]),
        (Ready::empty(), [false, false]),
        (Ready::HANGUP, [true, true]),
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
    event(fd_of(&desc));
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
            .notify(token, fd_of(&desc), Ready::READ, &mut woken);
    }
    assert_eq!(desc.arm(Dir::Read, Parker::current()), Arm::Armed);
    assert!(woken.is_empty());
}

/// Whether a wait in `dir` is woken as soon as it is announced.
fn sleeps(desc: &PollDesc, dir: Dir) -> bool {
    let armed = desc.arm(dir, Parker::current()) == Arm::Armed;
    armed && desc.side(dir).word.disarm().is_some()
}

#[test]
fn an_end_is_told_until_a_call_would_block() {
    let (_netpoll, desc) = open();
    let mut woken = Vec::new();
    desc.notify(Ready::READ | Ready::END, &mut woken);
    // The edge itself.
    assert!(!sleeps(&desc, Dir::Read));
    let read = |result: Result<usize, Errno>| desc.attempt(Dir::Read, |_| result).ok();
    // Bytes before the end, as often as there are some.
    for n in [100, 10] {
        assert_eq!(read(Ok(n)), Some(n));
        assert!(!sleeps(&desc, Dir::Read));
    }
    assert!(sleeps(&desc, Dir::Write));
    assert_eq!(read(Err(Errno::WouldBlock)), None);
    assert!(sleeps(&desc, Dir::Read));
    // Told in the middle of a call that would block.
    desc.notify(Ready::HANGUP, &mut woken);
    let call = |_| {
        desc.notify(Ready::HANGUP, &mut Vec::new());
        Err::<(), _>(Errno::WouldBlock)
    };
    assert!(desc.attempt(Dir::Write, call).is_err());
    for dir in [Dir::Read, Dir::Write, Dir::Read, Dir::Write] {
        assert!(!sleeps(&desc, dir));
    }
}

fn kernel_pair(netpoll: &Netpoll) -> (Arc<PollDesc>, io::PipeWriter) {
    let (reader, writer) = io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&reader, true).unwrap();
    let desc = netpoll.open_kernel(reader.into(), "the pipe").unwrap();
    (desc, writer)
}

fn close_kernel(netpoll: &Netpoll, desc: &PollDesc) {
    assert!(desc.close());
    drop(netpoll.take_kernel(desc));
    netpoll.release(desc);
}

#[test]
fn a_stale_event_of_the_kernel_reaches_nobody() {
    let netpoll = Netpoll::new(None).unwrap();
    let (old, _writer) = kernel_pair(&netpoll);
    close_kernel(&netpoll, &old);
    assert_eq!(netpoll.kernel.registered(), 0);
    let (new, _writer) = kernel_pair(&netpoll);
    assert!(Arc::ptr_eq(&new.slot, &old.slot));
    assert_eq!(new.arm(Dir::Read, Parker::current()), Arm::Armed);
    let mut woken = Vec::new();
    let mut told = |token| {
        netpoll.table.notify_kernel(token, Ready::READ, &mut woken);
        woken.len()
    };
    assert_eq!(told(old.token), 0);
    assert_eq!(told(new.token ^ 1), 0);
    assert_eq!(told(u64::MAX), 0);
    assert_eq!(told(new.token), 1);
}

#[test]
fn epoll_tells_of_what_it_watches() {
    let netpoll = Netpoll::new(None).unwrap();
    let (desc, mut writer) = kernel_pair(&netpoll);
    let mut woken = Vec::new();
    netpoll.poll_kernel(clock::now(), &mut woken);
    assert_eq!(desc.arm(Dir::Read, Parker::current()), Arm::Armed);
    io::Write::write_all(&mut writer, b"x").unwrap();
    netpoll.poll_kernel(clock::now(), &mut woken);
    assert_eq!(woken.len(), 1);
    // An edge is told once.
    netpoll.poll_kernel(clock::now(), &mut woken);
    assert_eq!(woken.len(), 1);
    close_kernel(&netpoll, &desc);
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let refused = netpoll.open_kernel(file.into(), "the file").err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    assert_eq!(netpoll.kernel.registered(), 0);
}

#[test]
fn a_listener_hears_of_every_shard() {
    let netpoll = netpoll(3);
    let fds = listen(&netpoll);
    let desc = netpoll.open(&fds, "the listener").unwrap();
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
            let error = desc.retry(dir, |_| Err::<(), _>(Errno::WouldBlock));
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
    // Who announces itself after the close need not wait.
    assert_eq!(desc.arm(Dir::Read, Parker::current()), Arm::Ready);
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
    let ready = || {
        desc.attempt(Dir::Write, |_| Ok::<_, Errno>(()))
            .map_err(|e| e.kind())
    };
    assert_eq!(ready(), Err(ErrorKind::TimedOut));
    assert_eq!(ready(), Err(ErrorKind::TimedOut));
    assert!(desc.attempt(Dir::Read, |_| Ok::<_, Errno>(())).is_ok());
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
    let new = netpoll.open(&listen(&netpoll), "the listener").unwrap();
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
    let netpoll = Netpoll::new(None).unwrap();
    assert_eq!((netpoll.shards(), netpoll.wakeup_fds().len()), (0, 0));
    assert_eq!(
        netpoll.stack().err().unwrap().kind(),
        ErrorKind::NetworkDown
    );
    assert!(!netpoll.arm(0) && netpoll.next_event(0).is_none());
    let turn = netpoll.poll(0, Nanos::ZERO, 64, &mut Vec::new());
    assert_eq!(turn.frames, 0);
}

/// Counts its wakes.
#[derive(Default)]
struct Counted(std::sync::atomic::AtomicUsize);

impl std::task::Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Counted {
    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn told(desc: &PollDesc, ready: Ready) {
    let mut woken = Vec::new();
    desc.notify(ready, &mut woken);
    woken.iter().for_each(Parker::unpark);
}

#[test]
fn a_watch_is_told_of_an_end_once_and_of_nothing_else() {
    for end in [Ready::READ | Ready::END, Ready::HANGUP] {
        let (_netpoll, desc) = open();
        let counted = Arc::new(Counted::default());
        let waker = counted.clone().into();
        let watch = HangUpWatch::new(&desc, &waker).unwrap();
        assert!(HangUpWatch::new(&desc, &waker).is_none());
        told(&desc, Ready::READ | Ready::WRITE | Ready::MORE);
        assert_eq!(counted.get(), 0);
        told(&desc, end);
        told(&desc, Ready::HANGUP);
        assert_eq!(counted.get(), 1);
        drop(watch);
        // It has happened: another is told at once, and so is a third.
        for n in [2, 3] {
            drop(HangUpWatch::new(&desc, &waker).unwrap());
            assert_eq!(counted.get(), n);
        }
    }
}

#[test]
fn a_watch_that_was_dropped_is_not_told() {
    let (_netpoll, desc) = open();
    let (first, second) = <(Arc<Counted>, Arc<Counted>)>::default();
    drop(HangUpWatch::new(&desc, &first.clone().into()).unwrap());
    let _watch = HangUpWatch::new(&desc, &second.clone().into()).unwrap();
    assert!(desc.close());
    assert_eq!((first.get(), second.get()), (0, 1));
}
