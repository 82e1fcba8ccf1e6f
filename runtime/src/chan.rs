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

mod error;
#[cfg(test)]
mod tests;
mod waiters;

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use wirepath_driver::Nanos;

use crate::model::{Arc, Mutex, MutexGuard, Parker, WaitReason, Wake, lock, park};

pub use error::{
    RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError,
};
use waiters::{Settled, Waiters};

/// Makes a channel that holds `capacity` values; 0 is unbuffered. Memory is
/// taken as values come.
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let chan = Arc::new(Chan {
        capacity,
        state: Mutex::new(State {
            queue: VecDeque::new(),
            receiving: Waiters::new(),
            sending: Waiters::new(),
            senders: 1,
            receivers: 1,
            closed: false,
        }),
    });
    (Sender { chan: chan.clone() }, Receiver { chan })
}

struct Chan<T> {
    capacity: usize,
    state: Mutex<State<T>>,
}

/// Invariants: receivers wait only when the queue is empty and no sender
/// waits; senders wait only when the queue is full; nobody waits when closed.
struct State<T> {
    queue: VecDeque<T>,
    receiving: Waiters<T>,
    sending: Waiters<T>,
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
}

impl<T> State<T> {
    fn offer(&mut self, capacity: usize, value: T) -> Offer<T> {
        if self.closed || self.receivers == 0 {
            return Offer::Closed(value);
        }
        if let Some((receiver, slot)) = self.receiving.pop() {
            *slot = Some(value);
            return Offer::Taken(Some(receiver));
        }
        if self.queue.len() < capacity {
            self.queue.push_back(value);
            return Offer::Taken(None);
        }
        Offer::Full(value)
    }

    /// The next value, and the sender to be woken since its value moved up.
    fn take(&mut self) -> Option<(T, Option<Parker>)> {
        let waiting = self.sending.pop().map(|(sender, slot)| {
            let value = slot.take().expect("a waiting sender has its value");
            (sender, value)
        });
        match (self.queue.pop_front(), waiting) {
            (Some(value), Some((sender, last))) => {
                self.queue.push_back(last);
                Some((value, Some(sender)))
            }
            (Some(value), None) => Some((value, None)),
            (None, Some((sender, value))) => Some((value, Some(sender))),
            (None, None) => None,
        }
    }

    /// Nothing will come any more once the queue is empty.
    fn is_ended(&self) -> bool {
        self.closed || self.senders == 0
    }
}

fn wake(waiter: Option<Parker>) {
    if let Some(waiter) = waiter {
        waiter.unpark();
    }
}

impl<T> Chan<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        lock(&self.state)
    }

    fn send(&self, value: T, deadline: Option<Nanos>) -> Result<(), SendTimeoutError<T>> {
        let ticket = {
            let mut state = self.lock();
            match state.offer(self.capacity, value) {
                Offer::Taken(receiver) => {
                    drop(state);
                    wake(receiver);
                    return Ok(());
                }
                Offer::Closed(value) => return Err(SendTimeoutError::Closed(value)),
                Offer::Full(value) => state.sending.push(Parker::current(), Some(value)),
            }
        };
        loop {
            let woken = park(WaitReason::ChanSend, deadline);
            let settled = self.lock().sending.settle(ticket, woken != Wake::Notified);
            return match settled {
                Settled::Waits => continue,
                Settled::Completed(None) => Ok(()),
                Settled::Withdrawn(Some(value)) if woken == Wake::Deadline => {
                    Err(SendTimeoutError::Timeout(value))
                }
                Settled::Completed(Some(value)) | Settled::Withdrawn(Some(value)) => {
                    Err(SendTimeoutError::Closed(value))
                }
                Settled::Withdrawn(None) => unreachable!("a waiting sender has its value"),
            };
        }
    }

    fn recv(&self, deadline: Option<Nanos>) -> Result<T, RecvTimeoutError> {
        let ticket = {
            let mut state = self.lock();
            if let Some((value, sender)) = state.take() {
                drop(state);
                wake(sender);
                return Ok(value);
            }
            if state.is_ended() {
                return Err(RecvTimeoutError::Closed);
            }
            state.receiving.push(Parker::current(), None)
        };
        loop {
            let woken = park(WaitReason::ChanReceive, deadline);
            let settled = self
                .lock()
                .receiving
                .settle(ticket, woken != Wake::Notified);
            return match settled {
                Settled::Waits => continue,
                Settled::Completed(Some(value)) => Ok(value),
                Settled::Withdrawn(_) if woken == Wake::Deadline => Err(RecvTimeoutError::Timeout),
                Settled::Completed(None) | Settled::Withdrawn(_) => Err(RecvTimeoutError::Closed),
            };
        }
    }

    /// Ends every wait; senders find their value still there, receivers none.
    fn wake_all(mut state: MutexGuard<'_, State<T>>) {
        let mut woken = Vec::new();
        let state_ref = &mut *state;
        for waiters in [&mut state_ref.sending, &mut state_ref.receiving] {
            while let Some((waiter, _)) = waiters.pop() {
                woken.push(waiter);
            }
        }
        drop(state);
        woken.iter().for_each(Parker::unpark);
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
        let offer = self.chan.lock().offer(self.chan.capacity, value);
        match offer {
            Offer::Taken(receiver) => {
                wake(receiver);
                Ok(())
            }
            Offer::Full(value) => Err(TrySendError::Full(value)),
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
        let mut state = self.chan.lock();
        if let Some((value, sender)) = state.take() {
            drop(state);
            wake(sender);
            return Ok(value);
        }
        Err(if state.is_ended() {
            TryRecvError::Closed
        } else {
            TryRecvError::Empty
        })
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
