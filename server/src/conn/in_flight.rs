//! Which request a connection is in, for those who look from outside.
//!
//! The connection writes it for each request, and hardly anybody ever reads it,
//! so it must cost next to nothing: words that are stored without a lock,
//! between two stores of a version that tells a reader whether it saw them
//! whole (a sequence lock). A reader that did not tries again a few times.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

/// Words of a request line that are kept.
const WORDS: usize = 8;
/// And bytes: a longer line is cut.
const BYTES: usize = WORDS * 8;
/// How often a reader tries.
const TRIES: usize = 100;

/// Method and target of the present request, if there is one.
#[derive(Default)]
pub(super) struct InFlight {
    /// Odd while it is written.
    version: AtomicU64,
    /// The length of the line, which may be more than is kept; 0 between
    /// requests.
    len: AtomicUsize,
    words: [AtomicU64; WORDS],
}

impl InFlight {
    /// The connection is in this request. Called by one at a time.
    pub fn begin(&self, method: &str, target: &str) {
        let mut line = [0; BYTES];
        let kept = method.len().min(BYTES);
        line[..kept].copy_from_slice(&method.as_bytes()[..kept]);
        if let Some(rest) = line.get_mut(kept + 1..) {
            let kept = target.len().min(rest.len());
            rest[..kept].copy_from_slice(&target.as_bytes()[..kept]);
            line[method.len()] = b' ';
        }
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        let (words, _) = line.as_chunks::<8>();
        let len = method.len() + 1 + target.len();
        let used = len.div_ceil(8).min(WORDS);
        for (word, bytes) in self.words.iter().zip(&words[..used]) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        self.len.store(len, Ordering::Relaxed);
        self.version.store(version + 2, Ordering::Release);
    }

    /// It is in none.
    pub fn end(&self) {
        self.len.store(0, Ordering::Relaxed);
    }

    /// Method and target, with `…` for what is not kept.
    pub fn get(&self) -> Option<String> {
        let (len, line) = (0..TRIES).find_map(|_| self.read())?;
        if len == 0 {
            return None;
        }
        let mut text = String::from_utf8_lossy(&line[..len.min(BYTES)]).into_owned();
        if len > BYTES {
            text.push('…');
        }
        Some(text)
    }

    fn read(&self) -> Option<(usize, [u8; BYTES])> {
        let version = self.version.load(Ordering::Acquire);
        let len = self.len.load(Ordering::Relaxed);
        let mut line = [0; BYTES];
        let (words, _) = line.as_chunks_mut::<8>();
        for (bytes, word) in words.iter_mut().zip(&self.words) {
            *bytes = word.load(Ordering::Relaxed).to_ne_bytes();
        }
        fence(Ordering::Acquire);
        let is_whole = version.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == version;
        is_whole.then_some((len, line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn a_line_is_kept_as_far_as_it_fits() {
        let in_flight = InFlight::default();
        assert_eq!(in_flight.get(), None);
        in_flight.begin("GET", "/a?b");
        assert_eq!(in_flight.get().unwrap(), "GET /a?b");
        in_flight.begin("GET", &"x".repeat(200));
        assert_eq!(in_flight.get().unwrap(), format!("GET {}…", "x".repeat(60)));
        in_flight.begin(&"M".repeat(BYTES), "/");
        assert_eq!(in_flight.get().unwrap(), "M".repeat(BYTES) + "…");
        in_flight.begin("OPTIONS", "*");
        assert_eq!(in_flight.get().unwrap(), "OPTIONS *");
        in_flight.end();
        assert_eq!(in_flight.get(), None);
    }

    #[test]
    fn a_reader_never_sees_half_of_two() {
        let (in_flight, stop) = (InFlight::default(), AtomicBool::new(false));
        let lines = ["a".repeat(60), "b".repeat(60)];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    lines.iter().for_each(|line| in_flight.begin("GET", line));
                }
            });
            for _ in 0..20_000 {
                let Some(seen) = in_flight.get() else {
                    continue;
                };
                assert!(lines.iter().any(|line| seen[4..] == **line), "{seen}");
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}
