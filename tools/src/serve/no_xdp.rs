//! The device of `serve --xdp` in a build that has none: it says how to get one.

use serde_json::Value;
use wirepath_stack::Stats;

use super::ledger::Entry;
use super::options::Options;
use super::plan::Plan;
use crate::device::Opened;
use crate::failure::Failure;

/// That this build has no AF_XDP, before anything else is found wrong.
pub fn available(interface: &str) -> Result<(), Failure> {
    Err(missing(interface))
}

fn missing(interface: &str) -> Failure {
    Failure::refused(format!(
        "--xdp {interface}: this wirepath was built without AF_XDP; build it with \
         'cargo build --release --features xdp' ('make deps' installs what its C library needs)"
    ))
}

/// As [`available`].
pub fn open(_options: &Options, interface: &str, _plan: &Plan) -> Result<(Opened, Card), Failure> {
    Err(missing(interface))
}

/// There is none.
#[derive(Clone)]
pub enum Card {}

impl Card {
    /// Never called, as all here.
    pub fn given(&self) -> String {
        match *self {}
    }

    /// As [`Card::given`].
    pub fn json(&self) -> Value {
        match *self {}
    }

    /// As [`Card::given`].
    pub fn lines(&self) -> Vec<String> {
        match *self {}
    }

    /// As [`Card::given`].
    pub fn ledger(&self, _stats: &Stats) -> Vec<Entry> {
        match *self {}
    }
}
