//! Random programs of goroutines, what running one leaves behind, and the
//! model that says whether it may have.
//!
//! A program has channels and tasks. A task holds ends of channels, and does
//! some operations with them: it sends numbered values, receives, passes on
//! what it received, closes, sleeps, yields, adds to a number under a lock,
//! panics. It may start other tasks first, and joins them last. A task receives
//! only from channels of a lower number than those that it sends to, so the
//! tasks never wait in a circle, and each program comes to its end.

mod check;
mod run;

use std::fmt;

pub use check::check;
pub use run::{Log, run};

/// Pseudo-random numbers (splitmix64).
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// How a task sends or receives one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Wait,
    /// A few times, with a nap between; then waits.
    Try,
    /// A few times, until the time is up; then waits.
    Timeout,
    /// Among channels, if there are two; receiving from one, until time is up.
    Select,
}

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sends the task's next value to its channel.
    Send(How),
    /// Receives one, and passes it on if the task has a channel to send to.
    Receive(How),
    /// Receives until the channel has no more, and passes on.
    Drain(How),
    /// Closes the channel that it sends to.
    Close,
    Yield,
    /// In microseconds.
    Sleep(u32),
    /// Adds one under the lock, with a yield in the middle.
    Add,
    Panic,
}

/// A task.
#[derive(Clone, Debug)]
pub struct Task {
    pub id: usize,
    pub ops: Vec<Op>,
    pub sends_to: Option<usize>,
    /// One, or two to select from.
    pub receives_from: Vec<usize>,
    /// Started by this task.
    pub children: Vec<Task>,
    /// In steps, an operation each.
    pub in_steps: bool,
}

/// A program.
#[derive(Clone)]
pub struct Program {
    pub seed: u64,
    /// Their capacities.
    pub channels: Vec<usize>,
    pub tasks: Vec<Task>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "program {}, channels {:?}", self.seed, self.channels)?;
        self.tasks
            .iter()
            .try_for_each(|task| writeln!(f, "{task:#?}"))
    }
}

impl Program {
    /// The program of a seed.
    pub fn random(seed: u64) -> Program {
        let mut rng = Rng::new(seed);
        let channels: Vec<usize> = (0..1 + rng.below(4)).map(|_| rng.below(4)).collect();
        let mut ids = 0..;
        let tasks = (0..2 + rng.below(8))
            .map(|_| task(&mut rng, &mut ids, channels.len(), 2))
            .collect();
        Program {
            seed,
            channels,
            tasks,
        }
    }

    /// All tasks, also those that others start.
    pub fn all(&self) -> Vec<&Task> {
        fn with_children<'a>(task: &'a Task, into: &mut Vec<&'a Task>) {
            into.push(task);
            task.children.iter().for_each(|c| with_children(c, into));
        }
        let mut all = Vec::new();
        self.tasks.iter().for_each(|t| with_children(t, &mut all));
        all
    }
}

fn how(rng: &mut Rng) -> How {
    [How::Wait, How::Try, How::Timeout, How::Select][rng.below(4)]
}

fn task(
    rng: &mut Rng,
    ids: &mut std::ops::RangeFrom<usize>,
    channels: usize,
    depth: usize,
) -> Task {
    let id = ids.next().expect("there are enough numbers");
    let sends_to = (!rng.one_in(3)).then(|| rng.below(channels));
    let below = sends_to.unwrap_or(channels);
    let mut receives_from = Vec::new();
    if below > 0 && (sends_to.is_none() || rng.one_in(3)) {
        receives_from.push(rng.below(below));
        let second = rng.below(below);
        if rng.one_in(2) && second != receives_from[0] {
            receives_from.push(second);
        }
    }
    let mut ops: Vec<Op> = (0..1 + rng.below(12))
        .map(|_| op(rng, sends_to.is_some(), !receives_from.is_empty()))
        .collect();
    if !receives_from.is_empty() && !rng.one_in(4) {
        ops.push(Op::Drain(how(rng)));
    }
    let children = if depth > 0 && rng.one_in(3) {
        1 + rng.below(3)
    } else {
        0
    };
    Task {
        id,
        ops,
        sends_to,
        receives_from,
        children: (0..children)
            .map(|_| task(rng, ids, channels, depth - 1))
            .collect(),
        in_steps: rng.one_in(3),
    }
}

fn op(rng: &mut Rng, sends: bool, receives: bool) -> Op {
    match rng.below(24) {
        0..9 if sends => Op::Send(how(rng)),
        0..9 if receives => Op::Receive(how(rng)),
        9..14 if receives => Op::Receive(how(rng)),
        0..16 => Op::Yield,
        16..19 => Op::Sleep(rng.below(200) as u32),
        19..23 => Op::Add,
        _ if rng.one_in(3) => Op::Panic,
        _ if sends && rng.one_in(3) => Op::Close,
        _ => Op::Yield,
    }
}
