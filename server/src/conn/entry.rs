//! A connection, as the server that lists it sees it.

use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use wirepath_runtime::Nanos;

use super::wire::Wire;
use crate::hooks::ConnInfo;

/// What a connection does, for those who would close it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// Nothing has come yet.
    New,
    /// In a request.
    Active,
    /// Between requests.
    Idle,
    /// Another closed it.
    Closing,
}

/// A connection in the list of its server.
pub(crate) struct Entry {
    state: AtomicU8,
    pub wire: Arc<Wire>,
    pub info: ConnInfo,
    since: Nanos,
}

impl Entry {
    pub(super) fn new(wire: Arc<Wire>, info: ConnInfo, since: Nanos) -> Entry {
        Entry {
            state: AtomicU8::new(State::New as u8),
            wire,
            info,
            since,
        }
    }

    pub(super) fn change(&self, from: State, to: State) -> bool {
        let (from, to) = (from as u8, to as u8);
        self.state
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    pub(super) fn is(&self, state: State) -> bool {
        self.state.load(Ordering::SeqCst) == state as u8
    }

    /// Whether a handler took the connection over: the server neither closes it
    /// nor counts on its end.
    pub fn is_hijacked(&self) -> bool {
        self.wire.is_hijacked()
    }

    /// Closes the connection if it is between requests, or has been open since
    /// before `new_before` without sending anything.
    pub fn close_if_idle(&self, new_before: Nanos) -> bool {
        let is_stale = self.since <= new_before;
        let taken = self.change(State::Idle, State::Closing)
            || (is_stale && self.change(State::New, State::Closing));
        if taken {
            // If it is closed already, so much the better.
            let _ = self.wire.conn.shutdown(Shutdown::Both);
        }
        taken
    }
}
