//! Running a program, and noting what happened.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wirepath_runtime::chan::{
    Receiver, RecvTimeoutError, SendTimeoutError, Sender, TryRecvError, TrySendError, channel,
};
use wirepath_runtime::{
    JoinHandle, Next, WaitGroup, go, now, select, sleep, steps, sync, yield_now,
};

use super::{How, Op, Program, Task};

/// How long somebody who tries, or who lets time run out, waits between.
const NAP: Duration = Duration::from_micros(20);

/// After so many times he waits: two who only try would never meet.
const TRIES: usize = 3;

/// What happened, in the order of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    Began,
    /// The value went into the channel.
    Sent {
        channel: usize,
        value: Value,
    },
    /// The channel was closed, or had no receivers: the value came back.
    Refused {
        channel: usize,
        value: Value,
    },
    Received {
        channel: usize,
        value: Value,
    },
    /// A channel had no more.
    Exhausted {
        channel: usize,
    },
    Closed {
        channel: usize,
    },
    Added,
    Ended,
    /// A child was joined; whether it panicked.
    Joined {
        child: usize,
        panicked: bool,
    },
}

/// Who made a value, and the how many'th of its maker's it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value {
    pub maker: usize,
    pub number: usize,
}

/// A value on its way, which counts as alive until it is dropped.
struct Token(Value, Arc<AtomicUsize>);

impl Drop for Token {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a run left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// By task.
    pub events: Vec<Vec<Event>>,
    /// The number under the lock.
    pub added: usize,
    /// Values that were never dropped.
    pub alive: usize,
    /// By top task: whether it panicked.
    pub panicked: Vec<bool>,
}

struct Shared {
    events: Vec<Mutex<Vec<Event>>>,
    added: sync::Mutex<usize>,
    alive: Arc<AtomicUsize>,
    group: WaitGroup,
}

/// The payload of a task that panics.
struct Meant(usize);

/// Runs the program in the calling goroutine.
pub fn run(program: &Program) -> Log {
    let alive = Arc::new(AtomicUsize::new(0));
    let shared = Arc::new(Shared {
        events: program.all().iter().map(|_| Mutex::default()).collect(),
        added: sync::Mutex::new(0),
        alive: alive.clone(),
        group: WaitGroup::new(),
    });
    let panicked = {
        let channels: Vec<_> = program.channels.iter().map(|n| channel(*n)).collect();
        let runners: Vec<_> = program
            .tasks
            .iter()
            .map(|task| Runner::new(task, &channels, &shared))
            .collect();
        drop(channels);
        let handles: Vec<_> = runners.into_iter().map(Runner::start).collect();
        handles.into_iter().map(Handle::panicked).collect()
    };
    shared.group.wait();
    let added = *shared.added.lock();
    Log {
        events: shared
            .events
            .iter()
            .map(|e| e.lock().unwrap().clone())
            .collect(),
        added,
        alive: alive.load(Ordering::SeqCst),
        panicked,
    }
}

/// A started task's number and handle.
struct Handle(usize, JoinHandle<()>);

impl Handle {
    fn panicked(self) -> bool {
        match self.1.join() {
            Ok(()) => false,
            Err(payload) => {
                let meant = payload.downcast::<Meant>();
                assert_eq!(meant.expect("no other panic").0, self.0);
                true
            }
        }
    }
}

/// Takes the task out of the group when it ends, however it does.
struct Member(Arc<Shared>);

impl Drop for Member {
    fn drop(&mut self) {
        self.0.group.done();
    }
}

/// A task with its ends of channels.
struct Runner {
    id: usize,
    ops: std::vec::IntoIter<Op>,
    in_steps: bool,
    sender: Option<(usize, Sender<Token>)>,
    receivers: Vec<(usize, Receiver<Token>)>,
    children: Vec<Runner>,
    handles: Vec<Handle>,
    made: usize,
    shared: Arc<Shared>,
}

type Channel = (Sender<Token>, Receiver<Token>);

impl Runner {
    fn new(task: &Task, channels: &[Channel], shared: &Arc<Shared>) -> Runner {
        let receiver = |&n: &usize| (n, channels[n].1.clone());
        Runner {
            id: task.id,
            ops: task.ops.clone().into_iter(),
            in_steps: task.in_steps,
            sender: task.sends_to.map(|n| (n, channels[n].0.clone())),
            receivers: task.receives_from.iter().map(receiver).collect(),
            children: task
                .children
                .iter()
                .map(|child| Runner::new(child, channels, shared))
                .collect(),
            handles: Vec::new(),
            made: 0,
            shared: shared.clone(),
        }
    }

    fn note(&self, event: Event) {
        self.shared.events[self.id].lock().unwrap().push(event);
    }

    fn start(mut self) -> Handle {
        let id = self.id;
        self.shared.group.add(1);
        let member = Member(self.shared.clone());
        if !self.in_steps {
            let body = move || {
                let _member = member;
                self.begin();
                while let Some(op) = self.ops.next() {
                    self.act(op);
                }
                self.end();
            };
            return Handle(id, go(body));
        }
        let mut begun = false;
        let body = move |(runner, _member): &mut (Runner, Member)| {
            if !std::mem::replace(&mut begun, true) {
                runner.begin();
                return Next::Yield;
            }
            match runner.ops.next() {
                Some(Op::Sleep(micros)) => {
                    Next::Sleep(now() + Duration::from_micros(micros.into()))
                }
                Some(op) => {
                    runner.act(op);
                    Next::Yield
                }
                None => {
                    runner.end();
                    Next::Done
                }
            }
        };
        Handle(id, steps((self, member), body))
    }

    fn begin(&mut self) {
        self.note(Event::Began);
        let children = std::mem::take(&mut self.children);
        self.handles = children.into_iter().map(Runner::start).collect();
    }

    /// Lets go of the channels, and only then waits for the children.
    fn end(&mut self) {
        self.sender = None;
        self.receivers.clear();
        for handle in std::mem::take(&mut self.handles) {
            let child = handle.0;
            let panicked = handle.panicked();
            self.note(Event::Joined { child, panicked });
        }
        self.note(Event::Ended);
    }

    fn act(&mut self, op: Op) {
        match op {
            Op::Send(how) => {
                let value = Value {
                    maker: self.id,
                    number: self.made,
                };
                self.made += 1;
                self.shared.alive.fetch_add(1, Ordering::SeqCst);
                self.send(Token(value, self.shared.alive.clone()), how);
            }
            Op::Receive(how) => {
                self.pass_on(how);
            }
            Op::Drain(how) => while self.pass_on(how) {},
            Op::Close => {
                let (channel, sender) = self.sender.as_ref().expect("only senders close");
                sender.close();
                self.note(Event::Closed { channel: *channel });
            }
            Op::Yield => yield_now(),
            Op::Sleep(micros) => sleep(Duration::from_micros(micros.into())),
            Op::Add => {
                let mut added = self.shared.added.lock();
                let before = *added;
                yield_now();
                *added = before + 1;
                drop(added);
                self.note(Event::Added);
            }
            Op::Panic => std::panic::resume_unwind(Box::new(Meant(self.id))),
        }
    }

    fn send(&self, token: Token, how: How) {
        let (channel, sender) = self.sender.as_ref().expect("only senders send");
        let (channel, value) = (*channel, token.0);
        match send(sender, token, how) {
            Ok(()) => self.note(Event::Sent { channel, value }),
            Err(token) => {
                assert_eq!(token.0, value, "another value came back");
                self.note(Event::Refused { channel, value });
            }
        }
    }

    /// False: there is nothing to receive any more.
    fn pass_on(&mut self, how: How) -> bool {
        let received = match (how, &self.receivers[..]) {
            (_, []) => return false,
            (How::Select, [(a, first), (b, second)]) => select! {
                recv(first) -> got => (*a, got.ok()),
                recv(second) -> got => (*b, got.ok()),
            },
            (how, [.., (n, last)]) => (*n, receive(last, how)),
        };
        let (channel, Some(token)) = received else {
            let channel = received.0;
            self.note(Event::Exhausted { channel });
            self.receivers.retain(|(n, _)| *n != channel);
            return !self.receivers.is_empty();
        };
        let value = token.0;
        self.note(Event::Received { channel, value });
        if self.sender.is_some() {
            self.send(token, how);
        }
        true
    }
}

fn send(sender: &Sender<Token>, mut token: Token, how: How) -> Result<(), Token> {
    for _ in 0..TRIES {
        token = match how {
            How::Wait => return sender.send(token).map_err(|e| e.0),
            How::Select => {
                select! {
                    send(sender, token) -> sent => return sent.map_err(|e| e.0),
                }
            }
            How::Try => match sender.try_send(token) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Closed(token)) => return Err(token),
                Err(TrySendError::Full(token)) => token,
            },
            How::Timeout => match sender.send_timeout(token, NAP) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Closed(token)) => return Err(token),
                Err(SendTimeoutError::Timeout(token)) => token,
            },
        };
        sleep(NAP);
    }
    sender.send(token).map_err(|e| e.0)
}

fn receive(receiver: &Receiver<Token>, how: How) -> Option<Token> {
    for _ in 0..TRIES {
        match how {
            How::Wait => return receiver.recv().ok(),
            How::Select => {
                select! {
                    recv(receiver) -> got => return got.ok(),
                    default(NAP) => {}
                }
            }
            How::Try => match receiver.try_recv() {
                Ok(token) => return Some(token),
                Err(TryRecvError::Closed) => return None,
                Err(TryRecvError::Empty) => {}
            },
            How::Timeout => match receiver.recv_timeout(NAP) {
                Ok(token) => return Some(token),
                Err(RecvTimeoutError::Closed) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            },
        }
        sleep(NAP);
    }
    receiver.recv().ok()
}
