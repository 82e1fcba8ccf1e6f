//! Goroutines that have a thread to themselves, for what Go's `LockOSThread` is
//! called for: code that changes its thread (namespaces, credentials, signal
//! masks, libraries with state in thread-locals).
//!
//! Go locks a goroutine to the thread that it happens to be on. Here others may
//! be bound to that thread, in the middle of their code, so a goroutine is given
//! a new thread at its start instead. That M runs nothing else: when its
//! goroutine waits it gives the P up, and what the goroutine started is run by
//! others. As in Go the thread ends with its goroutine, since nobody knows what
//! was done to it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use wirepath_driver::trace;

use super::Shared;
use crate::events;
use crate::g::{Birth, Body, G};
use crate::m::{Local, Status};

impl Shared {
    /// Starts a goroutine on a thread of its own.
    ///
    /// # Errors
    /// There is no thread to be had, or the runtime is in virtual time.
    pub(crate) fn start_on_own_thread(
        self: &Arc<Self>,
        birth: Birth,
        body: Box<dyn Body>,
    ) -> io::Result<Arc<G>> {
        if self.simulation.is_some() {
            return Err(io::Error::other("virtual time has one thread for all"));
        }
        let m = {
            let mut idle = self.idle();
            let m = self.spawn_m(&mut idle, true)?;
            idle.own.push(m.clone());
            m
        };
        let g = self.register(birth, body);
        g.set_home(m.index);
        if trace::enabled() {
            events::create(&g);
        }
        m.post(g.clone());
        self.want_p(&m);
        Ok(g)
    }
}

impl Local {
    /// The turn of an M that belongs to one goroutine. None: exit.
    pub(super) fn find_own(&self) -> Option<Arc<G>> {
        if !self.has_bound() && self.m.bound.load(Ordering::Relaxed) == 0 {
            self.leave();
            return None;
        }
        // Others have their turn after each run.
        loop {
            if !self.rest_own() {
                return None;
            }
            if let Some(g) = self.pop_bound() {
                return Some(g);
            }
        }
    }

    /// As `rest`, of an M that does not look for other work.
    fn rest_own(&self) -> bool {
        if self.give_up(|_| ()).is_none() {
            return false;
        }
        if self.has_bound() {
            self.shared.want_p(&self.m);
        }
        self.leave_the_rest();
        self.linger();
        self.obey(self.m.wait_order())
    }

    /// The goroutine has ended, and with it the M.
    fn leave(&self) {
        let left = self.give_up(|idle| {
            idle.own.retain(|other| !Arc::ptr_eq(other, &self.m));
            idle.gone.push(self.m.index);
            self.m.set_status(Status::Gone);
        });
        if left.is_some() {
            self.leave_the_rest();
        }
    }

    /// Nobody sleeps in epoll on behalf of this M.
    fn leave_the_rest(&self) {
        self.shared.ensure_poller();
        if self.shared.all_idle() {
            self.shared.check_deadlock();
        }
        self.shared.events_moved();
    }
}
