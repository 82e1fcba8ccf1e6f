//! What goroutines there are, for people.

use std::fmt::Write;

use crate::g::{FREE, G};
use crate::sched::Shared;
use crate::sched::state::Phase;

/// Goroutines that a dump lists; more are counted.
const MOST: usize = 100;

fn line(text: &mut String, g: &G) {
    let state = match (g.state.phase(), g.reason()) {
        (_, Some(reason)) => reason.name(),
        (Phase::Runnable, _) => "runnable",
        (Phase::Running, _) => "running",
        (Phase::Parked, _) => "waiting",
        (Phase::Done, _) => "done",
    };
    let _ = write!(text, "goroutine {}", g.id);
    if let Some(name) = &g.name {
        let _ = write!(text, " ({name})");
    }
    let _ = write!(text, " [{state}");
    if g.home() != FREE {
        let _ = write!(text, ", bound to M{}", g.home());
    }
    let _ = write!(text, "] started at {}:{}", g.site.file(), g.site.line());
    let stack = g.stack_high_water();
    if stack > 0 {
        let _ = write!(text, ", {} KiB of stack", stack / 1024);
    }
    text.push('\n');
}

/// A line for each goroutine that lives, by number.
pub(crate) fn dump(shared: &Shared) -> String {
    let mut live = shared.live();
    live.sort_by_key(|g| g.id);
    let mut text = String::new();
    for g in live.iter().take(MOST) {
        line(&mut text, g);
    }
    if live.len() > MOST {
        let _ = writeln!(text, "… and {} more", live.len() - MOST);
    }
    text
}
