//! A channel's operation as a case of a select.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use super::list::Node;
use super::{Chan, Offer, Receiver, RecvError, SendError, Sender, Take, wake};
use crate::claim::Me;
use crate::model::Parker;
use crate::select::{Case, Entered, Who};

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
    node: Node<T>,
    received: Cell<Option<Result<T, RecvError>>>,
}

impl<'a, T> RecvCase<'a, T> {
    /// From this one, or from nobody ever.
    pub fn new(from: &'a (impl ReceiveFrom<Item = T> + ?Sized)) -> RecvCase<'a, T> {
        RecvCase {
            from: from.receiver(),
            node: Node::new(),
            received: Cell::new(None),
        }
    }

    /// What was received, if this is the case that was taken.
    pub fn finish(self) -> Option<Result<T, RecvError>> {
        self.received.into_inner()
    }

    fn attempt(&self, chan: &Chan<T>, me: Me<'_>, parker: Option<&Parker>) -> Entered {
        let mut state = chan.lock();
        self.received.set(Some(match state.take(me) {
            Take::Value(value, sender) => {
                drop(state);
                wake(sender);
                Ok(value)
            }
            Take::Closed => Err(RecvError),
            Take::Gone => return Entered::Gone,
            Take::Empty => {
                if let (Some(parker), Me::Case(_, case)) = (parker, me) {
                    self.node
                        .enter(&mut state.receiving, parker.clone(), case, None);
                }
                return Entered::Waits;
            }
        }));
        Entered::Done
    }
}

impl<T> Case for RecvCase<'_, T> {
    fn poll(&self) -> bool {
        let Some(from) = self.from else { return false };
        matches!(self.attempt(&from.chan, Me::Plain, None), Entered::Done)
    }

    fn enter(&self, Who(parker): Who<'_>, case: usize) -> Entered {
        let Some(from) = self.from else {
            return Entered::Never;
        };
        let me = Me::Case(parker.claim(), case);
        self.attempt(&from.chan, me, Some(parker))
    }

    fn leave(&self, won: bool) {
        let Some(from) = self.from else { return };
        if self.node.is_in() {
            self.node.leave(&mut from.chan.lock().receiving);
        }
        if won && self.node.was_in() {
            self.received.set(Some(self.node.take().ok_or(RecvError)));
        }
    }
}

/// A send in a select.
#[doc(hidden)]
pub struct SendCase<'a, T> {
    to: Option<&'a Sender<T>>,
    node: Node<T>,
    /// What is to be sent, while it is neither in the channel nor sent.
    value: Cell<Option<T>>,
    sent: Cell<Option<Result<(), SendError<T>>>>,
}

impl<'a, T> SendCase<'a, T> {
    /// To this one, or to nobody ever.
    pub fn new(to: &'a (impl SendTo<Item = T> + ?Sized), value: T) -> SendCase<'a, T> {
        SendCase {
            to: to.sender(),
            node: Node::new(),
            value: Cell::new(Some(value)),
            sent: Cell::new(None),
        }
    }

    /// How the send ended, if this is the case that was taken. The value of
    /// another case is dropped.
    pub fn finish(self) -> Option<Result<(), SendError<T>>> {
        self.sent.into_inner()
    }

    fn attempt(&self, chan: &Chan<T>, me: Me<'_>, parker: Option<&Parker>) -> Entered {
        let value = self.value.take().expect("it was not sent yet");
        let mut state = chan.lock();
        self.sent
            .set(Some(match state.offer(chan.capacity, value, me) {
                Offer::Taken(receiver) => {
                    drop(state);
                    wake(receiver);
                    Ok(())
                }
                Offer::Closed(value) => Err(SendError(value)),
                Offer::Gone(value) => {
                    self.value.set(Some(value));
                    return Entered::Gone;
                }
                Offer::Full(value) => {
                    if let (Some(parker), Me::Case(_, case)) = (parker, me) {
                        let value = Some(value);
                        self.node
                            .enter(&mut state.sending, parker.clone(), case, value);
                    } else {
                        self.value.set(Some(value));
                    }
                    return Entered::Waits;
                }
            }));
        Entered::Done
    }
}

impl<T> Case for SendCase<'_, T> {
    fn poll(&self) -> bool {
        let Some(to) = self.to else { return false };
        matches!(self.attempt(&to.chan, Me::Plain, None), Entered::Done)
    }

    fn enter(&self, Who(parker): Who<'_>, case: usize) -> Entered {
        let Some(to) = self.to else {
            return Entered::Never;
        };
        let me = Me::Case(parker.claim(), case);
        self.attempt(&to.chan, me, Some(parker))
    }

    fn leave(&self, won: bool) {
        let Some(to) = self.to else { return };
        if self.node.is_in() {
            self.node.leave(&mut to.chan.lock().sending);
        }
        if !self.node.was_in() {
            return;
        }
        let value = self.node.take();
        if won {
            self.sent
                .set(Some(value.map_or(Ok(()), |value| Err(SendError(value)))));
        } else {
            self.value.set(value);
        }
    }
}
