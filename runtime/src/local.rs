//! Goroutine-local values.
//!
//! A `thread_local!` is shared by all goroutines of a thread, and left behind by
//! one of [`steps`](crate::steps) that moves. What
//! [`goroutine_local!`](crate::goroutine_local!) declares is each goroutine's
//! own. It moves with the goroutine, so it must be `Send`. Nothing is inherited
//! from the goroutine that starts another. Values are dropped at the
//! goroutine's end, on its own stack, after all else of it and before its handle
//! reports the end; a value that is made anew by such a drop is dropped too.
//! Outside of goroutines each thread has its own.
//!
//! A value is lent by taking it out of its place, which needs no `unsafe` and
//! gives `&mut` even across a wait. The same value cannot be lent twice at a
//! time: that panics, like a `RefCell`.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::m;

/// Rounds of dropping values whose drops make others, as many as POSIX has for
/// threads; what is left then is dropped with the goroutine's memory.
const ROUNDS: usize = 4;

type Value = Box<dyn Any + Send>;

/// A goroutine's values, by the address of what declared them; `None` is lent.
#[derive(Default)]
struct Map(HashMap<usize, Option<Value>>);

/// A goroutine's place for its values. It alone looks into it while it lives.
#[derive(Default)]
pub(crate) struct Locals(Mutex<Map>);

impl Locals {
    fn with<R>(&self, f: impl FnOnce(&mut Map) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Calls `f` with the caller's values; also in a goroutine that unwinds or
/// blocks its thread. Nothing of a user's may run in `f`.
fn with_map<R>(f: impl FnOnce(&mut Map) -> R) -> R {
    thread_local!(static OUTSIDE: RefCell<Map> = RefCell::default());
    m::with_running(|g| match g {
        Some(g) => g.locals().with(f),
        None => OUTSIDE.with_borrow_mut(f),
    })
}

/// Drops the values of the goroutine that calls, which ends.
pub(crate) fn clear() {
    for _ in 0..ROUNDS {
        let values = m::with_running(|g| {
            let locals = g?.locals_if_any()?;
            let map = locals.with(std::mem::take);
            (!map.0.is_empty()).then_some(map)
        });
        if values.is_none() {
            return;
        }
    }
}

/// A value of each goroutine's own, declared by
/// [`goroutine_local!`](crate::goroutine_local!).
pub struct Local<T: 'static> {
    init: fn() -> T,
}

impl<T: Send + 'static> Local<T> {
    /// Used by the macro. It must be a `static`.
    #[doc(hidden)]
    pub const fn new(init: fn() -> T) -> Local<T> {
        Local { init }
    }

    fn key(&'static self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// The value, taken out of its place. `None`: there is none yet.
    fn lend(&'static self) -> Option<Box<T>> {
        let taken = with_map(|map| map.0.insert(self.key(), None));
        match taken {
            None => None,
            Some(Some(value)) => Some(value.downcast().expect("the key belongs to one type")),
            Some(None) => panic!("a goroutine-local value is in use already"),
        }
    }

    /// Calls `f` with the caller's value, which is made first if it has none.
    ///
    /// # Panics
    /// When it is called with the same value inside of `f`.
    pub fn with<R>(&'static self, f: impl FnOnce(&mut T) -> R) -> R {
        let mut lent = Lent {
            key: self.key(),
            value: self.lend(),
        };
        f(lent.value.get_or_insert_with(|| Box::new((self.init)())))
    }

    /// A copy of the caller's value.
    ///
    /// # Panics
    /// As [`with`](Local::with).
    pub fn get(&'static self) -> T
    where
        T: Clone,
    {
        self.with(|value| value.clone())
    }

    /// Sets the caller's value, and drops the one before.
    ///
    /// # Panics
    /// As [`with`](Local::with).
    pub fn set(&'static self, value: T) {
        let before = {
            let mut lent = Lent {
                key: self.key(),
                value: self.lend(),
            };
            lent.value.replace(Box::new(value))
        };
        drop(before);
    }

    /// Takes the caller's value away; the next use makes another.
    ///
    /// # Panics
    /// As [`with`](Local::with).
    pub fn take(&'static self) -> Option<T> {
        let mut lent = Lent {
            key: self.key(),
            value: self.lend(),
        };
        lent.value.take().map(|value| *value)
    }
}

impl<T> fmt::Debug for Local<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").finish_non_exhaustive()
    }
}

/// Brings a value back to its place, also when its user panics.
struct Lent<T: Send + 'static> {
    key: usize,
    value: Option<Box<T>>,
}

impl<T: Send + 'static> Drop for Lent<T> {
    fn drop(&mut self) {
        let value = self.value.take();
        with_map(|map| match value {
            Some(value) => drop(map.0.insert(self.key, Some(value))),
            None => drop(map.0.remove(&self.key)),
        });
    }
}

/// Declares values of which each goroutine has its own; see
/// [`local`](mod@crate::local).
///
/// ```
/// wirepath_runtime::goroutine_local! {
///     static REQUESTS: u32 = 0;
/// }
/// REQUESTS.with(|n| *n += 1);
/// assert_eq!(REQUESTS.get(), 1);
/// ```
///
/// What is not `Send` is refused, since a goroutine moves between its steps:
///
/// ```compile_fail,E0277
/// wirepath_runtime::goroutine_local! {
///     static SHARED: std::rc::Rc<u32> = std::rc::Rc::new(0);
/// }
/// ```
#[macro_export]
macro_rules! goroutine_local {
    ($($(#[$attr:meta])* $vis:vis static $name:ident: $t:ty = $init:expr);+ $(;)?) => {$(
        $(#[$attr])*
        $vis static $name: $crate::local::Local<$t> = $crate::local::Local::new(|| $init);
    )+};
}

/// The name of the calling goroutine, if it was given one.
pub fn current_name() -> Option<Arc<str>> {
    m::with_running(|g| g?.name.clone())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::{Next, Runtime, go, go_named, steps, yield_now};

    fn run(procs: usize, f: impl FnOnce() + Send + 'static) {
        let rt = Runtime::builder().max_procs(procs).build().unwrap();
        rt.run(f).unwrap();
    }

    goroutine_local! {
        static COUNT: u32 = 10;
        static NAME: String = String::from("nobody");
    }

    #[test]
    fn each_goroutine_has_its_own_and_inherits_none() {
        run(1, || {
            COUNT.set(99);
            let workers: Vec<_> = (0..4)
                .map(|i| {
                    go(move || {
                        for _ in 0..3 {
                            COUNT.with(|n| {
                                yield_now();
                                *n += i;
                            });
                        }
                        COUNT.get()
                    })
                })
                .collect();
            let counts: Vec<_> = workers.into_iter().map(|w| w.join().unwrap()).collect();
            assert_eq!(counts, [10, 13, 16, 19]);
            assert_eq!((COUNT.take(), COUNT.take()), (Some(99), None));
            assert_eq!(COUNT.get(), 10);
        });
        assert_eq!(NAME.get(), "nobody", "a thread has its own");
    }

    #[test]
    fn they_move_with_a_goroutine_of_steps() {
        run(2, || {
            let stepping: Vec<_> = (0..50)
                .map(|i| {
                    steps(0, move |n| {
                        COUNT.with(|count| {
                            assert_eq!(*count, 10 + *n * i);
                            *count += i;
                        });
                        *n += 1;
                        if *n == 50 { Next::Done } else { Next::Yield }
                    })
                })
                .collect();
            stepping.into_iter().for_each(|s| s.join().unwrap());
        });
    }

    #[test]
    fn values_are_dropped_before_the_handle_tells_of_the_end() {
        static DROPS: AtomicUsize = AtomicUsize::new(0);
        struct Counted(bool);
        impl Drop for Counted {
            fn drop(&mut self) {
                assert!(crate::current_id().is_some(), "on the goroutine itself");
                // It may use others, even make them anew.
                NAME.with(|name| name.push('x'));
                yield_now();
                DROPS.fetch_add(1, Ordering::SeqCst);
                assert!(!self.0, "on purpose");
            }
        }
        goroutine_local! { static COUNTED: Option<Counted> = None }
        run(1, || {
            let make = |panics| COUNTED.set(Some(Counted(panics)));
            go(move || make(false)).join().unwrap();
            assert_eq!(DROPS.load(Ordering::SeqCst), 1);
            let unwound = go(move || {
                make(false);
                panic!("on purpose");
            });
            assert!(unwound.join().is_err());
            assert_eq!(DROPS.load(Ordering::SeqCst), 2);
            let stepped = steps((), move |()| {
                make(false);
                Next::Done
            });
            stepped.join().unwrap();
            assert_eq!(DROPS.load(Ordering::SeqCst), 3);
            // A drop that panics is reported as the goroutine's.
            assert!(go(move || make(true)).join().is_err());
        });
    }

    #[test]
    fn a_value_is_lent_once_at_a_time_and_comes_back() {
        run(1, || {
            let twice = catch_unwind(AssertUnwindSafe(|| COUNT.with(|_| COUNT.get())));
            assert!(twice.is_err());
            assert_eq!(COUNT.get(), 10);
        });
    }

    #[test]
    fn an_unwinding_goroutine_still_has_its_own() {
        struct Look;
        impl Drop for Look {
            fn drop(&mut self) {
                COUNT.with(|n| *n += 1);
                assert_eq!(COUNT.get(), 78);
            }
        }
        run(1, || {
            let unwound = go(|| {
                COUNT.set(77);
                let _look = Look;
                panic!("on purpose");
            });
            assert!(unwound.join().is_err());
        });
    }

    #[test]
    fn names() {
        run(1, || {
            let named = go_named("worker", current_name).join().unwrap();
            assert_eq!(named.as_deref(), Some("worker"));
            assert_eq!(go(current_name).join().unwrap(), None);
        });
        assert_eq!(current_name(), None);
    }
}
