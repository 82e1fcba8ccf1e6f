//! Ctrl-C and SIGTERM, which end a server, SIGQUIT, which has it tell what it
//! does, and SIGUSR2, which has it write down what it did.

use std::io;

use signal_hook::consts::{SIGINT, SIGQUIT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;
use wirepath::runtime::Handle;

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

/// Calls `each` at every SIGUSR2, on a thread of its own.
pub fn on_usr2(each: impl Fn() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGUSR2])?;
    std::thread::Builder::new()
        .name("usr2".into())
        .spawn(move || signals.forever().for_each(|_| each()))?;
    Ok(())
}

/// Goroutines that a dump lists at most.
const MOST_GOROUTINES: usize = 100_000;

/// The exit code after a dump, as Go's.
const QUIT: i32 = 2;

/// At SIGQUIT (Ctrl-\\) prints the runtime's goroutines to stderr and ends the
/// process with code 2, as a Go program does. The dump is taken on a thread of
/// its own, so a second SIGQUIT ends the process even when that one is stuck.
pub fn on_quit(runtime: Handle) -> io::Result<()> {
    let mut signals = Signals::new([SIGQUIT])?;
    std::thread::Builder::new()
        .name("quit".into())
        .spawn(move || {
            let mut signals = signals.forever();
            if signals.next().is_some() {
                std::thread::spawn(move || {
                    eprint!("SIGQUIT: quit\n\n{}", runtime.dump(MOST_GOROUTINES));
                    std::process::exit(QUIT);
                });
            }
            if signals.next().is_some() {
                std::process::exit(QUIT);
            }
        })?;
    Ok(())
}
