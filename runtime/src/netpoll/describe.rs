//! What a goroutine waits for, for a dump.
//!
//! A goroutine does not keep what it waits for, which would cost each wait a
//! store and a count; the descriptors' words tell who waits for them. A dump
//! therefore goes through the table once and compares addresses with those of
//! the goroutines that it shows, which it holds, so that no other can be at the
//! same address. Nothing looks through an address.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use wirepath_stack::Fd;
use wirepath_stack::syscall::SocketInfo;

use super::{Dir, Netpoll, PollDesc, Source};
use crate::g::G;

/// One direction of a descriptor, somebody's wait.
pub(crate) type Waited = (Arc<PollDesc>, Dir);

/// From a goroutine's address to what it waits for.
pub(crate) type Waits = HashMap<usize, Waited>;

/// How long a dump waits for shards that are locked, in naps.
const NAPS: u32 = 100;
const NAP: Duration = Duration::from_millis(1);

/// What is left of a dump's patience with shards that are locked.
pub(crate) struct Patience(Cell<u32>);

impl Patience {
    pub(crate) fn new() -> Patience {
        Patience(Cell::new(NAPS))
    }

    /// Waits a little. False: no more.
    fn nap(&self) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(1));
        if left > 0 {
            std::thread::sleep(NAP);
        }
        left > 0
    }
}

impl Netpoll {
    /// What these goroutines wait for.
    pub(crate) fn waits_of<'a>(&self, gs: impl Iterator<Item = &'a Arc<G>>) -> Waits {
        let wanted: HashSet<usize> = gs.map(|g| Arc::as_ptr(g).addr()).collect();
        let mut waits = Waits::with_capacity(wanted.len());
        if wanted.is_empty() {
            return waits;
        }
        self.table.for_each(|desc| {
            for dir in [Dir::Read, Dir::Write] {
                let waiter = desc.side(dir).word.waiter_address();
                if let Some(waiter) = waiter.filter(|w| wanted.contains(w)) {
                    waits.insert(waiter, (desc.clone(), dir));
                }
            }
        });
        waits
    }

    /// `fd 7: tcp 10.0.0.2:8080 -> 10.0.0.1:40404 ESTABLISHED, recv-q 0, send-q
    /// 0; to read`.
    pub(crate) fn describe(&self, (desc, dir): &Waited, patience: &Patience) -> String {
        let what = match &desc.source {
            Source::Kernel(fd) => format!("kernel fd {}: {}", fd.number(), desc.what),
            Source::Stack { fd, .. } => match self.socket_info(*fd, patience) {
                Some(info) => format!("fd {fd}: {}", describe_socket(&info)),
                None => format!("fd {fd}: gone, or its shard is busy"),
            },
        };
        let to = match dir {
            Dir::Read if desc.what.ends_with("listener") => "accept",
            dir => dir.verb(),
        };
        format!("{what}; to {to}")
    }

    /// What the stack knows of a descriptor, if its shard's lock can be had.
    fn socket_info(&self, fd: Fd, patience: &Patience) -> Option<SocketInfo> {
        let stack = self.stack().ok()?;
        loop {
            if let Some(info) = stack.try_socket_info(fd) {
                return info.ok();
            }
            if !patience.nap() {
                return None;
            }
        }
    }
}

fn describe_socket(info: &SocketInfo) -> String {
    match info {
        SocketInfo::Flow(flow) => format!(
            "tcp {} -> {} {}, recv-q {}, send-q {}",
            flow.local, flow.peer, flow.state, flow.recv_queue, flow.send_queue
        ),
        SocketInfo::Listener {
            local,
            queued,
            backlog,
            half_open,
        } => format!("tcp {local} LISTEN, accept-q {queued} of {backlog}, half-open {half_open}"),
        _ => "a socket".into(),
    }
}
