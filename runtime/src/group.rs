//! Goroutines that work on one thing, as `golang.org/x/sync/errgroup`.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use crate::context::{Cancel, Context};
use crate::latch::Latch;
use crate::sync::{Semaphore, WaitGroup};

/// Starts goroutines and waits for all of them; the first error counts.
///
/// ```
/// # use wirepath_runtime::{Runtime, context::Context, group::Group};
/// # let rt = Runtime::builder().max_procs(1).build().expect("a runtime");
/// # rt.run(|| {
/// let (group, ctx) = Group::with_context(&Context::background());
/// group.go(|| Err("the disk is full"));
/// assert_eq!(group.wait(), Err("the disk is full"));
/// assert!(ctx.err().is_some(), "others are told");
/// # }).expect("no panic");
/// ```
pub struct Group<E> {
    shared: Arc<Members<E>>,
    limit: Option<Arc<Semaphore>>,
}

struct Members<E> {
    running: WaitGroup,
    failed: Latch<Option<Failure<E>>>,
    cancel: Option<Cancel>,
}

enum Failure<E> {
    Error(E),
    /// A payload, of [`crate::Cancelled`] too.
    Panic(Box<dyn Any + Send>),
}

impl<E> Members<E> {
    fn fail(&self, failure: Failure<E>) {
        let mut failed = self.failed.lock();
        // A later one is dropped after the lock is released.
        let later = if failed.is_none() {
            *failed = Some(failure);
            None
        } else {
            Some(failure)
        };
        drop(failed);
        if later.is_none() {
            self.cancel.iter().for_each(Cancel::cancel);
        }
    }
}

/// A member's place, until it has ended or will never run.
struct Place<E> {
    shared: Arc<Members<E>>,
    limit: Option<Arc<Semaphore>>,
    /// It ran to its end.
    ran: bool,
}

impl<E> Drop for Place<E> {
    fn drop(&mut self) {
        if !self.ran {
            self.shared.fail(Failure::Panic(Box::new(crate::Cancelled)));
        }
        if let Some(limit) = &self.limit {
            limit.release_raw(1);
        }
        self.shared.running.done();
    }
}

impl<E: Send + 'static> Group<E> {
    /// A group whose members go on when one fails.
    pub fn new() -> Group<E> {
        Group::of(None)
    }

    /// A group, and a context that ends when a member fails or all have ended.
    pub fn with_context(parent: &Context) -> (Group<E>, Context) {
        let (ctx, cancel) = parent.with_cancel();
        (Group::of(Some(cancel)), ctx)
    }

    fn of(cancel: Option<Cancel>) -> Group<E> {
        Group {
            shared: Arc::new(Members {
                running: WaitGroup::new(),
                failed: Latch::default(),
                cancel,
            }),
            limit: None,
        }
    }

    /// At most `members` run at a time from now on. Call it before the first
    /// [`go`](Group::go): those that run already do not count.
    pub fn set_limit(&mut self, members: usize) {
        self.limit = Some(Arc::new(Semaphore::new(members)));
    }

    /// Starts a member; waits while the limit is reached.
    ///
    /// # Panics
    /// Outside of a runtime, or with a limit of 0.
    #[track_caller]
    pub fn go(&self, f: impl FnOnce() -> Result<(), E> + Send + 'static) {
        if let Some(limit) = &self.limit {
            limit.acquire_raw(1, None);
        }
        self.start(f);
    }

    /// Starts a member if the limit allows that now.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[track_caller]
    pub fn try_go(&self, f: impl FnOnce() -> Result<(), E> + Send + 'static) -> bool {
        let free = self
            .limit
            .as_ref()
            .is_none_or(|limit| limit.try_acquire_raw(1));
        if free {
            self.start(f);
        }
        free
    }

    #[track_caller]
    fn start(&self, f: impl FnOnce() -> Result<(), E> + Send + 'static) {
        self.shared.running.add(1);
        let mut place = Place {
            shared: self.shared.clone(),
            limit: self.limit.clone(),
            ran: false,
        };
        crate::go(move || {
            let ended = catch_unwind(AssertUnwindSafe(f));
            place.ran = true;
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => place.shared.fail(Failure::Error(error)),
                Err(panic) => place.shared.fail(Failure::Panic(panic)),
            }
        });
    }

    /// Waits until all members have ended. Then the group can be used again,
    /// but for its context, which ends here.
    ///
    /// A goroutine whose runtime shuts down meanwhile ends, by unwinding.
    ///
    /// # Errors
    /// The first that a member returned.
    ///
    /// # Panics
    /// When a member panicked before any error, with its payload.
    pub fn wait(&self) -> Result<(), E> {
        self.shared.running.wait();
        self.shared.cancel.iter().for_each(Cancel::cancel);
        let failed = self.shared.failed.lock().take();
        match failed {
            None => Ok(()),
            Some(Failure::Error(error)) => Err(error),
            Some(Failure::Panic(panic)) => resume_unwind(panic),
        }
    }
}

impl<E: Send + 'static> Default for Group<E> {
    fn default() -> Group<E> {
        Group::new()
    }
}

impl<E> fmt::Debug for Group<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("running", &self.shared.running)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::{Runtime, select, sleep, yield_now};

    fn run(f: impl FnOnce() + Send + 'static) {
        let rt = Runtime::builder().max_procs(2).build().unwrap();
        rt.run(f).unwrap();
    }

    #[test]
    fn the_first_error_counts_and_ends_the_context() {
        run(|| {
            let (group, ctx) = Group::with_context(&Context::background());
            for i in 0..4 {
                let ctx = ctx.clone();
                group.go(move || {
                    if i == 2 {
                        return Err(i);
                    }
                    select! { recv(ctx.done()) => Err(100) }
                });
            }
            assert_eq!(group.wait(), Err(2));
            group.go(|| Ok(()));
            assert_eq!(group.wait(), Ok(()));
        });
    }

    #[test]
    fn a_panic_comes_out_of_the_wait() {
        run(|| {
            let group = Group::<()>::new();
            group.go(|| panic!("on purpose"));
            let waited = catch_unwind(AssertUnwindSafe(|| group.wait()));
            assert_eq!(waited.unwrap_err().downcast_ref(), Some(&"on purpose"));
        });
    }

    #[test]
    fn no_more_than_the_limit_run() {
        run(|| {
            let mut group = Group::<()>::new();
            group.set_limit(3);
            let running = Arc::new(AtomicUsize::new(0));
            for _ in 0..30 {
                let running = running.clone();
                group.go(move || {
                    assert!(running.fetch_add(1, Ordering::SeqCst) < 3);
                    yield_now();
                    running.fetch_sub(1, Ordering::SeqCst);
                    Ok(())
                });
            }
            group.wait().unwrap();
            assert!((0..3).all(|_| group.try_go(|| {
                sleep(Duration::from_millis(20));
                Ok(())
            })));
            assert!(!group.try_go(|| Ok(())));
            group.wait().unwrap();
        });
    }
}
