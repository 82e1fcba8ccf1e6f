//! Sequence numbers, which wrap (RFC 9293 §3.4).

/// How far `to` is past `from`; negative if before it.
pub(super) fn distance(from: u32, to: u32) -> i32 {
    to.wrapping_sub(from).cast_signed()
}

/// Whether `a` comes before `b`.
pub(super) fn is_before(a: u32, b: u32) -> bool {
    distance(b, a) < 0
}
