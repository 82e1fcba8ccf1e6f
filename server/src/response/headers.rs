//! The header fields of a response while it is made.

use crate::request::{is_token_byte, is_value_byte};

/// A header field that must not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The name is not a token.
    #[error("the header name is not a token")]
    Name,
    /// The value has a control byte, which could end the field.
    #[error("the header value has a control byte")]
    Value,
}

/// Lines `name: value\r\n`, ready to be sent. The few fields of a response
/// are found by walking over the lines.
#[derive(Default)]
pub(super) struct HeaderLines {
    lines: Vec<u8>,
}

impl HeaderLines {
    pub fn clear(&mut self) {
        self.lines.clear();
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.lines
    }

    /// Each line without its CRLF.
    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.lines
            .split_inclusive(|&b| b == b'\n')
            .map(|line| &line[..line.len() - 2])
    }

    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.lines().find_map(|line| value_of(line, name))
    }

    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub fn append(&mut self, name: &str, value: &[u8]) -> Result<(), HeaderError> {
        if name.is_empty() || !name.bytes().all(is_token_byte) {
            return Err(HeaderError::Name);
        }
        if !value.iter().all(|&b| is_value_byte(b)) {
            return Err(HeaderError::Value);
        }
        self.lines.extend_from_slice(name.as_bytes());
        self.lines.extend_from_slice(b": ");
        self.lines.extend_from_slice(value.trim_ascii());
        self.lines.extend_from_slice(b"\r\n");
        Ok(())
    }

    pub fn set(&mut self, name: &str, value: &[u8]) -> Result<(), HeaderError> {
        let old = self.lines.len();
        self.append(name, value)?;
        self.remove_before(old, name);
        Ok(())
    }

    pub fn remove(&mut self, name: &str) {
        self.remove_before(self.lines.len(), name);
    }

    /// Removes the fields of this name that are in the first `end` bytes.
    fn remove_before(&mut self, mut end: usize, name: &str) {
        let mut at = 0;
        while at < end {
            let rest = &self.lines[at..];
            let len = memchr::memchr(b'\n', rest).expect("every line ends") + 1;
            if value_of(&rest[..len - 2], name).is_some() {
                self.lines.drain(at..at + len);
                end -= len;
            } else {
                at += len;
            }
        }
    }
}

fn value_of<'l>(line: &'l [u8], name: &str) -> Option<&'l [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b": ")?;
    start.eq_ignore_ascii_case(name.as_bytes()).then_some(value)
}
