//! Attributes of netlink messages, taken apart without a panic.
//!
//! The kernel is trusted to speak the truth, not to speak a version that we
//! know: what is missing, short or of another type reads as absent.

use std::collections::BTreeMap;

use netlink_packet_core::{Emitable, NLA_F_NESTED, NLA_HEADER_SIZE, Nla, NlasIterator};

/// The attributes of a message or of a nest, by type. Of several of one type
/// the last is kept, as the kernel does.
#[derive(Debug, Default)]
pub struct Attributes<'a>(BTreeMap<u16, &'a [u8]>);

impl<'a> Attributes<'a> {
    /// Those in `bytes`, as far as they are well formed.
    pub fn parse(bytes: &'a [u8]) -> Attributes<'a> {
        Attributes(each(bytes).collect())
    }

    /// A nest.
    pub fn nest(&self, kind: u16) -> Option<Attributes<'a>> {
        self.bytes(kind).map(Attributes::parse)
    }

    /// The bytes of one.
    pub fn bytes(&self, kind: u16) -> Option<&'a [u8]> {
        self.0.get(&kind).copied()
    }

    /// A number of the machine's order.
    pub fn u16(&self, kind: u16) -> Option<u16> {
        let bytes = self.bytes(kind)?.get(..2)?;
        Some(u16::from_ne_bytes(bytes.try_into().ok()?))
    }

    /// As [`Attributes::u16`].
    pub fn u32(&self, kind: u16) -> Option<u32> {
        let bytes = self.bytes(kind)?.get(..4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    }

    /// A number of 32 or 64 bits, as the kernel's `uint` is either.
    pub fn uint(&self, kind: u16) -> Option<u64> {
        let bytes = self.bytes(kind)?;
        match bytes.get(..8) {
            Some(bytes) => Some(u64::from_ne_bytes(bytes.try_into().ok()?)),
            None => self.u32(kind).map(u64::from),
        }
    }

    /// Text up to its zero.
    pub fn text(&self, kind: u16) -> Option<String> {
        let bytes = self.bytes(kind)?;
        let text = bytes.split(|byte| *byte == 0).next()?;
        Some(String::from_utf8_lossy(text).into_owned())
    }
}

/// The attributes in `bytes` one after the other, as a list in netlink is
/// several of one type.
pub fn each(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut iter = NlasIterator::new(bytes);
    // An attribute that claims more than there is ends the list.
    std::iter::from_fn(move || {
        let attribute = iter.next()?.ok()?;
        let end = usize::from(attribute.length());
        let value = attribute.into_inner().get(NLA_HEADER_SIZE..end);
        Some((attribute.kind(), value.unwrap_or_default()))
    })
}

/// An attribute of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    kind: u16,
    value: Vec<u8>,
}

impl Attribute {
    /// A number.
    pub fn u32(kind: u16, value: u32) -> Attribute {
        Attribute {
            kind,
            value: value.to_ne_bytes().to_vec(),
        }
    }

    /// Text, with the zero that ends it.
    pub fn text(kind: u16, text: &str) -> Attribute {
        let mut value = text.as_bytes().to_vec();
        value.push(0);
        Attribute { kind, value }
    }

    /// Attributes in one.
    pub fn nest(kind: u16, inner: &[Attribute]) -> Attribute {
        let mut value = vec![0; inner.buffer_len()];
        inner.emit(&mut value);
        let kind = kind | NLA_F_NESTED;
        Attribute { kind, value }
    }
}

impl Nla for Attribute {
    fn value_len(&self) -> usize {
        self.value.len()
    }

    fn kind(&self) -> u16 {
        self.kind
    }

    fn emit_value(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emitted(attributes: &[Attribute]) -> Vec<u8> {
        let mut bytes = vec![0; attributes.buffer_len()];
        attributes.emit(&mut bytes);
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = emitted(&[
            Attribute::text(1, "veth0"),
            Attribute::nest(2, &[Attribute::u32(7, 0xdead_beef)]),
        ]);
        let read = Attributes::parse(&bytes);
        assert_eq!(read.text(1).as_deref(), Some("veth0"));
        assert_eq!(read.nest(2).unwrap().u32(7), Some(0xdead_beef));
        assert_eq!(read.u32(9), None);
    }

    #[test]
    fn a_cut_message_reads_as_far_as_it_goes() {
        let bytes = emitted(&[Attribute::u32(1, 5), Attribute::text(2, "a long text")]);
        for len in 0..bytes.len() {
            let read = Attributes::parse(&bytes[..len]);
            assert_eq!(read.u32(1).is_some(), len >= 8, "{len} bytes");
            assert_eq!(read.u16(2), None, "{len} bytes");
        }
    }

    #[test]
    fn a_number_that_is_too_short_is_absent() {
        let bytes = emitted(&[Attribute::text(1, "")]);
        let read = Attributes::parse(&bytes);
        assert_eq!((read.u16(1), read.u32(1), read.uint(1)), (None, None, None));
        assert_eq!(read.text(1).as_deref(), Some(""));
    }
}
