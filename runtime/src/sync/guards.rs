//! The data under a [`Mutex`] and an [`RwLock`], and the guards that reach it.
//!
//! This file has the `unsafe` of the locks: cells that a guard looks into. The
//! argument is the same for all of them. A guard is made only after its lock
//! was taken, and gives it back only when it is dropped; `mutex` and `rwlock`
//! let one guard that writes, or guards that only read, exist at a time, and
//! taking a lock synchronizes with its last giving back (their loom tests check
//! both). So a writing guard has the data for itself, and a reading one shares
//! it with readers.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use super::mutex::RawMutex;
use super::rwlock::RawRwLock;
use crate::model::WaitReason;

/// Not to be sent to another thread.
type Stays = PhantomData<*const ()>;

/// One goroutine at a time, as Go's `sync.Mutex`; with the data that it guards,
/// as `std`'s.
///
/// It may be held across a wait. It is not poisoned: a panic releases it. It is
/// handed to the first waiter once that has waited for a millisecond, so none
/// starves. Locking it again in the goroutine that has it waits for ever.
#[derive(Default)]
pub struct Mutex<T: ?Sized> {
    raw: RawMutex,
    data: UnsafeCell<T>,
}

// SAFETY: see the module: the data is with one guard at a time, so sharing the
// mutex sends T from thread to thread and never shares it.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    /// Free, with `data`.
    #[cfg(not(loom))]
    pub const fn new(data: T) -> Mutex<T> {
        Mutex {
            raw: RawMutex::new(),
            data: UnsafeCell::new(data),
        }
    }

    /// Free, with `data`.
    #[cfg(loom)]
    pub fn new(data: T) -> Mutex<T> {
        Mutex {
            raw: RawMutex::new(),
            data: UnsafeCell::new(data),
        }
    }

    /// The data.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Takes it; waits while another has it.
    ///
    /// A goroutine whose runtime shuts down while it waits ends, by unwinding.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.lock_for(WaitReason::MutexLock)
    }

    #[inline]
    pub(super) fn lock_for(&self, reason: WaitReason) -> MutexGuard<'_, T> {
        self.raw.lock(reason);
        MutexGuard {
            mutex: self,
            stays: PhantomData,
        }
    }

    /// Takes it if it is free.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.raw.try_lock().then_some(MutexGuard {
            mutex: self,
            stays: PhantomData,
        })
    }

    /// The data of a mutex that nobody else can have.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }

    /// Whether somebody has it now.
    pub fn is_locked(&self) -> bool {
        self.raw.is_locked()
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(data: T) -> Mutex<T> {
        Mutex::new(data)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_lock() {
            Some(guard) => f.debug_tuple("Mutex").field(&&*guard).finish(),
            None => f.write_str("Mutex(<locked>)"),
        }
    }
}

/// A mutex that was taken. Dropping it gives it back.
#[must_use = "it is given back at once otherwise"]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    stays: Stays,
}

// SAFETY: a shared guard gives a shared T and nothing else.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// The mutex that it is of.
    pub(super) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard has the data for itself, see the module.
        unsafe { &*self.mutex.data.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard has the data for itself, and is borrowed mutably.
        unsafe { &mut *self.mutex.data.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.mutex.raw.unlock();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// One writer or any number of readers at a time, as Go's `sync.RWMutex`.
///
/// A writer that waits keeps new readers out; readers that wait go in before
/// the next writer. So a goroutine that reads must not take it to read again:
/// with a writer in between both wait for ever. It is not poisoned.
#[derive(Default)]
pub struct RwLock<T: ?Sized> {
    raw: RawRwLock,
    data: UnsafeCell<T>,
}

// SAFETY: see the module: the data is with one writer, which sends it, or with
// readers, which share it.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

impl<T> RwLock<T> {
    /// Free, with `data`.
    #[cfg(not(loom))]
    pub const fn new(data: T) -> RwLock<T> {
        RwLock {
            raw: RawRwLock::new(),
            data: UnsafeCell::new(data),
        }
    }

    /// Free, with `data`.
    #[cfg(loom)]
    pub fn new(data: T) -> RwLock<T> {
        RwLock {
            raw: RawRwLock::new(),
            data: UnsafeCell::new(data),
        }
    }

    /// The data.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    fn reader(&self) -> RwLockReadGuard<'_, T> {
        RwLockReadGuard {
            lock: self,
            stays: PhantomData,
        }
    }

    fn writer(&self) -> RwLockWriteGuard<'_, T> {
        RwLockWriteGuard {
            lock: self,
            stays: PhantomData,
        }
    }

    /// Takes it to read; waits while a writer has it or waits for it.
    ///
    /// A goroutine whose runtime shuts down while it waits ends, by unwinding.
    #[inline]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.raw.read();
        self.reader()
    }

    /// Takes it to write; waits while others have it.
    ///
    /// A goroutine whose runtime shuts down while it waits ends, by unwinding.
    #[inline]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.raw.write();
        self.writer()
    }

    /// Takes it to read if that needs no wait.
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        self.raw.try_read().then(|| self.reader())
    }

    /// Takes it to write if that needs no wait.
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        self.raw.try_write().then(|| self.writer())
    }

    /// The data of a lock that nobody else can have.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(data: T) -> RwLock<T> {
        RwLock::new(data)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_read() {
            Some(guard) => f.debug_tuple("RwLock").field(&&*guard).finish(),
            None => f.write_str("RwLock(<locked>)"),
        }
    }
}

/// A lock that was taken to read. Dropping it gives it back.
#[must_use = "it is given back at once otherwise"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    stays: Stays,
}

// SAFETY: a shared guard gives a shared T and nothing else.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: there are only readers while this guard is, see the module.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.raw.leave_read();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A lock that was taken to write. Dropping it gives it back.
#[must_use = "it is given back at once otherwise"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    stays: Stays,
}

// SAFETY: a shared guard gives a shared T and nothing else.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard has the data for itself, see the module.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard has the data for itself, and is borrowed mutably.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.raw.leave_write();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
