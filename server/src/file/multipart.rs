//! Bodies of the type `multipart/byteranges` (RFC 9110 §14.6).

use super::range::ByteRange;

/// Random bytes in a boundary. It must not stand in the file; nobody can guess
/// this many.
const BOUNDARY_BYTES: usize = 30;

/// What is around the parts: as many ranges as were asked for, of one file.
pub(super) struct Multipart {
    boundary: String,
    /// What comes before each range.
    heads: Vec<String>,
}

impl Multipart {
    pub fn new(ranges: &[ByteRange], content_type: &str, size: u64) -> Multipart {
        Multipart::with_boundary(random_boundary(), ranges, content_type, size)
    }

    fn with_boundary(
        boundary: String,
        ranges: &[ByteRange],
        content_type: &str,
        size: u64,
    ) -> Multipart {
        let head = |(at, range): (usize, &ByteRange)| {
            let lead = if at == 0 { "" } else { "\r\n" };
            let part = range.content_range(size);
            format!(
                "{lead}--{boundary}\r\nContent-Range: {part}\r\nContent-Type: {content_type}\r\n\r\n"
            )
        };
        let heads = ranges.iter().enumerate().map(head).collect();
        Multipart { boundary, heads }
    }

    pub fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    /// What comes before each range, in order.
    pub fn heads(&self) -> impl Iterator<Item = &[u8]> {
        self.heads.iter().map(String::as_bytes)
    }

    /// What comes after the last.
    pub fn end(&self) -> String {
        format!("\r\n--{}--\r\n", self.boundary)
    }

    /// Bytes of the body.
    pub fn len(&self, ranges: &[ByteRange]) -> u64 {
        let heads: usize = self.heads.iter().map(String::len).sum();
        let data: u64 = ranges.iter().map(|r| r.len).sum();
        data + (heads + self.end().len()) as u64
    }
}

fn random_boundary() -> String {
    let mut bytes = [0; BOUNDARY_BYTES];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    // It gives up to 256 bytes at once, and waits only while the system boots.
    assert_eq!(filled, Ok(BOUNDARY_BYTES), "getrandom(2) gives 30 bytes");
    let hex = |byte: &u8| format!("{byte:02x}");
    bytes.iter().map(hex).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_framed_and_counted() {
        let ranges = [(0, 1), (4, 2)].map(|(start, len)| ByteRange { start, len });
        let body = Multipart::with_boundary("b".into(), &ranges, "text/x", 9);
        let heads: Vec<&[u8]> = body.heads().collect();
        let text = [heads[0], b"0", heads[1], b"45", body.end().as_bytes()].concat();
        let want = "--b\r\nContent-Range: bytes 0-0/9\r\nContent-Type: text/x\r\n\r\n0\r\n\
                    --b\r\nContent-Range: bytes 4-5/9\r\nContent-Type: text/x\r\n\r\n45\r\n--b--\r\n";
        assert_eq!(String::from_utf8(text).unwrap(), want);
        assert_eq!(body.len(&ranges), want.len() as u64);
        assert_eq!(body.content_type(), "multipart/byteranges; boundary=b");
        let boundary = random_boundary();
        assert_eq!(boundary.len(), 60);
        assert_ne!(boundary, random_boundary());
    }
}
