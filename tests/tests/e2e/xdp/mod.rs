//! What is true of AF_XDP alone: the kernel beside the server on the same
//! interface, what becomes of the interface, and frames that only a driver's
//! ring can bring.
//!
//! The list of every device runs here too, from the files beside this folder.

mod attached;
mod beside;
mod checksums;
mod crash;
mod cycles;
mod frames;
mod lab;
mod link;
mod queues;
mod refusals;
mod sizes;
mod starved;
