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

use super::sockets::{self, KernelSockets};
use super::{Dir, KernelFd, Netpoll, PollDesc, Source};
use crate::g::G;

/// One direction of a descriptor, somebody's wait.
pub(crate) type Waited = (Arc<PollDesc>, Dir);

/// From a goroutine's address to what it waits for.
pub(crate) type Waits = HashMap<usize, Waited>;

/// How long a dump waits for shards that are locked, in naps.
const NAPS: u32 = 100;
const NAP: Duration = Duration::from_millis(1);

/// What is left of a dump's patience with shards that are locked, and what it
/// asked the kernel for once.
pub(crate) struct Patience {
    naps: Cell<u32>,
    kernel: KernelSockets,
}

impl Patience {
    pub(crate) fn new() -> Patience {
        Patience {
            naps: Cell::new(NAPS),
            kernel: KernelSockets::default(),
        }
    }

    /// Waits a little. False: no more.
    fn nap(&self) -> bool {
        let left = self.naps.get();
        self.naps.set(left.saturating_sub(1));
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

    /// Who waits for these flows: from a goroutine's address to the flow.
    pub(crate) fn waiters_for(&self, flows: &HashSet<u64>) -> HashMap<usize, u64> {
        let mut waiters = HashMap::with_capacity(flows.len());
        self.table.for_each(|desc| {
            if flows.contains(&desc.flow()) {
                for dir in [Dir::Read, Dir::Write] {
                    let waiter = desc.side(dir).word.waiter_address();
                    waiters.extend(waiter.map(|waiter| (waiter, desc.flow())));
                }
            }
        });
        waiters
    }

    /// `fd 7: tcp 10.0.0.2:8080 -> 10.0.0.1:40404 ESTABLISHED, recv-q 0, send-q
    /// 0; to read`, `kernel fd 9: tcp 127.0.0.1:8080 LISTEN, accept-q 0; to
    /// accept`.
    pub(crate) fn describe(&self, (desc, dir): &Waited, patience: &Patience) -> String {
        let (what, accepts) = match &desc.source {
            Source::Stack { fd, .. } => match self.socket_info(*fd, patience) {
                Some(info) => describe_socket(&info),
                None => ("gone, or its shard is busy".into(), false),
            },
            Source::Kernel(fd) => describe_kernel(fd, patience),
        };
        let to = match dir {
            Dir::Read if accepts => "accept",
            dir => dir.verb(),
        };
        let number = match &desc.source {
            Source::Stack { fd, .. } => format!("fd {fd}"),
            Source::Kernel(fd) => format!("kernel fd {}", fd.number()),
        };
        format!("{number}: {what}; to {to}")
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

/// In words, and whether it accepts connections.
fn describe_socket(info: &SocketInfo) -> (String, bool) {
    match info {
        SocketInfo::Flow(flow) => {
            let words = format!(
                "tcp {} -> {} {}, recv-q {}, send-q {}",
                flow.local, flow.peer, flow.state, flow.recv_queue, flow.send_queue
            );
            (words, false)
        }
        SocketInfo::Listener {
            local,
            queued,
            backlog,
            half_open,
        } => {
            let words = format!(
                "tcp {local} LISTEN, accept-q {queued} of {backlog}, half-open {half_open}"
            );
            (words, true)
        }
        SocketInfo::Udp {
            local,
            peer: None,
            recv_queue,
        } => (format!("udp {local}, recv-q {recv_queue}"), false),
        SocketInfo::Udp {
            local,
            peer: Some(peer),
            recv_queue,
        } => (format!("udp {local} -> {peer}, recv-q {recv_queue}"), false),
        SocketInfo::Lookup {
            server: Some(server),
        } => (format!("lookup, asking {server}"), false),
        SocketInfo::Lookup { server: None } => ("lookup, answered".into(), false),
        _ => ("a socket".into(), false),
    }
}

/// As [`describe_socket`]: addresses, state and queues of a socket; of anything
/// else what `/proc` calls it, as `pipe:[4711]`.
fn describe_kernel(fd: &KernelFd, patience: &Patience) -> (String, bool) {
    // Its number is another's once it is closed, which `call` keeps off.
    match fd.call(|_| Ok(sockets::link(fd.number()))) {
        Ok(Some(link)) => patience.kernel.describe(&link),
        _ => ("gone".into(), false),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn kernel_descriptors_are_described() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let stream = std::net::TcpStream::connect(at).unwrap();
        let from = stream.local_addr().unwrap();
        let (reader, _writer) = std::io::pipe().unwrap();
        let netpoll = Netpoll::new(None).unwrap();
        let patience = Patience::new();
        for (fd, want) in [
            (
                listener.into(),
                format!(": tcp {at} LISTEN, accept-q 1; to accept"),
            ),
            (
                stream.into(),
                format!(": tcp {from} -> {at} ESTABLISHED, recv-q 0, send-q 0; to read"),
            ),
            (std::os::fd::OwnedFd::from(reader), ": pipe:[".to_owned()),
        ] {
            let desc = netpoll.open_kernel(fd, "the descriptor").unwrap();
            let text = netpoll.describe(&(desc, Dir::Read), &patience);
            assert!(
                text.starts_with("kernel fd ") && text.contains(&want),
                "{text}"
            );
        }
    }
}
