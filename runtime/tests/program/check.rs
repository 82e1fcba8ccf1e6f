//! The model: what may have happened when a program ran.

use std::collections::{HashMap, HashSet};

use super::run::{Event, Value};
use super::{Log, Op, Program, Task};

/// Panics, with what is wrong, if `log` cannot come of `program`.
pub fn check(program: &Program, log: &Log) {
    let tasks = program.all();
    for task in &tasks {
        check_task(task, &log.events[task.id]);
    }
    for (task, panicked) in program.tasks.iter().zip(&log.panicked) {
        assert_eq!(*panicked, panics(task), "task {} joined so", task.id);
    }
    for channel in 0..program.channels.len() {
        check_channel(program, log, channel);
    }
    let added = log.events.iter().flatten().filter(|e| **e == Event::Added);
    assert_eq!(log.added, added.count(), "adds under the lock were lost");
    assert_eq!(log.alive, 0, "values were leaked");
}

fn panics(task: &Task) -> bool {
    task.ops.contains(&Op::Panic)
}

/// A task did what it was to do, in that order, up to its panic.
fn check_task(task: &Task, events: &[Event]) {
    // Each task runs: only a panic keeps one from going on, and tasks start
    // their children first of all.
    assert_eq!(events.first(), Some(&Event::Began), "task {}", task.id);
    let ended = events.last() == Some(&Event::Ended);
    assert_ne!(ended, panics(task), "task {} ended otherwise", task.id);
    let done = task.ops.split(|op| *op == Op::Panic).next().unwrap_or(&[]);
    let sends = done.iter().filter(|op| matches!(op, Op::Send(_))).count();
    let own = |event: &&Event| match event {
        Event::Sent { value, .. } | Event::Refused { value, .. } => value.maker == task.id,
        _ => false,
    };
    assert_eq!(events.iter().filter(own).count(), sends, "task {}", task.id);
    let adds = done.iter().filter(|op| **op == Op::Add).count();
    let added = events.iter().filter(|e| **e == Event::Added).count();
    assert_eq!(added, adds, "task {}", task.id);
    if ended {
        for child in &task.children {
            let joined = Event::Joined {
                child: child.id,
                panicked: panics(child),
            };
            assert!(
                events.contains(&joined),
                "no {joined:?} in task {}",
                task.id
            );
        }
    }
}

/// Each value that went into the channel came out once, to each receiver in
/// the order of its sender, unless all receivers left.
fn check_channel(program: &Program, log: &Log, channel: usize) {
    let sent = events_of(log, |event| match event {
        Event::Sent { channel: c, value } if *c == channel => Some(*value),
        _ => None,
    });
    let received = events_of(log, |event| match event {
        Event::Received { channel: c, value } if *c == channel => Some(*value),
        _ => None,
    });
    let put_in: HashSet<Value> = sent.iter().flatten().copied().collect();
    let mut came_out = HashSet::new();
    for value in received.iter().flatten() {
        assert!(
            put_in.contains(value),
            "{value:?} of {channel} from nowhere"
        );
        assert!(came_out.insert(*value), "{value:?} of {channel} came twice");
    }
    let lost = put_in.len() - came_out.len();
    let told_empty = |task: &&Task| log.events[task.id].contains(&Event::Exhausted { channel });
    if program.all().iter().any(told_empty) {
        // Told that there is no more: so nothing was left inside.
        assert_eq!(lost, 0, "values left in channel {channel}");
    }
    assert!(
        lost <= program.channels[channel],
        "{lost} lost in {channel}"
    );
    check_order(&sent, &received, channel);
    check_close(program, log, channel);
}

fn events_of(log: &Log, pick: impl Fn(&Event) -> Option<Value>) -> Vec<Vec<Value>> {
    let tasks = log.events.iter();
    tasks
        .map(|e| e.iter().filter_map(&pick).collect())
        .collect()
}

/// First in, first out: what one task sent, another receives in that order.
fn check_order(sent: &[Vec<Value>], received: &[Vec<Value>], channel: usize) {
    let mut place = HashMap::new();
    for (sender, values) in sent.iter().enumerate() {
        for (at, value) in values.iter().enumerate() {
            place.insert(*value, (sender, at));
        }
    }
    for values in received {
        let mut last = HashMap::new();
        for value in values {
            let (sender, at) = place[value];
            let before = last.insert(sender, at);
            assert!(
                before.is_none_or(|before| before < at),
                "{value:?} of {channel} overtook"
            );
        }
    }
}

/// A send is refused, and a receiver told of the end, only for a cause.
fn check_close(program: &Program, log: &Log, channel: usize) {
    let any =
        |wanted: fn(&Event, usize) -> bool| log.events.iter().flatten().any(|e| wanted(e, channel));
    let closed = any(|e, n| matches!(e, Event::Closed { channel } if *channel == n));
    let refused = any(|e, n| matches!(e, Event::Refused { channel, .. } if *channel == n));
    let all = program.all();
    // A receiver that drains holds on until it is told of the end, which comes
    // when all senders are gone or after a close.
    let drains = |task: &&&Task| {
        let drain = task.ops.iter().any(|op| matches!(op, Op::Drain(_)));
        task.receives_from == [channel] && drain && !panics(task)
    };
    if refused && !closed {
        assert_eq!(
            all.iter().filter(drains).count(),
            0,
            "channel {channel} refused while somebody received"
        );
    }
}
