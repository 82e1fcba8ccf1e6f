//! The lines of the files of recorded conversations.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::play::Outcome;

/// A conversation, and what became of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    /// Its name, of which there is one in a file.
    pub id: String,
    /// What the client sends.
    pub send: Vec<Piece>,
    /// What it does then.
    #[serde(default, skip_serializing_if = "Finish::is_probe")]
    pub finish: Finish,
    /// What `net/http` answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub go: Option<Outcome>,
    /// What Wirepath answers, where that is something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ours: Option<Outcome>,
    /// The row of `docs/differences-from-go.md` that says why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<String>,
}

/// A part of what a client sends.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Piece {
    /// These bytes, in a write of their own.
    Bytes(String),
    /// The same bytes many times.
    Repeat {
        /// The bytes.
        repeat: String,
        /// How often.
        times: usize,
    },
    /// Nothing until this was received.
    Wait {
        /// What to wait for.
        wait_for: String,
    },
}

/// What a client does when it has sent all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// Sends the probe, and closes its half.
    #[default]
    Probe,
    /// Closes its half.
    HalfClose,
    /// Waits for the server to close.
    Wait,
}

impl Finish {
    fn is_probe(&self) -> bool {
        *self == Finish::Probe
    }
}

impl Vector {
    /// What Wirepath ought to answer.
    ///
    /// # Panics
    /// If the vector was never recorded.
    #[track_caller]
    pub fn expected(&self) -> &Outcome {
        let recorded = self.ours.as_ref().or(self.go.as_ref());
        recorded.unwrap_or_else(|| panic!("{} was never recorded: run `make oracle`", self.id))
    }
}

/// The folder of the files.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle")
}

/// The vectors of `name.jsonl`.
///
/// # Panics
/// If it cannot be read: it is part of the repository.
#[track_caller]
pub fn read(name: &str) -> Vec<Vector> {
    let path = folder().join(format!("{name}.jsonl"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let each = text.lines().enumerate().map(|(at, line)| {
        serde_json::from_str(line).unwrap_or_else(|e| panic!("{name}.jsonl:{}: {e}", at + 1))
    });
    each.collect()
}

/// Writes `name.jsonl`.
///
/// # Panics
/// If it cannot be written.
#[track_caller]
pub fn write(name: &str, vectors: &[Vector]) {
    let mut text = String::new();
    for vector in vectors {
        text += &serde_json::to_string(vector).expect("plain data");
        text.push('\n');
    }
    fs::write(folder().join(format!("{name}.jsonl")), text).expect("the file can be written");
}

/// The bytes whose code points a text has.
///
/// # Panics
/// If one is none of a byte.
#[track_caller]
pub fn bytes(text: &str) -> Vec<u8> {
    let byte = |c| u8::try_from(c).unwrap_or_else(|_| panic!("{c:?} is no byte"));
    text.chars().map(byte).collect()
}

/// The text whose code points are these bytes.
pub fn points(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| char::from(b)).collect()
}
