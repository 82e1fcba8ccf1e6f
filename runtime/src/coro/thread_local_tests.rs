//! Why nothing may keep a thread-local's address across a switch, shown on
//! coroutines that change threads in the middle of a function, which those of
//! goroutines never do.
//!
//! The failure needs optimization, which this workspace's profiles all have. It
//! is not enough that a function is never inlined: one that only computes the
//! address has no effects, so two calls of it may become one (they do in a
//! release build). It must read what is there, as `m::local_ptr` does.

use std::cell::Cell;

use corosensei::{Coroutine, CoroutineResult, Yielder};

use super::stack::Arena;

thread_local! {
    static HERE: Cell<usize> = const { Cell::new(0) };
}

/// What the compiler makes of a thread-local that is used in place.
#[inline(always)]
fn address() -> usize {
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

/// As `m::local_ptr` gets at the M.
#[inline(never)]
fn contents() -> usize {
    HERE.get()
}

/// A suspended coroutine that goes to another thread all the same.
struct Moved<T>(T);

// SAFETY: what the coroutines of these tests keep on their stacks are numbers.
unsafe impl<T> Send for Moved<T> {}

/// What code sees on this thread and, after a switch, on another.
fn move_between_threads(look: impl Fn() -> usize + Copy + 'static) -> [usize; 2] {
    let slot = Arena::new(1 << 16).slot().unwrap();
    let mut co = Coroutine::with_stack(slot, move |yielder: &Yielder<(), usize>, ()| {
        yielder.suspend(look());
        look()
    });
    HERE.set(1);
    let CoroutineResult::Yield(before) = co.resume(()) else {
        panic!("it suspends first");
    };
    let co = Moved(co);
    let other = std::thread::spawn(move || {
        let mut co = { co }.0;
        HERE.set(2);
        match co.resume(()) {
            CoroutineResult::Return(after) => after,
            CoroutineResult::Yield(_) => panic!("it ends then"),
        }
    });
    [before, other.join().unwrap()]
}

#[test]
fn a_thread_local_in_place_is_the_old_threads_after_a_switch() {
    let [before, after] = move_between_threads(address);
    assert_eq!(after, before, "this compiler looked it up again");
}

#[test]
fn a_thread_local_behind_a_call_is_the_new_threads_after_a_switch() {
    assert_eq!(move_between_threads(contents), [1, 2]);
}
