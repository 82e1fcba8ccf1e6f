//! The names and values of a query or of a form: Go's `url.Values`.

use std::borrow::Cow;
use std::fmt;

use crate::bytes::ByteSet;

/// Values that one query or form may have. As Go's `urlmaxqueryparams`.
pub const MAX_VALUES: usize = 10_000;

/// What stands for itself in a query (RFC 3986 §2.3).
const UNRESERVED: &ByteSet = &ByteSet::alphanumeric_and(b"-_.~");

/// Why a query, or a form in a body, is not one in all of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// A `;`, which some take for a separator and some do not. See
    /// `AllowQuerySemicolons`.
    #[error("a semicolon in a query, where only & separates")]
    Semicolon,
    /// A `%` that two hexadecimal digits do not follow.
    #[error("an invalid escape in a query: % needs two hexadecimal digits")]
    Escape,
    /// More than [`MAX_VALUES`].
    #[error("more than {MAX_VALUES} values in a query")]
    TooMany,
}

/// Names with their values, in the order in which they came.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Values {
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Values {
    /// No values.
    pub fn new() -> Values {
        Values::default()
    }

    /// Reads a query, or the body of a form
    /// (`application/x-www-form-urlencoded`). A part that is not valid is left
    /// out and the first such is told; of one with too many parts nothing is
    /// taken.
    ///
    /// ```
    /// use wirepath::{QueryError, Values};
    ///
    /// let (values, error) = Values::parse(b"q=a+b&q=%63&bad=%zz");
    /// assert_eq!(values.get("q").as_deref(), Some("a b"));
    /// assert_eq!(values.get_all("q").count(), 2);
    /// assert_eq!(error, Some(QueryError::Escape));
    /// ```
    pub fn parse(query: &[u8]) -> (Values, Option<QueryError>) {
        let mut values = Values::new();
        let error = values.extend_from(query).err();
        (values, error)
    }

    /// Adds what `query` has to what is there.
    pub(crate) fn extend_from(&mut self, query: &[u8]) -> Result<(), QueryError> {
        if memchr::memchr_iter(b'&', query).count() >= MAX_VALUES {
            return Err(QueryError::TooMany);
        }
        let mut first = Ok(());
        for part in query.split(|&b| b == b'&').filter(|part| !part.is_empty()) {
            match pair(part) {
                Ok(pair) => self.pairs.push(pair),
                Err(e) => first = first.and(Err(e)),
            }
        }
        first
    }

    /// The first value of `name`; bytes that are no text are replaced.
    pub fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get_bytes(name).map(String::from_utf8_lossy)
    }

    /// The first value of `name`, as bytes.
    pub fn get_bytes(&self, name: &str) -> Option<&[u8]> {
        let mut all = self.iter();
        all.find_map(|(n, value)| (n == name.as_bytes()).then_some(value))
    }

    /// All values of `name`, as bytes.
    pub fn get_all<'v>(&'v self, name: &'v str) -> impl Iterator<Item = &'v [u8]> {
        let all = self.iter();
        all.filter_map(move |(n, value)| (n == name.as_bytes()).then_some(value))
    }

    /// Whether there is a value of `name`.
    pub fn has(&self, name: &str) -> bool {
        self.get_bytes(name).is_some()
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.pairs
            .iter()
            .map(|(name, value)| (name.as_slice(), value.as_slice()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Adds a value to those of `name`.
    pub fn add(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let pair = (name.as_ref().to_vec(), value.as_ref().to_vec());
        self.pairs.push(pair);
    }

    /// Sets a value, in place of all of `name`.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.remove(name);
        self.add(name, value);
    }

    /// Takes away all values of `name`.
    pub fn remove(&mut self, name: &str) {
        self.pairs.retain(|(n, _)| n != name.as_bytes());
    }

    /// A query with these, sorted by name.
    ///
    /// ```
    /// let mut values = wirepath::Values::new();
    /// values.add("q", "a b");
    /// values.add("lang", "de&at");
    /// assert_eq!(values.encode(), "lang=de%26at&q=a+b");
    /// ```
    pub fn encode(&self) -> String {
        let mut sorted: Vec<_> = self.iter().collect();
        sorted.sort_by_key(|(name, _)| *name);
        let mut query = String::new();
        for (name, value) in sorted {
            if !query.is_empty() {
                query.push('&');
            }
            escape_into(&mut query, name);
            query.push('=');
            escape_into(&mut query, value);
        }
        query
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes| String::from_utf8_lossy(bytes);
        let pairs = self.iter().map(|(name, value)| (text(name), text(value)));
        f.debug_map().entries(pairs).finish()
    }
}

fn pair(part: &[u8]) -> Result<(Vec<u8>, Vec<u8>), QueryError> {
    if part.contains(&b';') {
        return Err(QueryError::Semicolon);
    }
    let equals = memchr::memchr(b'=', part);
    let (name, value) = match equals {
        Some(at) => (&part[..at], &part[at + 1..]),
        None => (part, b"".as_slice()),
    };
    Ok((unescape(name)?, unescape(value)?))
}

/// Decodes `+` and `%XX`.
fn unescape(text: &[u8]) -> Result<Vec<u8>, QueryError> {
    let mut bytes = text.iter();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(&byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || {
                    let digit = bytes.next().and_then(|&b| char::from(b).to_digit(16));
                    digit.ok_or(QueryError::Escape)
                };
                (digit()? * 16 + digit()?) as u8
            }
            byte => byte,
        });
    }
    Ok(decoded)
}

fn escape_into(query: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b' ' => query.push('+'),
            _ if UNRESERVED.has(byte) => query.push(char::from(byte)),
            _ => query.push_str(&format!("%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names, values and errors, as `url.ParseQuery` gives them.
    #[test]
    fn queries_are_read_as_in_go() {
        type Want<'a> = (&'a [(&'a str, &'a str)], Option<QueryError>);
        let table: &[(&str, Want<'_>)] = &[
            ("", (&[], None)),
            ("a=1&b=2", (&[("a", "1"), ("b", "2")], None)),
            (
                "a=1&a=2&a=banana",
                (&[("a", "1"), ("a", "2"), ("a", "banana")], None),
            ),
            ("a", (&[("a", "")], None)),
            ("=x", (&[("", "x")], None)),
            ("&&a=1&", (&[("a", "1")], None)),
            ("a=b=c", (&[("a", "b=c")], None)),
            ("a+b=c+d%2B", (&[("a b", "c d+")], None)),
            ("a=1;b=2", (&[], Some(QueryError::Semicolon))),
            ("a;b=1&c=2", (&[("c", "2")], Some(QueryError::Semicolon))),
            ("a=%3B", (&[("a", ";")], None)),
            ("a=%&b=1", (&[("b", "1")], Some(QueryError::Escape))),
            ("a=%1", (&[], Some(QueryError::Escape))),
            ("%zz=1&b=%C3%A9", (&[("b", "é")], Some(QueryError::Escape))),
            ("x=%4g;&y=;", (&[], Some(QueryError::Semicolon))),
        ];
        for (query, (want, error)) in table {
            let (values, got) = Values::parse(query.as_bytes());
            let pairs: Vec<_> = values
                .iter()
                .map(|(n, v)| (str::from_utf8(n).unwrap(), str::from_utf8(v).unwrap()))
                .collect();
            assert_eq!((pairs.as_slice(), got), (*want, *error), "{query}");
        }
    }

    #[test]
    fn too_many_values_are_refused() {
        let most = vec!["a"; MAX_VALUES].join("&");
        assert_eq!(Values::parse(most.as_bytes()).0.len(), MAX_VALUES);
        let more = most + "&";
        let (values, error) = Values::parse(more.as_bytes());
        assert_eq!((values.len(), error), (0, Some(QueryError::TooMany)));
    }

    #[test]
    fn what_is_encoded_reads_back() {
        let mut values = Values::new();
        values.add("b", "ü &=;%+/?~");
        values.add("a", [0, 255, b'z']);
        values.add("b", "2");
        assert_eq!(
            values.encode(),
            "a=%00%FFz&b=%C3%BC+%26%3D%3B%25%2B%2F%3F~&b=2"
        );
        let (read, error) = Values::parse(values.encode().as_bytes());
        assert_eq!((read.encode(), error), (values.encode(), None));
        values.set("b", "3");
        values.remove("a");
        assert_eq!(values.encode(), "b=3");
        assert!(values.has("b") && !values.has("a"));
    }
}
