//! The bytes of a capture as a window that moves forward: what is looked at, and
//! what lies before it, once consumed, is forgotten.

use std::io::{self, Read};

/// Bytes that are asked of the source at once.
const STEP_BYTES: usize = 1 << 20;

/// A source read forward, some of it in memory.
///
/// The window holds at most what [`Window::at_least`] was asked for and one
/// [`STEP_BYTES`] more, so its memory is bounded by the largest block that a
/// format's reader wants to see at once.
pub(super) struct Window {
    source: Box<dyn Read>,
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Where `start` is in the source.
    offset: u64,
    has_ended: bool,
    /// Why no more could be read, until it is taken.
    error: Option<io::Error>,
}

impl Window {
    pub fn new(source: Box<dyn Read>) -> Window {
        Window {
            source,
            bytes: vec![0; 2 * STEP_BYTES],
            start: 0,
            end: 0,
            offset: 0,
            has_ended: false,
            error: None,
        }
    }

    /// Where the window begins: a byte offset in what the file holds unpacked.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What ended the source early, once.
    pub fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    /// The bytes from the window's beginning: `wanted` of them or more, or fewer
    /// if the source ends.
    pub fn at_least(&mut self, wanted: usize) -> &[u8] {
        if self.end - self.start < wanted && !self.has_ended {
            self.fill(wanted);
        }
        &self.bytes[self.start..self.end]
    }

    /// What is in memory now.
    pub fn seen(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Moves the beginning on.
    ///
    /// # Panics
    ///
    /// If these bytes were not seen.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.end - self.start, "only bytes that were seen");
        self.start += count;
        self.offset += count as u64;
    }

    /// Moves the beginning on over bytes that nobody looks at. How many there
    /// were, which is less than `count` if the source ends.
    pub fn skip(&mut self, count: u64) -> u64 {
        let mut left = count;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(STEP_BYTES);
            let got = self.at_least(1).len().min(wanted);
            if got == 0 {
                break;
            }
            self.consume(got);
            left -= got as u64;
        }
        count - left
    }

    fn fill(&mut self, wanted: usize) {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.bytes.len() < wanted + STEP_BYTES {
            self.bytes.resize(wanted + STEP_BYTES, 0);
        }
        while self.end < wanted && !self.has_ended {
            match self.source.read(&mut self.bytes[self.end..]) {
                Ok(0) => self.has_ended = true,
                Ok(count) => self.end += count,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => {
                    self.has_ended = true;
                    self.error = Some(err);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its bytes one at a time, then breaks.
    struct Drops(Vec<u8>);

    impl Read for Drops {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            match self.0.pop() {
                Some(byte) => {
                    into[0] = byte;
                    Ok(1)
                }
                None => Err(io::Error::other("broken")),
            }
        }
    }

    #[test]
    fn what_is_read_stays_until_it_is_consumed() {
        let mut window = Window::new(Box::new(Drops(vec![4, 3, 2, 1])));
        assert_eq!(window.at_least(2), [1, 2]);
        window.consume(1);
        assert_eq!((window.offset(), window.at_least(3)), (1, &[2, 3, 4][..]));
        assert_eq!(window.at_least(9), [2, 3, 4]);
        assert_eq!(
            window.take_error().map(|err| err.to_string()).as_deref(),
            Some("broken")
        );
    }

    #[test]
    fn a_skip_says_how_far_it_came() {
        let source = io::repeat(7).take(3 * STEP_BYTES as u64 + 5);
        let mut window = Window::new(Box::new(source));
        assert_eq!(window.skip(2 * STEP_BYTES as u64), 2 * STEP_BYTES as u64);
        assert_eq!(window.skip(u64::MAX), STEP_BYTES as u64 + 5);
        assert!(window.at_least(1).is_empty());
    }
}
