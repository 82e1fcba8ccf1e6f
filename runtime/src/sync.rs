//! Locks and other things that goroutines wait for, as in Go's `sync` and
//! `golang.org/x/sync`.
//!
//! All of them park the goroutine, never its thread, and block the thread when
//! used outside of goroutines, in [`blocking`](crate::blocking) or while
//! unwinding. Unlike a `std` lock they may be held across a wait, and a waiter
//! is readied where it belongs.
//!
//! * No lock is poisoned: a panic while it is held releases it, as with
//!   `parking_lot`. Go has no poisoning either (nor releases the lock: there a
//!   panic that is recovered leaves it locked unless the unlock was deferred).
//! * A wait that cannot fail ends, when the runtime of the goroutine shuts
//!   down, by unwinding the goroutine; it has not got the lock then.
//! * Guards stay on their thread (they are not `Send`), like `std`'s.
//!
//! `mutex`, `rwlock`: who may go on, without the data; `guards`: the data, and
//! the only `unsafe` of the folder.

mod cond;
#[allow(unsafe_code, reason = "the data that the locks guard")]
mod guards;
mod mutex;
mod once;
mod rwlock;
mod semaphore;
mod wait_group;

pub use cond::Cond;
pub use guards::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use once::{Once, OnceCell};
pub use semaphore::{Permit, Semaphore};
pub use wait_group::WaitGroup;
