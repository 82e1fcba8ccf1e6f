//! Why an operation on a channel failed.

use std::fmt;

/// The channel is closed, or no receiver is left. Here is the value.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the channel is closed")]
pub struct SendError<T>(pub T);

/// Why [`try_send`](super::Sender::try_send) failed. Here is the value.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError<T> {
    /// The send would have to wait.
    #[error("the channel is full")]
    Full(T),
    /// The channel is closed, or no receiver is left.
    #[error("the channel is closed")]
    Closed(T),
}

/// Why [`send_timeout`](super::Sender::send_timeout) failed. Here is the value.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendTimeoutError<T> {
    /// The time passed.
    #[error("nobody received in time")]
    Timeout(T),
    /// The channel is closed, or no receiver is left.
    #[error("the channel is closed")]
    Closed(T),
}

/// The channel is empty and closed, or no sender is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the channel is empty and closed")]
pub struct RecvError;

/// Why [`try_recv`](super::Receiver::try_recv) failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TryRecvError {
    /// Nothing is there now.
    #[error("the channel is empty")]
    Empty,
    /// The channel is empty and closed, or no sender is left.
    #[error("the channel is empty and closed")]
    Closed,
}

/// Why [`recv_timeout`](super::Receiver::recv_timeout) failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecvTimeoutError {
    /// The time passed.
    #[error("nothing came in time")]
    Timeout,
    /// The channel is empty and closed, or no sender is left.
    #[error("the channel is empty and closed")]
    Closed,
}

// Without the value, which need not be `Debug`: so that `unwrap` works.

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendError(..)")
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrySendError::Full(_) => "Full(..)",
            TrySendError::Closed(_) => "Closed(..)",
        })
    }
}

impl<T> fmt::Debug for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendTimeoutError::Timeout(_) => "Timeout(..)",
            SendTimeoutError::Closed(_) => "Closed(..)",
        })
    }
}
