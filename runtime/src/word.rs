//! netpoll's word: one direction of one descriptor.

use std::sync::Mutex;

use crate::park::Parker;

enum State {
    Empty,
    Ready,
    Waiter(Parker),
}

/// Empty, ready, or the one waiter.
pub(crate) struct WaitWord(Mutex<State>);

/// What became of [`WaitWord::arm`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arm {
    /// Published: park now.
    Armed,
    /// It was ready already, and that is used up: try again instead.
    Ready,
    /// Somebody else waits in this direction.
    Busy,
}

impl WaitWord {
    pub(crate) const fn new() -> WaitWord {
        WaitWord(Mutex::new(State::Empty))
    }

    /// Publishes a waiter.
    pub(crate) fn arm(&self, waiter: Parker) -> Arm {
        let mut state = self.0.lock().expect("no panic under this lock");
        match *state {
            State::Empty => {
                *state = State::Waiter(waiter);
                Arm::Armed
            }
            State::Ready => {
                *state = State::Empty;
                Arm::Ready
            }
            State::Waiter(_) => Arm::Busy,
        }
    }

    /// An edge: takes the waiter, who is to be unparked, or leaves a mark.
    pub(crate) fn notify(&self) -> Option<Parker> {
        let mut state = self.0.lock().expect("no panic under this lock");
        match std::mem::replace(&mut *state, State::Ready) {
            State::Waiter(waiter) => {
                *state = State::Empty;
                Some(waiter)
            }
            State::Empty | State::Ready => None,
        }
    }

    /// Takes the waiter out without a mark (deadline, close); None when it was
    /// notified already or nobody waits.
    pub(crate) fn disarm(&self) -> Option<Parker> {
        let mut state = self.0.lock().expect("no panic under this lock");
        match std::mem::replace(&mut *state, State::Empty) {
            State::Waiter(waiter) => Some(waiter),
            other => {
                *state = other;
                None
            }
        }
    }
}
