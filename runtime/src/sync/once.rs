//! Doing something once.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Mutex;

/// Does one thing once, as Go's `sync.Once`.
#[derive(Default)]
pub struct Once {
    done: AtomicBool,
    doing: Mutex<()>,
}

impl Once {
    /// Not done yet.
    #[cfg(not(loom))]
    pub const fn new() -> Once {
        Once {
            done: AtomicBool::new(false),
            doing: Mutex::new(()),
        }
    }

    /// Calls `f` if this is the first call; others wait until it has returned.
    /// As in Go, an `f` that panics counts as done. One that calls this again
    /// waits for ever.
    pub fn call(&self, f: impl FnOnce()) {
        if !self.is_done() {
            self.call_slowly(f);
        }
    }

    #[cold]
    fn call_slowly(&self, f: impl FnOnce()) {
        struct Done<'a>(&'a AtomicBool);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Release);
            }
        }
        let _doing = self.doing.lock();
        if !self.is_done() {
            let _done = Done(&self.done);
            f();
        }
    }

    /// Whether it was done.
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = self.is_done();
        f.debug_struct("Once").field("done", &done).finish()
    }
}

/// A value that is made when it is first wanted, as Go's `sync.OnceValue`.
///
/// If its making panics there is no value (where Go's would panic for all who
/// ask later), and the next who wants it makes it.
#[derive(Default)]
pub struct OnceCell<T> {
    value: OnceLock<T>,
    making: Mutex<()>,
}

impl<T> OnceCell<T> {
    /// Without a value.
    #[cfg(not(loom))]
    pub const fn new() -> OnceCell<T> {
        OnceCell {
            value: OnceLock::new(),
            making: Mutex::new(()),
        }
    }

    /// The value, if it was made.
    pub fn get(&self) -> Option<&T> {
        self.value.get()
    }

    /// The value; made by `make` if there is none. Others who want it meanwhile
    /// wait. A `make` that wants it itself waits for ever.
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        let _making = self.making.lock();
        match self.get() {
            Some(value) => value,
            // Made here, so that the `OnceLock` itself never waits.
            None => {
                let made = make();
                self.value.get_or_init(|| made)
            }
        }
    }

    /// Sets the value.
    ///
    /// # Errors
    /// There is one already; `value` comes back.
    pub fn set(&self, value: T) -> Result<(), T> {
        let _making = self.making.lock();
        self.value.set(value)
    }

    /// The value, taken out.
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnceCell").field(&self.get()).finish()
    }
}
