//! A query's values, byte for byte.

use wirepath::Request;

/// The first value of `key` in the request's query, decoded; empty if there is
/// none.
pub fn value(r: &Request, key: &str) -> Vec<u8> {
    let pairs = r.query().split('&');
    let found = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut values = found.filter(|(k, _)| decode(k) == key.as_bytes());
    values.next().map_or_else(Vec::new, |(_, v)| decode(v))
}

/// [`value`] as a number; `default` if it is none.
pub fn number(r: &Request, key: &str, default: u64) -> u64 {
    let text = value(r, key);
    let number = str::from_utf8(&text).ok().and_then(|t| t.parse().ok());
    number.unwrap_or(default)
}

/// [`value`] as text.
pub fn text(r: &Request, key: &str) -> String {
    String::from_utf8_lossy(&value(r, key)).into_owned()
}

fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        decoded.push(match (escaped, bytes[at]) {
            (Some(byte), _) => byte,
            (None, b'+') => b' ',
            (None, byte) => byte,
        });
        at += if escaped.is_some() { 3 } else { 1 };
    }
    decoded
}
