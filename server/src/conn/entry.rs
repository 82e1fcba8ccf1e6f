//! A connection, as the server that lists it sees it.

use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use wirepath_runtime::Nanos;
use wirepath_runtime::time::recent;

use super::in_flight::InFlight;
use super::wire::Wire;
use crate::hooks::{ConnInfo, ConnState, OpenConnection};
use crate::request::Request;

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
    opened: Nanos,
    /// When it came to its state.
    since: AtomicU64,
    in_flight: InFlight,
}

impl Entry {
    pub(super) fn new(wire: Arc<Wire>, info: ConnInfo, now: Nanos) -> Entry {
        Entry {
            state: AtomicU8::new(State::New as u8),
            wire,
            info,
            opened: now,
            since: AtomicU64::new(now.0),
            in_flight: InFlight::default(),
        }
    }

    fn change(&self, from: State, to: State) -> bool {
        let (from, to) = (from as u8, to as u8);
        self.state
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    fn is(&self, state: State) -> bool {
        self.state.load(Ordering::SeqCst) == state as u8
    }

    /// Bytes have come. Whether the connection is still its task's.
    pub(super) fn wake(&self) -> bool {
        if self.change(State::Idle, State::Active) || self.change(State::New, State::Active) {
            self.since.store(recent().0, Ordering::Relaxed);
            return true;
        }
        self.is(State::Active)
    }

    /// It has nothing to do. False: it had not before.
    pub(super) fn rest(&self, now: Nanos) -> bool {
        let rests = self.change(State::Active, State::Idle);
        if rests {
            self.since.store(now.0, Ordering::Relaxed);
        }
        rests
    }

    /// It is in this request from now on.
    pub(super) fn begin(&self, r: &Request) {
        self.in_flight.begin(r.method().as_str(), r.target());
    }

    /// It is in none any more.
    pub(super) fn end(&self) {
        self.in_flight.end();
    }

    /// Whether a handler took the connection over: the server neither closes it
    /// nor counts on its end.
    pub fn is_hijacked(&self) -> bool {
        self.wire.is_hijacked()
    }

    /// What it does now.
    pub fn describe(&self) -> OpenConnection {
        let state = self.state.load(Ordering::SeqCst);
        let state = match state {
            s if s == State::New as u8 => ConnState::New,
            s if s == State::Active as u8 => ConnState::Active,
            s if s == State::Idle as u8 => ConnState::Idle,
            _ => ConnState::Closed,
        };
        OpenConnection {
            info: self.info,
            state,
            since: Nanos(self.since.load(Ordering::Relaxed)),
            request: self.in_flight.get(),
        }
    }

    /// Resets the connection, and ends the context of its request.
    pub fn close(&self) {
        self.wire.scope.close();
        self.wire.conn.abort();
    }

    /// Closes the connection if it is between requests, or has been open since
    /// before `new_before` without sending anything.
    pub fn close_if_idle(&self, new_before: Nanos) -> bool {
        let is_stale = self.opened <= new_before;
        let taken = self.change(State::Idle, State::Closing)
            || (is_stale && self.change(State::New, State::Closing));
        if taken {
            // If it is closed already, so much the better.
            let _ = self.wire.conn.shutdown(Shutdown::Both);
        }
        taken
    }
}
