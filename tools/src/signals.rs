//! Ctrl-C and SIGTERM.

use std::io;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Runs `first` on a thread of its own at the first SIGINT or SIGTERM. A
/// second one ends the process at once (exit code 130), so that a drain that
/// takes too long can be cut short.
pub fn on_stop(first: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let mut signals = signals.forever();
            if signals.next().is_some() {
                std::thread::spawn(first);
            }
            if signals.next().is_some() {
                std::process::exit(130);
            }
        })?;
    Ok(())
}
