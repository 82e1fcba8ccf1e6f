//! Channels, as in Go: [`channel`]`(0)` is unbuffered, a send then waits for a
//! receive; `channel(n)` holds `n` values.
//!
//! Both ends can be cloned. Waiters are served in the order in which they
//! came, and a value goes straight to the receiver that waits, or from the
//! sender that waits: whoever finds a waiter completes the waiter's operation
//! under the channel's one lock and then wakes it. An operation is either
//! completed or it is not, so one that times out at the same moment returns
//! what was handed to it, and nothing is lost.
//!
//! It differs from Go where Rust can tell more: a send fails, and returns the
//! value, once no receiver can take it (Go's send would wait for ever, or panic
//! when closed); a receive fails once the channel is empty and closed, or no
//! sender is left. A runtime that shuts down ends waits like a close.
//!
//! No value is dropped and nobody is woken while the lock is held: a value's
//! `drop` may use the channel.

mod case;
mod error;
#[allow(unsafe_code, reason = "a list through the frames of those who wait")]
mod list;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Duration;

use wirepath_driver::Nanos;

use crate::claim::Me;
use crate::model::{Arc, Latch, LatchGuard, Parker, WaitReason, Wake};
use list::{Ended, List, Popped, Side};

pub use case::{ReceiveFrom, SendTo};
#[doc(hidden)]
pub use case::{RecvCase, SendCase};
pub use error::{
    RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError,
};

/// Makes a channel that holds `capacity` values; 0 is unbuffered. Memory is
/// taken as values come.
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let chan = Chan::new(capacity, WaitReason::ChanReceive);
    (Sender { chan: chan.clone() }, Receiver { chan })
}

/// A channel to which nothing is ever sent and that is never closed, as a nil
/// channel in Go: a receive waits for ever, a case of a select is never ready.
pub fn never<T>() -> Receiver<T> {
    // The one sender that counts does not exist, so it is never dropped.
    Receiver {
        chan: Chan::new(0, WaitReason::ChanReceiveNil),
    }
}

struct Chan<T> {
    capacity: usize,
    /// What a receiver waits for.
    receives: WaitReason,
    state: Latch<State<T>>,
}

/// Invariants: receivers wait only when the queue is empty and no sender
/// waits, but for the other cases of their own select; senders wait only when
/// the queue is full; nobody waits when closed.
struct State<T> {
    queue: VecDeque<T>,
    receiving: List<T>,
    sending: List<T>,
    senders: usize,
    receivers: usize,
    closed: bool,
}

/// What became of a value that was offered.
enum Offer<T> {
    /// It is in the queue, or with the receiver to be woken.
    Taken(Option<Parker>),
    Full(T),
    Closed(T),
    /// The select that offers it was taken elsewhere.
    Gone(T),
}

/// What there was to be received.
enum Take<T> {
    /// The next value, and the sender to be woken since its value moved up.
    Value(T, Option<Parker>),
    Empty,
    Closed,
    /// The select that receives was taken elsewhere.
    Gone,
}

impl<T> State<T> {
    #[inline]
    fn offer(&mut self, capacity: usize, value: T, me: Me<'_>) -> Offer<T> {
        let mut value = Some(value);
        let found = self.receiving.pop_for(me, |slot| *slot = value.take());
        let Some(value) = value else {
            let Popped::Peer(receiver, ()) = found else {
                unreachable!("only a receiver takes it");
            };
            return Offer::Taken(Some(receiver));
        };
        let refused = self.closed || self.receivers == 0;
        if !refused && self.queue.len() >= capacity && !matches!(found, Popped::Gone) {
            return Offer::Full(value);
        }
        if matches!(found, Popped::Gone) || !me.win() {
            return Offer::Gone(value);
        }
        if refused {
            return Offer::Closed(value);
        }
        self.queue.push_back(value);
        Offer::Taken(None)
    }

    #[inline]
    fn take(&mut self, me: Me<'_>) -> Take<T> {
        if self.queue.is_empty() {
            let ended = self.closed || self.senders == 0;
            if self.sending.is_empty() && !ended {
                return Take::Empty;
            }
            return match self.sending.pop_for(me, brought) {
                Popped::Peer(sender, value) => Take::Value(value, Some(sender)),
                Popped::Gone => Take::Gone,
                Popped::Empty if !ended => Take::Empty,
                Popped::Empty if me.win() => Take::Closed,
                Popped::Empty => Take::Gone,
            };
        }
        if !me.win() {
            return Take::Gone;
        }
        let value = self.queue.pop_front().expect("it is not empty");
        if self.sending.is_empty() {
            return Take::Value(value, None);
        }
        let moved_up = self.sending.pop(brought).map(|(sender, last)| {
            self.queue.push_back(last);
            sender
        });
        Take::Value(value, moved_up)
    }
}

/// What a sender that waits has brought.
fn brought<T>(slot: &mut Option<T>) -> T {
    slot.take().expect("a waiting sender has its value")
}

#[inline]
fn wake(waiter: Option<Parker>) {
    if let Some(waiter) = waiter {
        waiter.into_unparked();
    }
}

impl<T> Chan<T> {
    fn new(capacity: usize, receives: WaitReason) -> Arc<Chan<T>> {
        Arc::new(Chan {
            capacity,
            receives,
            state: Latch::new(State {
                queue: VecDeque::new(),
                receiving: List::new(),
                sending: List::new(),
                senders: 1,
                receivers: 1,
                closed: false,
            }),
        })
    }

    #[inline]
    fn lock(&self) -> LatchGuard<'_, State<T>> {
        self.state.lock()
    }

    #[inline]
    fn send(&self, value: T, deadline: Option<Nanos>) -> Result<(), SendTimeoutError<T>> {
        let mut state = self.lock();
        match state.offer(self.capacity, value, Me::Plain) {
            Offer::Taken(receiver) => {
                drop(state);
                wake(receiver);
                Ok(())
            }
            Offer::Closed(value) => Err(SendTimeoutError::Closed(value)),
            Offer::Full(value) | Offer::Gone(value) => self.wait_to_send(state, value, deadline),
        }
    }

    #[inline(always)]
    fn wait_to_send(
        &self,
        state: LatchGuard<'_, State<T>>,
        value: T,
        deadline: Option<Nanos>,
    ) -> Result<(), SendTimeoutError<T>> {
        let (side, reason) = (Side::Send, WaitReason::ChanSend);
        match list::wait(self, state, side, Some(value), reason, deadline) {
            Ended::Served(None) => Ok(()),
            Ended::GaveUp(Wake::Deadline, Some(value)) => Err(SendTimeoutError::Timeout(value)),
            Ended::Served(Some(value)) | Ended::GaveUp(_, Some(value)) => {
                Err(SendTimeoutError::Closed(value))
            }
            Ended::GaveUp(_, None) => unreachable!("a waiting sender has its value"),
        }
    }

    #[inline]
    fn recv(&self, deadline: Option<Nanos>) -> Result<T, RecvTimeoutError> {
        let mut state = self.lock();
        match state.take(Me::Plain) {
            Take::Value(value, sender) => {
                drop(state);
                wake(sender);
                Ok(value)
            }
            Take::Closed => Err(RecvTimeoutError::Closed),
            Take::Empty | Take::Gone => self.wait_to_receive(state, deadline),
        }
    }

    #[inline(always)]
    fn wait_to_receive(
        &self,
        state: LatchGuard<'_, State<T>>,
        deadline: Option<Nanos>,
    ) -> Result<T, RecvTimeoutError> {
        match list::wait(self, state, Side::Receive, None, self.receives, deadline) {
            Ended::Served(Some(value)) => Ok(value),
            Ended::GaveUp(Wake::Deadline, _) => Err(RecvTimeoutError::Timeout),
            Ended::Served(None) | Ended::GaveUp(..) => Err(RecvTimeoutError::Closed),
        }
    }

    /// Ends every wait; senders find their value still there, receivers none.
    fn wake_all(mut state: LatchGuard<'_, State<T>>) {
        let mut woken = Vec::new();
        for side in [Side::Send, Side::Receive] {
            while let Some((waiter, ())) = state.list(side).pop(|_| ()) {
                woken.push(waiter);
            }
        }
        drop(state);
        woken.into_iter().for_each(Parker::into_unparked);
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        Chan::wake_all(state);
    }
}

/// The sending end.
pub struct Sender<T> {
    chan: Arc<Chan<T>>,
}

impl<T> Sender<T> {
    /// Sends a value; waits while the channel is full, or unbuffered and
    /// nobody receives.
    ///
    /// # Errors
    /// The channel is closed or no receiver is left; the value comes back.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.chan.send(value, None).map_err(|e| match e {
            SendTimeoutError::Timeout(value) | SendTimeoutError::Closed(value) => SendError(value),
        })
    }

    /// Sends a value if that needs no wait.
    ///
    /// # Errors
    /// `Full`, or `Closed` as for [`send`](Sender::send); the value comes back.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let offer = self.chan.lock().offer(self.chan.capacity, value, Me::Plain);
        match offer {
            Offer::Taken(receiver) => {
                wake(receiver);
                Ok(())
            }
            Offer::Full(value) | Offer::Gone(value) => Err(TrySendError::Full(value)),
            Offer::Closed(value) => Err(TrySendError::Closed(value)),
        }
    }

    /// Sends a value; gives up after `timeout`.
    ///
    /// # Errors
    /// `Timeout`, or `Closed` as for [`send`](Sender::send); the value comes
    /// back.
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.chan.send(value, Some(crate::time::now() + timeout))
    }

    /// Sends if that needs no wait; whom that wakes is returned. The value is
    /// dropped otherwise.
    pub(crate) fn deliver(&self, value: T) -> Option<Parker> {
        let offer = self.chan.lock().offer(self.chan.capacity, value, Me::Plain);
        match offer {
            Offer::Taken(receiver) => receiver,
            Offer::Full(_) | Offer::Closed(_) | Offer::Gone(_) => None,
        }
    }

    /// Takes back what is in the channel, if no sender waits.
    pub(crate) fn retract(&self) -> Option<T> {
        self.chan.lock().queue.pop_front()
    }

    /// Whether anybody could receive.
    pub(crate) fn has_receivers(&self) -> bool {
        self.chan.lock().receivers > 0
    }

    /// Closes the channel: what is in it can still be received, every send
    /// fails, also those that wait. Closing again does nothing (Go panics).
    pub fn close(&self) {
        self.chan.close();
    }

    /// Values in the channel now.
    pub fn len(&self) -> usize {
        self.chan.lock().queue.len()
    }

    /// Whether no value is in the channel now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many values it holds; 0 is unbuffered.
    pub fn capacity(&self) -> usize {
        self.chan.capacity
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.chan.lock().senders += 1;
        Sender {
            chan: self.chan.clone(),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.chan.lock();
        state.senders -= 1;
        if state.senders == 0 {
            Chan::wake_all(state);
        }
    }
}

// A panic leaves a channel as it is between two operations.
impl<T> UnwindSafe for Sender<T> {}
impl<T> RefUnwindSafe for Sender<T> {}
impl<T> UnwindSafe for Receiver<T> {}
impl<T> RefUnwindSafe for Receiver<T> {}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

/// The receiving end. As an iterator it receives until the channel is closed.
pub struct Receiver<T> {
    chan: Arc<Chan<T>>,
}

impl<T> Receiver<T> {
    /// Receives the next value; waits for one.
    ///
    /// # Errors
    /// The channel is empty and closed, or no sender is left.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.chan.recv(None).map_err(|_| RecvError)
    }

    /// Receives a value if one is there.
    ///
    /// # Errors
    /// `Empty`, or `Closed` as for [`recv`](Receiver::recv).
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let taken = self.chan.lock().take(Me::Plain);
        match taken {
            Take::Value(value, sender) => {
                wake(sender);
                Ok(value)
            }
            Take::Empty | Take::Gone => Err(TryRecvError::Empty),
            Take::Closed => Err(TryRecvError::Closed),
        }
    }

    /// Receives the next value; gives up after `timeout`.
    ///
    /// # Errors
    /// `Timeout`, or `Closed` as for [`recv`](Receiver::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.chan.recv(Some(crate::time::now() + timeout))
    }

    /// Receives until the channel is closed, as Go's `range`.
    pub fn iter(&self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| self.recv().ok())
    }

    /// Values in the channel now.
    pub fn len(&self) -> usize {
        self.chan.lock().queue.len()
    }

    /// Whether no value is in the channel now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many values it holds; 0 is unbuffered.
    pub fn capacity(&self) -> usize {
        self.chan.capacity
    }
}

impl<T> Iterator for Receiver<T> {
    type Item = T;
    fn next(&mut self) -> Option<T> {
        self.recv().ok()
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        self.chan.lock().receivers += 1;
        Receiver {
            chan: self.chan.clone(),
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.chan.lock();
        state.receivers -= 1;
        if state.receivers == 0 {
            // Nobody can receive what is queued.
            let queue = std::mem::take(&mut state.queue);
            Chan::wake_all(state);
            drop(queue);
        }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
impl<T> Sender<T> {
    /// Somebody waits at either side.
    pub(crate) fn has_waiters(&self) -> bool {
        self.chan.lock().has_waiters()
    }
}

#[cfg(all(test, not(loom)))]
impl<T> Receiver<T> {
    /// Somebody waits at either side.
    pub(crate) fn has_waiters(&self) -> bool {
        self.chan.lock().has_waiters()
    }
}

#[cfg(all(test, not(loom)))]
impl<T> State<T> {
    fn has_waiters(&self) -> bool {
        !self.sending.is_empty() || !self.receiving.is_empty()
    }
}
