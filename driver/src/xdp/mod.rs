//! AF_XDP: the rings of a real network card's queues, shared with the kernel.

pub mod filter;
pub mod interface;
mod rtnetlink;
