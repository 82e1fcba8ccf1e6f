//! Wirepath beside Go's `net/http`: the same bytes sent to both.
//!
//! A vector ([`Vector`]) is a conversation: what a client sends, piece for
//! piece, and what `net/http` answered when it was recorded. They are the lines
//! of `tests/oracle/*.jsonl`, and their bytes are code points from 0 to 255.
//! [`play`](play::play) sends one to a server and takes the answers apart
//! ([`Outcome`]), without knowing which server it is: so what is compared was
//! got in the same way.
//!
//! Every conversation ends by itself, without waiting for silence: after its
//! own bytes the client sends one more request, the probe, and closes its half.
//! A connection that was kept answers the probe; one that was closed does not.
//!
//! Rejected: comparing raw bytes. The order of fields and the cutting into
//! chunks would differ everywhere and mean nothing.

pub mod page;
pub mod play;
pub mod reply;
pub mod vector;

pub use play::Outcome;
pub use reply::Reply;
pub use vector::{Finish, Piece, Vector};
