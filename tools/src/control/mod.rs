//! The control socket of a running server, and its client.
//!
//! `wirepath serve` answers on a Unix stream socket; `top`, `ss` and
//! `goroutines` ask there. A client writes one line of JSON and reads one line
//! of JSON, as often as it likes:
//!
//! | asked | answered |
//! |---|---|
//! | `{"get":"state","flows":100,"goroutines":100,"requests":20}` | a [`State`](wirepath::see::state::State) |
//! | `{"get":"dump"}` | `{"text":"goroutine 1 …"}` |
//! | `{"get":"trace"}` | `{"len":N}`, and then N bytes of a [`Recording`](wirepath::see::Recording) |
//! | anything else | `{"error":"what, why, what next"}` |
//!
//! Threads of its own answer, never goroutines, so that a server can be asked
//! while its scheduler is stuck: that is when people ask. The socket is its
//! owner's alone (mode 0600), since a dump tells addresses and requests. A port
//! on loopback was rejected: every user of the machine could read it.

mod client;
mod listen;
mod place;

use serde::{Deserialize, Serialize};
use wirepath::see::Wanted;

pub use client::Client;
pub use listen::{Control, Listening};
pub use place::ControlPath;

/// Bytes of a line that asks, at most: an order of magnitude above the longest.
const MAX_QUESTION_BYTES: u64 = 4 << 10;
/// Bytes of a line that answers, at most: [`MAX_LISTED`] of each list, each of
/// a kilobyte.
const MAX_ANSWER_BYTES: u64 = 256 << 20;
/// Flows, goroutines and requests that an answer lists at most, whatever is
/// asked for.
pub const MAX_LISTED: usize = 100_000;

/// What can be asked.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "get", rename_all = "snake_case")]
enum Question {
    /// The state, with so many of each list at most.
    State {
        #[serde(default)]
        flows: usize,
        #[serde(default)]
        goroutines: usize,
        #[serde(default)]
        requests: usize,
    },
    /// The goroutines, in the form of Go's dumps.
    Dump,
    /// What the flight recorder holds.
    Trace,
}

impl Question {
    fn state(wanted: &Wanted) -> Question {
        Question::State {
            flows: wanted.flows,
            goroutines: wanted.goroutines,
            requests: wanted.requests,
        }
    }
}

/// The answer to [`Question::Dump`].
#[derive(Serialize, Deserialize)]
struct Dump {
    text: String,
}

/// The line before the bytes of a recording.
#[derive(Serialize, Deserialize)]
struct Length {
    len: u64,
}

/// What was asked cannot be answered.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Refusal {
    error: String,
}
