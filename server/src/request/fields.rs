//! Header fields as they came: names and values in the raw head, and an index
//! of where they are.

use std::borrow::Cow;
use std::ops::Range;

use http::header::{HeaderMap, HeaderName, HeaderValue, InvalidHeaderName, InvalidHeaderValue};

/// Where a field is in the raw bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    name: (u32, u32),
    value: (u32, u32),
}

impl Field {
    pub fn new(name: Range<usize>, value: Range<usize>) -> Field {
        let narrow = |r: Range<usize>| {
            let narrow = |n| u32::try_from(n).expect("a head is less than 4 GiB");
            (narrow(r.start), narrow(r.end))
        };
        Field {
            name: narrow(name),
            value: narrow(value),
        }
    }
}

fn range((start, end): (u32, u32)) -> Range<usize> {
    start as usize..end as usize
}

/// The fields of a request's head, or of its trailer: in the order and the
/// spelling in which they came. Names are found in any case.
#[derive(Debug, Default)]
pub struct Fields {
    pub(super) raw: Vec<u8>,
    pub(super) list: Vec<Field>,
}

/// A field that has no place in a [`HeaderMap`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderMapError {
    /// The name is longer than `http` allows.
    #[error("a header name that http refuses")]
    Name(#[from] InvalidHeaderName),
    /// The value has a byte that `http` refuses.
    #[error("a header value that http refuses")]
    Value(#[from] InvalidHeaderValue),
    /// More fields than a map holds.
    #[error("more header fields than a map holds")]
    Full(#[from] http::header::MaxSizeReached),
}

impl Fields {
    pub(super) fn clear(&mut self) {
        self.raw.clear();
        self.list.clear();
    }

    /// Makes `raw` the bytes that fields pushed from now on are in.
    pub(super) fn set_raw(&mut self, raw: &[u8]) {
        self.clear();
        self.raw.extend_from_slice(raw);
    }

    pub(crate) fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Where the names and the values are in the raw bytes.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        self.list.iter().map(|f| (range(f.name), range(f.value)))
    }

    /// The first value of `name`, as bytes.
    pub fn get_bytes(&self, name: &str) -> Option<&[u8]> {
        self.ranges()
            .find(|(n, _)| self.raw[n.clone()].eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| &self.raw[value])
    }

    /// The first value of `name`, with bytes that are no text replaced.
    pub fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get_bytes(name).map(String::from_utf8_lossy)
    }

    /// Every value of `name`, in order.
    pub fn get_all<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f [u8]> {
        self.list
            .iter()
            .filter(move |f| self.raw[range(f.name)].eq_ignore_ascii_case(name.as_bytes()))
            .map(|f| &self.raw[range(f.value)])
    }

    /// Whether there is a field of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.get_bytes(name).is_some()
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.list.iter().map(|f| {
            let name = str::from_utf8(&self.raw[range(f.name)]);
            (
                name.expect("a field's name is a token"),
                &self.raw[range(f.value)],
            )
        })
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The fields as a map of the `http` crate.
    ///
    /// # Errors
    ///
    /// When the map's limits on names, values or their number are met.
    pub fn to_header_map(&self) -> Result<HeaderMap, HeaderMapError> {
        let mut map = HeaderMap::try_with_capacity(self.len())?;
        for (name, value) in self.iter() {
            let name = HeaderName::from_bytes(name.as_bytes())?;
            map.try_append(name, HeaderValue::from_bytes(value)?)?;
        }
        Ok(map)
    }
}
