//! Why a command ended: one line for a person, and an exit code.

use std::error::Error;
use std::fmt;

/// A command that failed.
#[derive(Debug)]
pub struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// What was asked for cannot be done (exit code 2): a wrong option, a
    /// missing right, a device that is taken.
    pub fn setup(error: &(dyn Error + 'static)) -> Failure {
        Failure {
            message: chain(error),
            code: 2,
        }
    }

    /// As [`Failure::setup`], in words.
    pub fn refused(message: impl Into<String>) -> Failure {
        Failure {
            message: message.into(),
            code: 2,
        }
    }

    /// Something broke while it ran (exit code 1).
    pub fn running(message: impl Into<String>) -> Failure {
        Failure {
            message: message.into(),
            code: 1,
        }
    }

    /// The process's exit code.
    pub fn code(&self) -> u8 {
        self.code
    }
}

/// The error and its sources, on one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !line.contains(&cause_text) {
            line.push_str(": ");
            line.push_str(&cause_text);
        }
        source = cause.source();
    }
    line
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
