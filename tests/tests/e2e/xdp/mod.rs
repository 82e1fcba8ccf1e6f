//! What is true of AF_XDP alone: the kernel beside the server on the same
//! interface, what becomes of the interface, and frames that only a driver's
//! ring can bring.
//!
//! The list of every device runs here too, from the files beside this folder.

use wirepath_driver::Queue;
use wirepath_driver::xdp::{AttachMode, BindMode, Rules, Xdp, XdpOptions};
use wirepath_tests::Device;
use wirepath_tests::lab::SERVER_END;

mod attached;
mod beside;
mod checksums;
mod crash;
mod cycles;
mod frames;
mod lab;
mod ledger;
mod link;
mod queues;
mod refusals;
mod sizes;
mod starved;

/// How to open the server's end, for a test that is its own server at the usual
/// addresses.
pub fn options(device: Device) -> XdpOptions {
    let addrs = ["10.0.0.2", "fd00::2"].map(|addr| addr.parse().expect("a literal"));
    let mut options = XdpOptions::new(SERVER_END, Rules::own(addrs));
    options.bind = BindMode::Copy;
    options.attach = match device {
        Device::XdpGeneric => AttachMode::Generic,
        _ => AttachMode::Driver,
    };
    options
}

/// The one queue of the server's end, from inside its namespace.
#[track_caller]
pub fn queue(device: Device) -> Box<dyn Queue> {
    let xdp = Xdp::open(&options(device)).expect("the lab's interface takes it");
    let queue = xdp.into_queues().pop();
    Box::new(queue.expect("it was asked for one"))
}
