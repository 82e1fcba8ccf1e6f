//! The `Date` field, formatted once a second.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
const LEN: usize = 29;

/// The date of the last response, kept by each connection: no lock, and no
/// thread-local that a goroutine could carry to another thread.
pub(super) struct DateCache {
    second: i64,
    text: [u8; LEN],
}

impl DateCache {
    pub fn new() -> DateCache {
        DateCache {
            second: i64::MIN,
            text: [b' '; LEN],
        }
    }

    /// The date now (RFC 9110 §5.6.7).
    pub fn get(&mut self) -> &[u8] {
        // The coarse clock is a tick late at most, and a few times cheaper.
        let second = clock_gettime(ClockId::RealtimeCoarse).tv_sec;
        if second != self.second {
            self.second = second;
            let since = Duration::from_secs(u64::try_from(second).unwrap_or(0));
            let text = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since);
            self.text.copy_from_slice(text.as_bytes());
        }
        &self.text
    }
}
