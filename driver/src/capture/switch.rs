//! Captures that begin and end while their queues are in use.
//!
//! A queue wrapped by [`CaptureSwitch::wrap`] costs one load a burst while
//! nobody captures. Who switches a capture on or off changes the list under a
//! lock and then its number; a queue that sees another number takes the list up,
//! under the same lock, which nobody holds for longer than it takes to copy it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::{Capture, CaptureFile, Plug, Probe, lock};
use crate::ring::{Queue, QueueInfo};

/// Captures at a time: each costs a copy of every frame.
const MOST_CAPTURES: usize = 8;

#[derive(Default)]
struct Board {
    /// Changes of `plugs` so far.
    changes: AtomicU64,
    plugs: Mutex<Vec<Plug>>,
}

/// Switches captures of queues on and off. Clones switch the same queues.
#[derive(Clone, Default)]
pub struct CaptureSwitch(Arc<Board>);

impl CaptureSwitch {
    /// A switch of no queues yet.
    pub fn new() -> CaptureSwitch {
        CaptureSwitch::default()
    }

    /// Makes a queue's frames part of captures that are switched on from now on.
    pub fn wrap<Q: Queue>(&self, queue: Q) -> Capture<Q> {
        let socket = Socket {
            board: self.0.clone(),
            seen: 0,
        };
        Capture::with_socket(queue, socket)
    }

    /// Captures what crosses the queues from now on; false when there are as many
    /// captures as there may be (eight). A capture that is finished or dropped is
    /// taken off by itself.
    pub fn turn_on(&self, file: &CaptureFile) -> bool {
        let mut plugs = lock(&self.0.plugs);
        plugs.retain(|plug| !plug.shared.closed.load(Ordering::Acquire));
        let has_room = plugs.len() < MOST_CAPTURES;
        if has_room {
            plugs.push(file.plug.clone());
        }
        self.0.changes.fetch_add(1, Ordering::Release);
        has_room
    }

    /// Ends that part of the capture: its queues forget it at their next burst.
    pub fn turn_off(&self, file: &CaptureFile) {
        let mut plugs = lock(&self.0.plugs);
        plugs.retain(|plug| !Arc::ptr_eq(&plug.shared, &file.plug.shared));
        self.0.changes.fetch_add(1, Ordering::Release);
    }
}

/// A queue's view of the switch.
pub(super) struct Socket {
    board: Arc<Board>,
    /// The changes that it has taken up.
    seen: u64,
}

impl Socket {
    #[inline]
    pub(super) fn has_changed(&self) -> bool {
        self.board.changes.load(Ordering::Acquire) != self.seen
    }

    /// The probes of the captures that are on now: those of `before` that still
    /// are, and new ones.
    #[cold]
    pub(super) fn probes(&mut self, mut before: Vec<Probe>, info: &QueueInfo) -> Vec<Probe> {
        self.seen = self.board.changes.load(Ordering::Acquire);
        let plugs = lock(&self.board.plugs).clone();
        before.retain(|probe| plugs.iter().any(|plug| probe.is_of(plug)));
        for plug in &plugs {
            if !before.iter().any(|probe| probe.is_of(plug)) {
                before.push(plug.probe(&info.name));
            }
        }
        before
    }
}
