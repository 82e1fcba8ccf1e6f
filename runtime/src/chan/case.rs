//! A channel's operation as a case of a select.

use std::rc::Rc;
use std::sync::Arc;

use super::{Chan, Offer, Receiver, RecvError, SendError, Sender, Take, wake};
use crate::claim::Me;
use crate::model::Parker;
use crate::select::{Case, Entered, Who};
use crate::waiters::Settled;

/// What a select can receive from: a [`Receiver`], a reference to one, or an
/// `Option`, of which `None` is never ready, as a nil channel in Go.
pub trait ReceiveFrom {
    /// What is received.
    type Item;

    /// The receiver, if there is one.
    fn receiver(&self) -> Option<&Receiver<Self::Item>>;
}

/// What a select can send to: as [`ReceiveFrom`], with a [`Sender`].
pub trait SendTo {
    /// What is sent.
    type Item;

    /// The sender, if there is one.
    fn sender(&self) -> Option<&Sender<Self::Item>>;
}

impl<T> ReceiveFrom for Receiver<T> {
    type Item = T;
    fn receiver(&self) -> Option<&Receiver<T>> {
        Some(self)
    }
}

impl<T> SendTo for Sender<T> {
    type Item = T;
    fn sender(&self) -> Option<&Sender<T>> {
        Some(self)
    }
}

impl<R: ReceiveFrom> ReceiveFrom for Option<R> {
    type Item = R::Item;
    fn receiver(&self) -> Option<&Receiver<R::Item>> {
        self.as_ref()?.receiver()
    }
}

impl<S: SendTo> SendTo for Option<S> {
    type Item = S::Item;
    fn sender(&self) -> Option<&Sender<S::Item>> {
        self.as_ref()?.sender()
    }
}

macro_rules! through {
    ($($pointer:ty),*) => {$(
        impl<R: ReceiveFrom + ?Sized> ReceiveFrom for $pointer {
            type Item = R::Item;
            fn receiver(&self) -> Option<&Receiver<R::Item>> {
                (**self).receiver()
            }
        }

        impl<R: SendTo + ?Sized> SendTo for $pointer {
            type Item = R::Item;
            fn sender(&self) -> Option<&Sender<R::Item>> {
                (**self).sender()
            }
        }
    )*};
}

through!(&R, &mut R, Box<R>, Arc<R>, Rc<R>);

/// A receive in a select.
#[doc(hidden)]
pub struct RecvCase<'a, T> {
    from: Option<&'a Receiver<T>>,
    ticket: Option<usize>,
    received: Option<Result<T, RecvError>>,
}

impl<'a, T> RecvCase<'a, T> {
    /// From this one, or from nobody ever.
    pub fn new(from: &'a (impl ReceiveFrom<Item = T> + ?Sized)) -> RecvCase<'a, T> {
        RecvCase {
            from: from.receiver(),
            ticket: None,
            received: None,
        }
    }

    /// What was received, if this is the case that was taken.
    pub fn finish(self) -> Option<Result<T, RecvError>> {
        self.received
    }

    fn attempt(&mut self, chan: &Chan<T>, me: Me<'_>, parker: Option<&Parker>) -> Entered {
        let mut state = chan.lock();
        self.received = Some(match state.take(me) {
            Take::Value(value, sender) => {
                drop(state);
                wake(sender);
                Ok(value)
            }
            Take::Closed => Err(RecvError),
            Take::Gone => return Entered::Gone,
            Take::Empty => {
                if let (Some(parker), Me::Case(_, case)) = (parker, me) {
                    self.ticket = Some(state.receiving.push(parker.clone(), Some(case), None));
                }
                return Entered::Waits;
            }
        });
        Entered::Done
    }
}

impl<T> Case for RecvCase<'_, T> {
    fn poll(&mut self) -> bool {
        let Some(from) = self.from else { return false };
        matches!(self.attempt(&from.chan, Me::Plain, None), Entered::Done)
    }

    fn enter(&mut self, Who(parker): Who<'_>, case: usize) -> Entered {
        let Some(from) = self.from else {
            return Entered::Never;
        };
        let me = Me::Case(parker.claim(), case);
        self.attempt(&from.chan, me, Some(parker))
    }

    fn leave(&mut self, won: bool) {
        let (Some(from), Some(ticket)) = (self.from, self.ticket.take()) else {
            return;
        };
        let settled = from.chan.lock().receiving.settle(ticket, true);
        if won {
            self.received = Some(match settled {
                Settled::Completed(Some(value)) => Ok(value),
                _ => Err(RecvError),
            });
        }
    }
}

/// A send in a select.
#[doc(hidden)]
pub struct SendCase<'a, T> {
    to: Option<&'a Sender<T>>,
    /// What is to be sent, while it is neither in the channel nor sent.
    value: Option<T>,
    ticket: Option<usize>,
    sent: Option<Result<(), SendError<T>>>,
}

impl<'a, T> SendCase<'a, T> {
    /// To this one, or to nobody ever.
    pub fn new(to: &'a (impl SendTo<Item = T> + ?Sized), value: T) -> SendCase<'a, T> {
        SendCase {
            to: to.sender(),
            value: Some(value),
            ticket: None,
            sent: None,
        }
    }

    /// How the send ended, if this is the case that was taken. The value of
    /// another case is dropped.
    pub fn finish(self) -> Option<Result<(), SendError<T>>> {
        self.sent
    }

    fn attempt(&mut self, chan: &Chan<T>, me: Me<'_>, parker: Option<&Parker>) -> Entered {
        let value = self.value.take().expect("it was not sent yet");
        let mut state = chan.lock();
        self.sent = Some(match state.offer(chan.capacity, value, me) {
            Offer::Taken(receiver) => {
                drop(state);
                wake(receiver);
                Ok(())
            }
            Offer::Closed(value) => Err(SendError(value)),
            Offer::Gone(value) => {
                self.value = Some(value);
                return Entered::Gone;
            }
            Offer::Full(value) => {
                if let (Some(parker), Me::Case(_, case)) = (parker, me) {
                    let ticket = state.sending.push(parker.clone(), Some(case), Some(value));
                    self.ticket = Some(ticket);
                } else {
                    self.value = Some(value);
                }
                return Entered::Waits;
            }
        });
        Entered::Done
    }
}

impl<T> Case for SendCase<'_, T> {
    fn poll(&mut self) -> bool {
        let Some(to) = self.to else { return false };
        matches!(self.attempt(&to.chan, Me::Plain, None), Entered::Done)
    }

    fn enter(&mut self, Who(parker): Who<'_>, case: usize) -> Entered {
        let Some(to) = self.to else {
            return Entered::Never;
        };
        let me = Me::Case(parker.claim(), case);
        self.attempt(&to.chan, me, Some(parker))
    }

    fn leave(&mut self, won: bool) {
        let (Some(to), Some(ticket)) = (self.to, self.ticket.take()) else {
            return;
        };
        let settled = to.chan.lock().sending.settle(ticket, true);
        let (Settled::Completed(value) | Settled::Withdrawn(value)) = settled else {
            unreachable!("it does not wait on");
        };
        if won {
            self.sent = Some(value.map_or(Ok(()), |value| Err(SendError(value))));
        } else {
            self.value = value;
        }
    }
}
