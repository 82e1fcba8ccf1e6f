//! Goroutines that borrow from the one that starts them, as
//! [`std::thread::scope`].
//!
//! The one `unsafe` here calls a closure `'static` that borrows for `'scope`
//! only. That is sound if the closure, what it borrows and what it returns are
//! not touched after [`scope`] has returned or unwound, nor after the stack from
//! which it was called is gone:
//!
//! * [`scope`] leaves neither way before every [`Running`] that was made in it
//!   is dropped: it catches what its function throws, and waits also when its
//!   runtime shuts down.
//! * A job's `Running` is its last field, and is dropped after the closure, with
//!   all that it captured, and the job's share of the result, whether the job
//!   runs, panics, or is dropped without having run.
//! * What may remain of a result is with a [`ScopedHandle`], whose lifetime is
//!   `'scope`; if that is leaked, so is the result, untouched.
//! * A goroutine that is suspended for ever keeps its stack for ever: it is
//!   leaked, with the arena that it is of, never freed or used again (see
//!   `coro`). So a stack that is borrowed from is there as long as anybody
//!   borrows.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::latch::Latch;
use crate::park::{Parker, WaitReason, Wake, park};
use crate::spawn::{Cancelled, unwind_cancelled};

/// Where goroutines are started that borrow; see [`scope`].
pub struct Scope<'scope, 'env: 'scope> {
    shared: Arc<Shared>,
    /// Invariant, so that a goroutine cannot borrow what lives shorter.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

struct Shared {
    owner: Parker,
    running: AtomicUsize,
    /// Panics that nobody was told.
    panics: AtomicUsize,
}

/// Yields, once the runtime shuts down, before the thread sleeps in between.
const YIELDS: usize = 1_000;

const NAP: Duration = Duration::from_micros(100);

impl Shared {
    /// Waits for the end of all. True: the runtime shuts down.
    fn wait(&self) -> bool {
        let mut cancelled = 0;
        while self.running.load(Ordering::Acquire) != 0 {
            if park(WaitReason::WaitGroup, None) != Wake::Cancelled {
                continue;
            }
            // The others are cancelled as well, and end at their next wait.
            cancelled += 1;
            crate::yield_now();
            if cancelled > YIELDS {
                std::thread::sleep(NAP);
            }
        }
        cancelled > 0
    }
}

/// Calls `f`, in which goroutines can be started that borrow what lives outside
/// of it, and returns after all of them have ended.
///
/// ```
/// # let rt = wirepath_runtime::Runtime::builder().max_procs(1).build().expect("a runtime");
/// # rt.run(|| {
/// let text = String::from("a b c");
/// let words = wirepath_runtime::scope(|s| {
///     let count = s.go(|| text.split(' ').count());
///     count.join().expect("no panic")
/// });
/// assert_eq!((words, text.len()), (3, 5));
/// # }).expect("no panic");
/// ```
///
/// A goroutine whose runtime shuts down meanwhile waits for the others, and ends
/// then, by unwinding, if it was told before they had ended.
///
/// # Panics
/// When a goroutine panicked whose handle was not joined.
pub fn scope<'env, T>(f: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T) -> T {
    let scope = Scope {
        shared: Arc::new(Shared {
            owner: Parker::current(),
            running: AtomicUsize::new(0),
            panics: AtomicUsize::new(0),
        }),
        scope: PhantomData,
        env: PhantomData,
    };
    let result = catch_unwind(AssertUnwindSafe(|| f(&scope)));
    let cancelled = scope.shared.wait();
    match result {
        Err(panic) => resume_unwind(panic),
        Ok(_) if cancelled => unwind_cancelled(),
        Ok(_) if scope.shared.panics.load(Ordering::Relaxed) > 0 => {
            panic!("a goroutine of a scope panicked")
        }
        Ok(value) => value,
    }
}

/// Counts a goroutine until it is dropped.
struct Running(Arc<Shared>);

impl Running {
    fn new(shared: &Arc<Shared>) -> Running {
        shared.running.fetch_add(1, Ordering::Relaxed);
        Running(shared.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::Release) == 1 {
            self.0.owner.unpark();
        }
    }
}

/// The result of a goroutine, and who waits for it.
struct Packet<T>(Latch<(Option<std::thread::Result<T>>, Option<Parker>)>);

impl<T> Packet<T> {
    fn set(&self, result: std::thread::Result<T>) {
        let mut state = self.0.lock();
        state.0 = Some(result);
        let waiter = state.1.take();
        drop(state);
        if let Some(waiter) = waiter {
            waiter.into_unparked();
        }
    }
}

/// What a goroutine does. Its fields are dropped in this order.
struct Job<F, T> {
    f: Option<F>,
    packet: Option<Arc<Packet<T>>>,
    running: Running,
}

impl<T, F: FnOnce() -> T> Job<F, T> {
    fn run(mut self) {
        let Some(f) = self.f.take() else { return };
        let result = catch_unwind(AssertUnwindSafe(f));
        if result.is_err() {
            self.running.0.panics.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(packet) = &self.packet {
            packet.set(result);
        }
    }
}

impl<F, T> Drop for Job<F, T> {
    /// A job that never ran was cancelled. Whoever waits is told so.
    fn drop(&mut self) {
        let Some(f) = self.f.take() else { return };
        let _ = catch_unwind(AssertUnwindSafe(|| drop(f)));
        if let Some(packet) = &self.packet {
            packet.set(Err(Box::new(Cancelled)));
        }
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Starts a goroutine that runs `f`.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[track_caller]
    pub fn go<T: Send + 'scope>(
        &'scope self,
        f: impl FnOnce() -> T + Send + 'scope,
    ) -> ScopedHandle<'scope, T> {
        let packet = Arc::new(Packet(Latch::new((None, None))));
        let job = Job {
            f: Some(f),
            packet: Some(packet.clone()),
            running: Running::new(&self.shared),
        };
        let body: Box<dyn FnOnce() + Send + 'scope> = Box::new(move || job.run());
        // SAFETY: only the lifetime changes. `scope` waits for the job's
        // `Running`, after which nothing of 'scope is touched: see the module.
        let body = unsafe {
            std::mem::transmute::<
                Box<dyn FnOnce() + Send + 'scope>,
                Box<dyn FnOnce() + Send + 'static>,
            >(body)
        };
        drop(crate::go(body));
        ScopedHandle {
            packet,
            shared: self.shared.clone(),
            scope: PhantomData,
        }
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("running", &self.shared.running.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

/// The handle of a goroutine of a scope, which ends before the scope does in
/// any case.
pub struct ScopedHandle<'scope, T> {
    packet: Arc<Packet<T>>,
    shared: Arc<Shared>,
    scope: PhantomData<&'scope ()>,
}

impl<T> ScopedHandle<'_, T> {
    /// Waits for the goroutine's end: the value that it returned, or the
    /// payload of its panic ([`Cancelled`] when its runtime ended it).
    ///
    /// # Errors
    /// The payload.
    pub fn join(self) -> Result<T, Box<dyn Any + Send>> {
        loop {
            {
                let mut state = self.packet.0.lock();
                if let Some(result) = state.0.take() {
                    drop(state);
                    if result.is_err() {
                        self.tell();
                    }
                    return result;
                }
                state.1 = Some(Parker::current());
            }
            if park(WaitReason::Join, None) == Wake::Cancelled {
                return Err(Box::new(Cancelled));
            }
        }
    }

    /// Somebody was told of a panic.
    fn tell(&self) {
        let panics = &self.shared.panics;
        let _ = panics.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
    }
}

impl<T> fmt::Debug for ScopedHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedHandle").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use super::*;
    use crate::chan::channel;
    use crate::{Runtime, sleep, yield_now};

    fn run<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> std::thread::Result<T> {
        let rt = Runtime::builder().max_procs(2).build().unwrap();
        rt.run(f)
    }

    #[test]
    fn goroutines_borrow_and_write() {
        run(|| {
            let mut parts = [0_u64; 8];
            let offset = 10;
            scope(|s| {
                for (i, part) in parts.iter_mut().enumerate() {
                    s.go(move || {
                        yield_now();
                        *part = i as u64 + offset;
                    });
                }
            });
            assert_eq!(parts.iter().sum::<u64>(), 28 + 80);
        })
        .unwrap();
    }

    #[test]
    fn a_goroutine_may_start_others_and_return_a_borrow() {
        run(|| {
            let text = String::from("left right");
            let (left, right) = scope(|s| {
                let both = s.go(|| {
                    let right = s.go(|| text.rsplit(' ').next());
                    (text.split(' ').next(), right.join().unwrap())
                });
                both.join().unwrap()
            });
            assert_eq!((left, right), (Some("left"), Some("right")));
        })
        .unwrap();
    }

    #[test]
    fn it_waits_for_all_also_when_it_unwinds() {
        run(|| {
            let ended = AtomicBool::new(false);
            let thrown = catch_unwind(AssertUnwindSafe(|| {
                scope(|s| {
                    s.go(|| {
                        sleep(Duration::from_millis(10));
                        ended.store(true, Ordering::Relaxed);
                    });
                    panic!("on purpose");
                });
            }));
            assert_eq!(thrown.unwrap_err().downcast_ref(), Some(&"on purpose"));
            assert!(ended.load(Ordering::Relaxed));
        })
        .unwrap();
    }

    #[test]
    fn a_panic_is_told_once() {
        run(|| {
            let told = scope(|s| s.go(|| panic!("on purpose")).join());
            assert!(told.is_err());
            let thrown = catch_unwind(AssertUnwindSafe(|| {
                scope(|s| drop(s.go(|| panic!("on purpose"))));
            }));
            let text = thrown.unwrap_err();
            assert_eq!(
                text.downcast_ref(),
                Some(&"a goroutine of a scope panicked")
            );
        })
        .unwrap();
    }

    #[test]
    fn leaked_handles_do_not_matter() {
        run(|| {
            let value = 5;
            scope(|s| std::mem::forget(s.go(|| &value)));
        })
        .unwrap();
    }

    #[test]
    fn a_shutdown_ends_the_goroutines_first() {
        let rt = Runtime::builder().max_procs(2).build().unwrap();
        let (entered, was_entered) = channel(4);
        let owner = rt.go(move || {
            let (_never, silence) = channel::<u8>(0);
            let ended = [const { AtomicBool::new(false) }; 3];
            let waited = catch_unwind(AssertUnwindSafe(|| {
                scope(|s| {
                    for ended in &ended {
                        let (entered, silence) = (entered.clone(), silence.clone());
                        s.go(move || {
                            entered.send(()).unwrap();
                            let _ = silence.recv();
                            ended.store(true, Ordering::Relaxed);
                        });
                    }
                });
            }));
            // They may all have ended before the owner was told.
            let ended_well = waited.map_or_else(|e| e.is::<Cancelled>(), |()| true);
            ended_well && ended.iter().all(|e| e.load(Ordering::Relaxed))
        });
        (0..3).for_each(|_| was_entered.recv().unwrap());
        rt.shutdown(Duration::from_secs(20));
        assert!(owner.join().unwrap());
    }
}
