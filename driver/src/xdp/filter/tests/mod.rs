//! The filter in the kernel: what it does with each frame, and with interfaces.

mod attach;
mod frames;
mod fuzz;
pub mod lab;
mod load;
mod model;
mod shapes;
mod table;
mod wire;

use std::os::fd::{AsFd, OwnedFd};

use super::sys;
use super::{Fate, Filter, Rules};

/// A filter with a socket in the slot of queue 0, on which frames are tried.
struct Bench {
    filter: Filter,
    _socket: OwnedFd,
}

impl Bench {
    fn new(rules: &Rules) -> Bench {
        let filter = Filter::load(rules, 1).unwrap();
        let socket = lab::with_socket(&filter);
        Bench {
            filter,
            _socket: socket,
        }
    }

    /// What the program made of the frame: by what it returned and by the one
    /// counter that went up, which must agree.
    #[track_caller]
    fn fate(&self, frame: &[u8]) -> Fate {
        let before = self.filter.verdicts();
        let ran = sys::prog_test_run(self.filter.prog.as_fd(), frame, 1).unwrap();
        let after = self.filter.verdicts();
        assert_eq!(after.frames(), before.frames() + 1, "counted once");
        let counted = Fate::ALL
            .into_iter()
            .find(|fate| after.of(*fate) != before.of(*fate))
            .unwrap();
        assert_eq!(ran.verdict, counted.action() as u32, "{counted:?}");
        counted
    }

    /// The mean time that the program takes for the frame, in nanoseconds.
    fn ns(&self, frame: &[u8]) -> u32 {
        let ran = sys::prog_test_run(self.filter.prog.as_fd(), frame, 1_000_000).unwrap();
        ran.ns
    }
}
