//! What a runtime prints about itself when the environment asks for it.
//!
//! | variable | what is printed to stderr |
//! | --- | --- |
//! | `WIREPATH_SCHEDTRACE=1000` | a line about the scheduler every so many milliseconds, as Go's `GODEBUG=schedtrace=1000` |
//! | `WIREPATH_SCHEDDETAIL=1` | with it, also a line for each P, M and goroutine (Go's `scheddetail=1`) |
//! | `WIREPATH_LEAKS=1` | when the runtime ends, the goroutines that are still there, by where they were started and what they wait for |
//!
//! A runtime in virtual time has no sysmon, and so prints no lines about its
//! scheduler.

use std::ffi::OsString;
use std::sync::OnceLock;
use std::time::Duration;

use crate::BuildError;

/// The environment variable that asks for the scheduler's line, in
/// milliseconds.
pub const SCHEDTRACE_VAR: &str = "WIREPATH_SCHEDTRACE";
/// The environment variable that asks for more than a line.
pub const SCHEDDETAIL_VAR: &str = "WIREPATH_SCHEDDETAIL";
/// The environment variable that asks for the report of what is left.
pub const LEAKS_VAR: &str = "WIREPATH_LEAKS";

/// The longest time between two lines: a day.
pub(crate) const MOST_SCHEDTRACE_MS: u64 = 24 * 3600 * 1000;

/// What was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// The time between two lines about the scheduler.
    pub(crate) schedtrace: Option<Duration>,
    pub(crate) detailed: bool,
    pub(crate) leaks: bool,
}

/// The wishes of a runtime, set before its threads start.
#[derive(Default)]
pub(crate) struct See(OnceLock<Wishes>);

impl See {
    pub(crate) fn set(&self, wishes: Wishes) {
        let _ = self.0.set(wishes);
    }

    pub(crate) fn wishes(&self) -> Wishes {
        self.0.get().copied().unwrap_or_default()
    }
}

impl Wishes {
    /// What the environment asks for.
    ///
    /// # Errors
    /// A variable with a value that means nothing.
    pub(crate) fn from_env() -> Result<Wishes, BuildError> {
        Ok(Wishes {
            schedtrace: period(std::env::var_os(SCHEDTRACE_VAR))?,
            detailed: switch(SCHEDDETAIL_VAR, std::env::var_os(SCHEDDETAIL_VAR))?,
            leaks: switch(LEAKS_VAR, std::env::var_os(LEAKS_VAR))?,
        })
    }
}

fn period(var: Option<OsString>) -> Result<Option<Duration>, BuildError> {
    let Some(value) = var else { return Ok(None) };
    let number = value.to_str().and_then(|v| v.trim().parse().ok());
    let ms = number.filter(|n| (1..=MOST_SCHEDTRACE_MS).contains(n));
    ms.map(|ms| Some(Duration::from_millis(ms)))
        .ok_or_else(|| BuildError::BadSchedtrace(value.to_string_lossy().into_owned()))
}

fn switch(name: &'static str, var: Option<OsString>) -> Result<bool, BuildError> {
    let Some(value) = var else { return Ok(false) };
    match value.to_str().map(str::trim) {
        Some("0") => Ok(false),
        Some("1") => Ok(true),
        _ => Err(BuildError::BadSwitch(
            name,
            value.to_string_lossy().into_owned(),
        )),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_bad_value_is_refused_with_words() {
        for bad in ["", "0", "-1", "often", "1s", "86400001"] {
            let error = period(Some(bad.into())).unwrap_err().to_string();
            assert!(
                error.contains(&format!("{SCHEDTRACE_VAR}={bad:?}")),
                "{error}"
            );
        }
        for bad in ["", "2", "yes"] {
            let error = switch(LEAKS_VAR, Some(bad.into())).unwrap_err().to_string();
            assert!(error.contains(&format!("{LEAKS_VAR}={bad:?}")), "{error}");
        }
    }

    #[test]
    fn a_good_value_is_taken() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(period(Some(" 1000 ".into())).unwrap(), second);
        assert_eq!(period(None).unwrap(), None);
        assert!(switch(LEAKS_VAR, Some("1".into())).unwrap());
        assert!(!switch(LEAKS_VAR, Some("0".into())).unwrap());
        assert!(!switch(LEAKS_VAR, None).unwrap());
    }
}
