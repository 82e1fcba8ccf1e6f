//! What the poller sleeps on: the runtime's one epoll, through the eventfd that
//! wakes it, and until when.
//!
//! At most one M sleeps here; the order of steps that keeps a wake from being
//! missed is told in [`super::vigil`] and [`super::census`].

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, Timespec, eventfd};
use wirepath_driver::{Nanos, clock};

use super::vigil::Vigil;
use crate::netpoll::{EVENT, Netpoll, WAKEUP};
use crate::park::Parker;

/// What the poller sleeps on.
pub(super) struct Sleeper {
    event: OwnedFd,
    pub(super) vigil: Vigil,
}

impl Sleeper {
    /// Puts what may wake the poller into netpoll's epoll: its own eventfd, and
    /// the fd of each shard.
    pub(super) fn new(netpoll: &Netpoll) -> io::Result<Sleeper> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        netpoll.kernel.watch(event.as_fd(), EVENT)?;
        for fd in netpoll.wakeup_fds() {
            netpoll.kernel.watch(fd.as_fd(), WAKEUP)?;
        }
        Ok(Sleeper {
            event,
            vigil: Vigil::new(),
        })
    }

    pub(super) fn wake(&self) {
        // Fails only when the counter is full, and then it is readable.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    /// Wakes the poller if it would sleep past `when`, a timer just added.
    pub(super) fn wake_before(&self, when: Nanos) {
        if self.vigil.is_past(when) {
            self.wake();
        }
    }

    /// Sleeps. Appends whom kernel descriptors concern to `woken`, which the
    /// caller unparks.
    pub(super) fn wait(&self, netpoll: &Netpoll, until: Nanos, woken: &mut Vec<Parker>) {
        let timeout = (until != Nanos::MAX).then(|| timeout(until.since(clock::now())));
        if netpoll.sleep(timeout.as_ref(), woken) {
            let mut counter = [0; 8];
            let _ = rustix::io::read(&self.event, &mut counter);
        }
    }
}

/// The longest sleep with a timeout: epoll's is an `int` of milliseconds, and
/// rustix asks for longer ones by a call that kernels before 5.11 lack.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// `left` as epoll knows it: in whole milliseconds, rounded up, so that a sleep
/// does not end before its time and then again and again until then.
pub(super) fn timeout(left: Duration) -> Timespec {
    let millis = left.min(LONGEST).as_nanos().div_ceil(1_000_000) as i64;
    Timespec {
        tv_sec: millis / 1_000,
        tv_nsec: millis % 1_000 * 1_000_000,
    }
}
