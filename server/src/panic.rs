//! Where a handler panicked.
//!
//! By the time a panic is caught its frames are gone, so a hook of the process
//! notes them when it begins. The hook that was there before is called as well,
//! but for [`AbortHandler`], which is no failure.

use std::any::Any;
use std::backtrace::Backtrace;
use std::fmt;
use std::panic::PanicHookInfo;
use std::sync::Once;

use wirepath_runtime::{blocking, goroutine_local};

/// The payload of a panic that ends a handler and its connection without a
/// line in the log: `std::panic::panic_any(AbortHandler)`.
#[derive(Clone, Copy, Debug)]
pub struct AbortHandler;

/// A panic, as the hook saw it.
struct Noted {
    message: String,
    place: Option<String>,
    stack: Backtrace,
}

goroutine_local! {
    /// The last panic of the goroutine.
    static LAST: Option<Noted> = None;
}

/// From now on panics are noted. Once a process; a hook that the process sets
/// later takes its place, and panics have no stack in the log then.
pub(crate) fn note_panics() {
    static INSTALLED: Once = Once::new();
    if std::thread::panicking() {
        return;
    }
    INSTALLED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !panic.payload().is::<AbortHandler>() {
                note(panic);
                before(panic);
            }
        }));
    });
}

fn note(panic: &PanicHookInfo<'_>) {
    LAST.set(Some(Noted {
        message: message(panic.payload()).to_owned(),
        place: panic.location().map(ToString::to_string),
        stack: Backtrace::force_capture(),
    }));
}

/// A panic that was caught, in words: its message, its place, and the frames
/// from there to the goroutine's start.
pub(crate) struct Caught {
    message: String,
    noted: Option<Noted>,
}

impl Caught {
    /// The panic with this payload, which the calling goroutine has just
    /// caught.
    pub fn new(payload: &(dyn Any + Send)) -> Caught {
        let message = message(payload).to_owned();
        // One that was resumed is not noted: what is there is another's.
        let noted = LAST.take().flatten().filter(|n| n.message == message);
        Caught { message, noted }
    }

    /// All of it. The first to name frames reads the program's debug
    /// information, which takes long: others run meanwhile.
    pub fn into_text(self) -> String {
        blocking(|| self.to_string())
    }
}

impl fmt::Display for Caught {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let Some(noted) = &self.noted else {
            return Ok(());
        };
        if let Some(place) = &noted.place {
            write!(f, ", at {place}")?;
        }
        write!(f, "\n{}", noted.stack)
    }
}

fn message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(a value that is no text)")
}
