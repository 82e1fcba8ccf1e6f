//! TLS keys for the readers of a capture.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::lock;

/// Bytes of keys that a capture keeps: a handshake has less than a kilobyte of
/// them, and each file of a ring begins with those that are kept, the oldest
/// having been dropped.
const MOST_BYTES: usize = 1 << 20;

/// Where a TLS server leaves the secrets of its connections, as lines of a key
/// log (draft-ietf-tls-keylogfile). They are written as decryption secrets
/// blocks (pcapng §4.7) before any frame that is captured later, so that
/// Wireshark deciphers what follows without another file. Whoever has the
/// capture can then read all that was said.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Shared>);

#[derive(Default)]
struct Shared {
    kept: Mutex<Kept>,
    /// There are lines that the present file does not have.
    has_news: AtomicBool,
}

#[derive(Default)]
struct Kept {
    lines: Vec<u8>,
    /// Bytes of `lines` that are in the present file.
    written: usize,
}

impl Secrets {
    /// Adds a line, without its end.
    pub fn add(&self, line: &str) {
        let mut kept = lock(&self.0.kept);
        kept.lines.extend_from_slice(line.as_bytes());
        kept.lines.push(b'\n');
        while kept.lines.len() > MOST_BYTES {
            kept.drop_first_line();
        }
        self.0.has_news.store(true, Ordering::Release);
    }

    /// What the present file does not have yet; all of it when a file begins.
    pub(super) fn take(&self, is_new_file: bool) -> Vec<u8> {
        // Asked before each frame.
        if !is_new_file && !self.0.has_news.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut kept = lock(&self.0.kept);
        self.0.has_news.store(false, Ordering::Relaxed);
        if is_new_file {
            kept.written = 0;
        }
        let new = kept.lines[kept.written..].to_vec();
        kept.written = kept.lines.len();
        new
    }
}

impl Kept {
    fn drop_first_line(&mut self) {
        let end = self.lines.iter().position(|b| *b == b'\n');
        let end = end.map_or(self.lines.len(), |at| at + 1);
        self.lines.drain(..end);
        self.written = self.written.saturating_sub(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gets_each_line_once_and_the_next_file_all_of_them() {
        let secrets = Secrets::default();
        secrets.add("CLIENT_RANDOM a b");
        assert_eq!(secrets.take(false), b"CLIENT_RANDOM a b\n");
        assert_eq!(secrets.take(false), b"");
        secrets.add("X c d");
        assert_eq!(secrets.take(false), b"X c d\n");
        assert_eq!(secrets.take(true), b"CLIENT_RANDOM a b\nX c d\n");
    }

    #[test]
    fn the_oldest_lines_go() {
        let secrets = Secrets::default();
        let line = "x".repeat(MOST_BYTES / 4);
        for n in 0..9 {
            secrets.add(&format!("{n}{line}"));
        }
        let kept = secrets.take(true);
        assert!(kept.len() <= MOST_BYTES && kept[0] == b'6', "{}", kept[0]);
    }
}
