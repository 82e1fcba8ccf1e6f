//! The `Date` field, formatted once a second.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// The line, for some date.
const EXAMPLE: [u8; 37] = *b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
/// Where in the line the date is.
const DATE: std::ops::Range<usize> = 6..35;

/// The line of the last response, kept by each connection: no lock, and no
/// thread-local that a goroutine could carry to another thread.
pub(super) struct DateCache {
    second: i64,
    line: [u8; EXAMPLE.len()],
}

impl DateCache {
    pub fn new() -> DateCache {
        DateCache {
            second: i64::MIN,
            line: EXAMPLE,
        }
    }

    /// The line of the date now (RFC 9110 §5.6.7).
    pub fn line(&mut self) -> &[u8] {
        // The coarse clock is a tick late at most, and a few times cheaper.
        let second = clock_gettime(ClockId::RealtimeCoarse).tv_sec;
        if second != self.second {
            self.second = second;
            let since = Duration::from_secs(u64::try_from(second).unwrap_or(0));
            let text = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since);
            self.line[DATE].copy_from_slice(text.as_bytes());
        }
        &self.line
    }
}
