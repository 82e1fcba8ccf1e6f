//! Whether one more goroutine may be started: there is a stack for it, and the
//! limit on their number is not reached.
//!
//! A goroutine of `go` claims a stack before it is started, and has it until it
//! ends, so its first run never finds none. One of steps has a stack only
//! during a step, and claims none: a million of them may share one. If a step
//! finds no stack, the goroutine ends with that error, and the others go on.
//!
//! An M claims many at a time, so that most starts and ends touch nothing that
//! is shared.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Shared;
use crate::coro::Stacks;
use crate::g::G;
use crate::m::{self, Local, SPARE_FIBERS};
use crate::spawn::SpawnError;

/// Claims that an M takes or gives back at once.
const CLAIMS: usize = 64;

/// A limit on the number of goroutines.
pub(super) struct Limit {
    most: usize,
    live: AtomicUsize,
}

impl Limit {
    pub(super) fn new(most: usize) -> Limit {
        Limit {
            most,
            live: AtomicUsize::new(0),
        }
    }

    fn enter(&self) -> Result<(), SpawnError> {
        let more = |live| (live < self.most).then_some(live + 1);
        let entered = self
            .live
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        entered.map_or(Err(SpawnError::Limit(self.most)), |_| Ok(()))
    }

    fn leave(&self) {
        self.live.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    /// One more goroutine, with a stack from the first if `claims`.
    ///
    /// # Errors
    /// There is no stack, or the limit is reached.
    pub(crate) fn admit(
        &self,
        stacks: Option<&Arc<Stacks>>,
        claims: bool,
    ) -> Result<(), SpawnError> {
        if let Some(limit) = &self.limit {
            limit.enter()?;
        }
        if !claims {
            return Ok(());
        }
        self.claim(stacks).map_err(|error| {
            self.limit.iter().for_each(Limit::leave);
            SpawnError::Stack(error)
        })
    }

    /// What was admitted was not started, or has ended elsewhere than on an M.
    pub(crate) fn dismiss(&self, stacks: Option<&Arc<Stacks>>, claimed: bool) {
        self.limit.iter().for_each(Limit::leave);
        if claimed {
            stacks.unwrap_or(&self.stacks).unclaim(1);
        }
    }

    fn claim(&self, stacks: Option<&Arc<Stacks>>) -> io::Result<()> {
        if let Some(stacks) = stacks {
            return stacks.claim(1, 0);
        }
        m::with_local(
            |local| match local.filter(|l| std::ptr::eq(&*l.shared, self)) {
                Some(local) => local.claim(),
                None => self.stacks.claim(1, self.spare_stacks()),
            },
        )
    }

    /// Stacks that may lie with M's that do not need them.
    fn spare_stacks(&self) -> usize {
        SPARE_FIBERS * self.m_count()
    }
}

impl Local {
    fn claim(&self) -> io::Result<()> {
        let left = match self.claims.get() {
            0 => self.claim_more()?,
            left => left,
        };
        self.claims.set(left - 1);
        Ok(())
    }

    fn claim_more(&self) -> io::Result<usize> {
        let (stacks, spare) = (&self.shared.stacks, self.shared.spare_stacks());
        match stacks.claim(CLAIMS, spare) {
            Ok(()) => Ok(CLAIMS),
            // Near the end: as far as it goes.
            Err(_) => stacks.claim(1, spare).map(|()| 1),
        }
    }

    /// Gives back what was claimed and not used, at the end of the thread.
    pub(crate) fn unclaim_all(&self) {
        self.shared.stacks.unclaim(self.claims.take());
    }

    /// A goroutine that was admitted has ended on this M.
    pub(super) fn dismiss(&self, g: &G) {
        if let Some(limit) = &self.shared.limit {
            limit.leave();
        }
        if !g.claimed {
            return;
        }
        if let Some(stacks) = &g.stacks {
            return stacks.unclaim(1);
        }
        let mut left = self.claims.get() + 1;
        if left > 2 * CLAIMS {
            self.shared.stacks.unclaim(CLAIMS);
            left -= CLAIMS;
        }
        self.claims.set(left);
    }
}
