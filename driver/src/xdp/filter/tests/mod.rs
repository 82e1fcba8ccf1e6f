//! The filter in the kernel: what it does with each frame, and with interfaces.

mod attach;
mod lab;
