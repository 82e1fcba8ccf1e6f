//! Telling the service manager how the server is (sd_notify(3)).
//!
//! Where `NOTIFY_SOCKET` is not set nobody asked, and nothing happens. A
//! manager that cannot be told is no reason to stop serving: it is logged, and
//! `Type=notify` then ends the unit by its own timeout.

use sd_notify::NotifyState;

/// It listens.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// It drains, and then ends.
pub fn stopping(status: &str) {
    notify(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot tell the service manager (NOTIFY_SOCKET)");
    }
}
