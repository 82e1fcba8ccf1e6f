//! The only place that switches stacks.
//!
//! A [`Fiber`] is a corosensei coroutine on a stack of the [`Arena`], running
//! a loop for ever: resume it with a goroutine and it runs that goroutine's
//! next step. So a step costs a switch there and a switch back, and never the
//! making of a coroutine.

mod overflow;
mod pool;
mod stack;
#[cfg(all(test, not(loom)))]
mod thread_local_tests;

use std::convert::Infallible;
use std::mem::ManuallyDrop;

use corosensei::{Coroutine, CoroutineResult, Yielder};

use crate::g::G;

pub(crate) use overflow::{AltStack, install};
pub(crate) use pool::Stacks;
use stack::Slot;
pub(crate) use stack::high_water;

/// Why a fiber came back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Out {
    /// The step ended, and left in its G what it wants next; the fiber is idle.
    Step,
    /// The goroutine wants to be parked, in the middle of a step.
    Park,
    /// The goroutine lets others run, in the middle of a step.
    Yield,
}

/// The goroutine that a fiber is to run. It outlives the step: the M that
/// resumes holds a count until the fiber comes back, and the G is not freed
/// while it is parked (the registry holds it).
struct Job(*const G);

type Co = Coroutine<Job, Out, Infallible, Slot>;

/// A stack and the root loop on it. In a box, since it moves to its goroutine
/// and back at each park.
pub(crate) struct Fiber(Box<Inner>);

struct Inner {
    co: ManuallyDrop<Co>,
    bounds: (usize, usize),
    /// No goroutine's code is on the stack.
    idle: bool,
}

// SAFETY: corosensei leaves Coroutine !Send because a stack may hold values
// that are not. An idle fiber's stack holds the root loop alone, whose frame
// has a Yielder reference into that same stack and a spent Job: nothing of a
// user's, nothing thread-local (steps are called through `run_body`, which is
// never inlined, so no thread-local's address is kept in the loop's frame). It
// may therefore be resumed on any thread. A fiber that is not idle is kept in
// its G, which is bound: see the argument there. Dropping one that is not idle
// touches nothing of what is on it.
unsafe impl Send for Fiber {}

/// How code on a fiber gets back to its M.
#[derive(Clone, Copy)]
pub(crate) struct Suspender(*const Yielder<Job, Out>);

impl Suspender {
    /// Switches to the M that resumed; returns when it resumes again.
    ///
    /// # Safety
    /// The caller runs on the fiber that this belongs to.
    pub(crate) unsafe fn suspend(self, out: Out) {
        // SAFETY: the yielder lies at the base of the caller's own stack.
        unsafe { &*self.0 }.suspend(out);
    }
}

impl Fiber {
    /// A fiber on `slot`. No memory of the slot is touched but its top.
    pub(crate) fn new(slot: Slot) -> Fiber {
        let bounds = slot.bounds();
        let co = Coroutine::with_stack(slot, |yielder: &Yielder<Job, Out>, mut job: Job| {
            loop {
                // SAFETY: the job's G outlives the step (see Job), and this is
                // the fiber that was resumed for it.
                unsafe { (*job.0).run_body(Suspender(yielder)) };
                job = yielder.suspend(Out::Step);
            }
        });
        Fiber(Box::new(Inner {
            co: ManuallyDrop::new(co),
            bounds,
            idle: true,
        }))
    }

    /// The stack's lowest usable address and the one above its highest.
    pub(crate) fn bounds(&self) -> (usize, usize) {
        self.0.bounds
    }

    /// Runs `g` until its step ends or it wants to wait.
    pub(crate) fn resume(&mut self, g: &G) -> Out {
        self.0.idle = false;
        match self.0.co.resume(Job(g)) {
            CoroutineResult::Yield(out) => {
                self.0.idle = out == Out::Step;
                out
            }
            CoroutineResult::Return(never) => match never {},
        }
    }

    /// The slot of an idle fiber. What is on its stack is no longer needed.
    fn into_slot(self) -> Slot {
        let mut inner = self.0;
        debug_assert!(inner.idle);
        // SAFETY: the fiber is idle.
        let slot = unsafe { inner.take_slot() };
        // Nothing is left for the drop.
        inner.idle = false;
        slot
    }
}

impl Inner {
    /// # Safety
    /// The fiber is idle, and neither used nor dropped as idle after this.
    unsafe fn take_slot(&mut self) -> Slot {
        // SAFETY: an idle fiber's stack holds the root loop alone (or not even
        // that), and nothing in its frame needs to be dropped, nor in the
        // closure that was not called yet; after this the coroutine is complete
        // and gives its stack out.
        unsafe {
            self.co.force_reset();
            ManuallyDrop::take(&mut self.co).into_stack()
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.idle {
            // SAFETY: it is idle, and dropped now.
            drop(unsafe { self.take_slot() });
        }
        // Else a goroutine's frames are on it that only their own thread may
        // unwind: the stack is leaked.
    }
}
