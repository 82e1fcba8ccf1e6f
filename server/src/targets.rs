//! Whose log lines are whose: the `target` of each `tracing` event, so that a
//! filter can tell them apart.

/// A listener that fails.
pub(crate) const ACCEPT: &str = "wirepath::accept";
/// A handler that panicked.
pub(crate) const HANDLER: &str = "wirepath::handler";
/// A client that a limit met.
pub(crate) const LIMIT: &str = "wirepath::limit";
/// A request that was refused.
pub(crate) const REQUEST: &str = "wirepath::request";
