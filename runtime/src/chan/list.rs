//! Those who wait at one side of a channel, first come first served.
//!
//! A list through the frames of the waits themselves: entering it and leaving
//! it are a few stores, it allocates nothing, and a waiter that was served
//! finds that out, and its value, without the channel's lock. That is worth the
//! `unsafe` of this file: with a list that owns its nodes a hand-over took a
//! third more time.
//!
//! # Why it is sound
//!
//! * A list and the insides of its nodes are touched under the channel's lock
//!   only; all functions that do so are given the list mutably, which only the
//!   lock's guard gives.
//! * A node that is in a list (`IN`) stays where it is: [`Node::push`] asks for
//!   that, and its callers are [`wait`], whose frame the node is in and which
//!   returns only when the node is out, and [`Node::enter`], for a case of a
//!   select, which `select::wait` borrows until all cases have left. A node that
//!   is dropped in a list in spite of that ends the process.
//! * Whoever takes a node out of the list stores `SERVED` or `PASSED` as the last
//!   thing that it does to the node, with release. From then on the node is its
//!   owner's, who has seen that with acquire, or under the lock, before it
//!   touches the inside.
//! * A frame of a goroutine that never goes on stays as it is for ever (see
//!   `coro`), and a thread's that waits as well.

use std::cell::UnsafeCell;
use std::ptr;

use wirepath_driver::Nanos;

use super::{Chan, State};
use crate::claim::{Both, Me};
use crate::model::{AtomicUsize, LatchGuard, Ordering, Parker, WaitReason, Wake, park};

/// In no list yet; the inside is the owner's.
const NEW: usize = 0;
/// In a list.
const IN: usize = 1;
/// Taken out, and its operation is completed.
const SERVED: usize = 2;
/// Taken out, since another case of its select was completed.
const PASSED: usize = 3;
/// Left by itself.
const LEFT: usize = 4;

/// One that waits, or a case of one.
pub(super) struct Node<T> {
    place: AtomicUsize,
    inside: UnsafeCell<Inside<T>>,
}

struct Inside<T> {
    parker: Option<Parker>,
    /// Of a select: which of its cases this is.
    case: Option<usize>,
    /// The value that a sender brings, or that a receiver was handed.
    value: Option<T>,
    prev: *const Node<T>,
    next: *const Node<T>,
}

impl<T> Node<T> {
    pub(super) fn new() -> Node<T> {
        Node::with(None, None, None)
    }

    fn with(parker: Option<Parker>, case: Option<usize>, value: Option<T>) -> Node<T> {
        Node {
            place: AtomicUsize::new(NEW),
            inside: UnsafeCell::new(Inside {
                parker,
                case,
                value,
                prev: ptr::null(),
                next: ptr::null(),
            }),
        }
    }

    /// Enters the list as the last.
    ///
    /// # Safety
    /// The node has its parker, is in no list, and is neither moved nor dropped
    /// until it is out of this one. The list is that of a channel that lives as
    /// long.
    unsafe fn push(&self, list: &mut List<T>) {
        // SAFETY: a node in no list is its owner's, who calls; the tail is in
        // the list, so it is there, and the list is borrowed mutably.
        unsafe {
            (*self.inside.get()).prev = list.tail;
            match list.tail.as_ref() {
                None => list.head = self,
                Some(tail) => (*tail.inside.get()).next = self,
            }
        }
        list.tail = self;
        self.place.store(IN, Ordering::Relaxed);
    }

    /// Enters the list for a case of a select.
    pub(super) fn enter(&self, list: &mut List<T>, parker: Parker, case: usize, value: Option<T>) {
        assert!(!self.was_in(), "a case waits once");
        // SAFETY: it is in no list, so its inside is the caller's.
        // `select::wait`, through which alone a case is entered, borrows all
        // cases, and their channels with them, until each has left its list.
        unsafe {
            let inside = &mut *self.inside.get();
            (inside.parker, inside.case, inside.value) = (Some(parker), Some(case), value);
            self.push(list);
        }
    }

    /// Whether it was ever in a list.
    pub(super) fn was_in(&self) -> bool {
        self.place.load(Ordering::Acquire) != NEW
    }

    /// Whether its operation is completed; the lock need not be held.
    fn is_served(&self) -> bool {
        self.place.load(Ordering::Acquire) == SERVED
    }

    /// Whether it may still be in a list.
    pub(super) fn is_in(&self) -> bool {
        self.place.load(Ordering::Acquire) == IN
    }

    /// Leaves the list if it is still there.
    pub(super) fn leave(&self, list: &mut List<T>) {
        if self.is_in() {
            // SAFETY: it is in a list, and by the contract of `push` in this.
            drop(unsafe { list.unlink(self) });
            self.place.store(LEFT, Ordering::Relaxed);
        }
    }

    /// The value that is left in a node that is out of its list. `None` also for
    /// one that is not.
    pub(super) fn take(&self) -> Option<T> {
        if self.is_in() {
            return None;
        }
        // SAFETY: out of the list, seen with acquire: it is the owner's.
        unsafe { (*self.inside.get()).value.take() }
    }
}

impl<T> Drop for Node<T> {
    fn drop(&mut self) {
        if self.is_in() {
            eprintln!("wirepath: a waiter was dropped in the list of a channel");
            std::process::abort();
        }
    }
}

/// The list.
pub(super) struct List<T> {
    head: *const Node<T>,
    tail: *const Node<T>,
}

// SAFETY: through the pointers a list moves the values and wakers of its nodes
// from thread to thread, and shares none of them.
unsafe impl<T: Send> Send for List<T> {}

/// What [`List::pop_for`] found.
pub(super) enum Popped<R> {
    /// One, to be woken after the lock is released, and what was made of it.
    Peer(Parker, R),
    /// Nobody.
    Empty,
    /// The caller's own select was taken by another meanwhile.
    Gone,
}

impl<T> List<T> {
    pub(super) const fn new() -> List<T> {
        List {
            head: ptr::null(),
            tail: ptr::null(),
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    /// Takes out the first waiter that goes with `me`: not a case of the same
    /// select, nor one of a select that was taken elsewhere. `serve` is given
    /// the place of its value; what it does there is what the waiter finds.
    #[inline]
    pub(super) fn pop_for<R>(
        &mut self,
        me: Me<'_>,
        serve: impl FnOnce(&mut Option<T>) -> R,
    ) -> Popped<R> {
        let mut at = self.head;
        // SAFETY: what is in the list is there, and only under the lock, which
        // the caller has, is it taken out. `inside` is not used after `unlink`
        // of a node that is passed on with its last store.
        while let Some(node) = unsafe { at.as_ref() } {
            // SAFETY: as above; the list is borrowed mutably.
            let inside = unsafe { &mut *node.inside.get() };
            at = inside.next;
            let parker = inside.parker.as_ref().expect("who is in the list waits");
            match me.take(parker, inside.case) {
                Both::Taken => {
                    let served = serve(&mut inside.value);
                    // SAFETY: it is in this list.
                    let parker = unsafe { self.unlink(node) };
                    node.place.store(SERVED, Ordering::Release);
                    return Popped::Peer(parker, served);
                }
                Both::Same => {}
                Both::PeerGone => {
                    // SAFETY: it is in this list.
                    drop(unsafe { self.unlink(node) });
                    node.place.store(PASSED, Ordering::Release);
                }
                Both::MeGone => return Popped::Gone,
            }
        }
        Popped::Empty
    }

    /// Takes out the first waiter, for an operation that waits nowhere.
    #[inline]
    pub(super) fn pop<R>(
        &mut self,
        serve: impl FnOnce(&mut Option<T>) -> R,
    ) -> Option<(Parker, R)> {
        match self.pop_for(Me::Plain, serve) {
            Popped::Peer(parker, served) => Some((parker, served)),
            Popped::Empty | Popped::Gone => None,
        }
    }

    /// Takes a node out; its place is for the caller to store.
    ///
    /// # Safety
    /// The node is in this list.
    #[inline]
    unsafe fn unlink(&mut self, node: &Node<T>) -> Parker {
        // SAFETY: the node and its neighbours are in the list, so they are
        // there, and it is borrowed mutably.
        unsafe {
            let inside = node.inside.get();
            let (prev, next) = ((*inside).prev, (*inside).next);
            match prev.as_ref() {
                None => self.head = next,
                Some(prev) => (*prev.inside.get()).next = next,
            }
            match next.as_ref() {
                None => self.tail = prev,
                Some(next) => (*next.inside.get()).prev = prev,
            }
            let parker = (*inside).parker.take();
            parker.expect("who is in the list waits")
        }
    }

    #[cfg(all(test, not(loom)))]
    pub(super) fn len(&self) -> usize {
        let mut count = 0;
        let mut at = self.head;
        // SAFETY: what is in the list is there.
        while let Some(node) = unsafe { at.as_ref() } {
            count += 1;
            // SAFETY: as above; the caller has the lock.
            at = unsafe { (*node.inside.get()).next };
        }
        count
    }
}

/// Which side of a channel.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Send,
    Receive,
}

impl<T> State<T> {
    pub(super) fn list(&mut self, side: Side) -> &mut List<T> {
        match side {
            Side::Send => &mut self.sending,
            Side::Receive => &mut self.receiving,
        }
    }
}

/// How a wait ended.
pub(super) enum Ended<T> {
    /// Another completed it, and left this value.
    Served(Option<T>),
    /// It gave up, for this reason; the value that it brought.
    GaveUp(Wake, Option<T>),
}

/// Waits at one side of a channel whose lock the caller has.
#[inline(always)]
pub(super) fn wait<T>(
    chan: &Chan<T>,
    mut state: LatchGuard<'_, State<T>>,
    side: Side,
    value: Option<T>,
    reason: WaitReason,
    deadline: Option<Nanos>,
) -> Ended<T> {
    let node = Node::with(Some(Parker::current()), None, value);
    // SAFETY: the node is in this frame, and both returns are after it was seen
    // to be out of the list; nothing in between unwinds.
    unsafe { node.push(state.list(side)) };
    drop(state);
    loop {
        let woken = park(reason, deadline);
        if !node.is_served() {
            if woken == Wake::Notified {
                continue;
            }
            node.leave(chan.lock().list(side));
            if !node.is_served() {
                return Ended::GaveUp(woken, node.take());
            }
        }
        return Ended::Served(node.take());
    }
}
