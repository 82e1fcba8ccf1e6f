//! Goroutines: an M:N scheduler modelled on Go's.

mod netpoll;
mod park;
mod word;

pub use wirepath_driver::{Nanos, clock, trace};
pub use wirepath_stack::Stack;
