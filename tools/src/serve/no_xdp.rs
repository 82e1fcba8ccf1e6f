//! The device of `serve --xdp` in a build that has none: it says how to get one.

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
pub fn open(
    _options: &Options,
    interface: &str,
    _plan: &Plan,
) -> Result<(Opened, String), Failure> {
    Err(missing(interface))
}
