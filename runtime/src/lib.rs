//! Goroutines: an M:N scheduler modelled on Go's.

pub mod chan;
mod model;
pub mod net;
mod netpoll;
mod netpoll_stack;
mod park;
#[path = "sched_stub.rs"]
mod sched;
mod sync;
#[path = "timer_stub.rs"]
mod timer;
mod word;

pub use netpoll::Wait;
pub use sync::WaitGroup;
pub use wirepath_driver::{Nanos, clock, trace};
pub use wirepath_stack::Stack;
