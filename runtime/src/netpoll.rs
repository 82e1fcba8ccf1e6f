//! netpoll.
#![allow(dead_code, missing_docs)]
use crate::park::Parker;
use crate::word::{Arm, WaitWord};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use wirepath_driver::Nanos;
use wirepath_stack::Stack;
use wirepath_stack::syscall::Turn;

#[derive(Clone, Copy)]
pub(crate) enum Dir {
    Read,
}
pub(crate) struct PollDesc(pub(crate) WaitWord);
impl PollDesc {
    pub(crate) fn arm(&self, _: Dir, p: Parker) -> Arm {
        self.0.arm(p)
    }
}
pub struct Wait(pub(crate) WaitInner);
pub(crate) struct WaitInner {
    pub(crate) desc: Arc<PollDesc>,
    pub(crate) dir: Dir,
}
pub(crate) struct Netpoll;
impl Netpoll {
    pub(crate) fn new(_: Option<Stack>) -> Netpoll {
        Netpoll
    }
    pub(crate) fn poll(&self, _: usize, _: Nanos, _: usize, _: &mut Vec<Parker>) -> Turn {
        Turn::default()
    }
    pub(crate) fn flush(&self, _: usize, _: Nanos) {}
    pub(crate) fn next_event(&self, _: usize) -> Option<Nanos> {
        None
    }
    pub(crate) fn arm(&self, _: usize) -> bool {
        false
    }
    pub(crate) fn wakeup_fds(&self) -> Vec<OwnedFd> {
        Vec::new()
    }
    pub(crate) fn shards(&self) -> usize {
        0
    }
}
