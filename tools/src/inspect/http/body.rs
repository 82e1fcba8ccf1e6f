//! The body of a message: how far it goes (RFC 9112 §6), its framing taken away.

/// A line of chunked framing, with its extensions.
const MAX_LINE_BYTES: usize = 8192;

/// A body that is being read.
pub(super) struct Body {
    kind: Kind,
    had_gap: bool,
}

enum Kind {
    /// So many bytes are left.
    Length(u64),
    Chunked(Chunk),
    UntilClose,
}

/// Where a chunked body is (RFC 9112 §7.1).
enum Chunk {
    /// Within a line: of a size, or behind a chunk's data, which is empty.
    Size(Vec<u8>),
    Data(u64),
    /// Within the line end behind data.
    DataEnd,
    /// Within the trailer; the length of the line so far.
    Trailer(usize),
}

/// What became of bytes.
pub(super) enum Eaten<'a> {
    /// Data, and what is left.
    Data(&'a [u8], &'a [u8]),
    /// All; more are wanted.
    Wants,
    /// The body is over; what is left.
    Over(&'a [u8]),
    /// This is no such body.
    Wrong,
}

impl Body {
    pub fn none() -> Body {
        Body::of_length(0)
    }

    pub fn of_length(length: u64) -> Body {
        Body::of(Kind::Length(length))
    }

    pub fn chunked() -> Body {
        Body::of(Kind::Chunked(Chunk::Size(Vec::new())))
    }

    pub fn until_close() -> Body {
        Body::of(Kind::UntilClose)
    }

    fn of(kind: Kind) -> Body {
        Body {
            kind,
            had_gap: false,
        }
    }

    /// Whether the end of the connection is its end.
    pub fn ends_with_connection(&self) -> bool {
        matches!(self.kind, Kind::UntilClose)
    }

    /// Whether some of it was missing.
    pub fn had_gap(&self) -> bool {
        self.had_gap
    }

    /// Reads on.
    pub fn take<'a>(&mut self, bytes: &'a [u8]) -> Eaten<'a> {
        match &mut self.kind {
            Kind::Length(0) => Eaten::Over(bytes),
            _ if bytes.is_empty() => Eaten::Wants,
            Kind::UntilClose => Eaten::Data(bytes, &[]),
            Kind::Length(left) => data(left, bytes),
            Kind::Chunked(chunk) => chunk.take(bytes),
        }
    }

    /// Steps over bytes that are missing, if it is known what they were.
    pub fn skip(&mut self, missing: u64) -> bool {
        self.had_gap = true;
        match &mut self.kind {
            Kind::UntilClose => true,
            Kind::Length(left) | Kind::Chunked(Chunk::Data(left)) if missing <= *left => {
                *left -= missing;
                true
            }
            _ => false,
        }
    }
}

fn data<'a>(left: &mut u64, bytes: &'a [u8]) -> Eaten<'a> {
    let len = bytes
        .len()
        .min(usize::try_from(*left).unwrap_or(usize::MAX));
    *left -= len as u64;
    Eaten::Data(&bytes[..len], &bytes[len..])
}

impl Chunk {
    fn take<'a>(&mut self, bytes: &'a [u8]) -> Eaten<'a> {
        let mut rest = bytes;
        loop {
            let Some((&byte, after)) = rest.split_first() else {
                return Eaten::Wants;
            };
            match self {
                Chunk::Data(0) => *self = Chunk::DataEnd,
                Chunk::Data(left) => return data(left, rest),
                Chunk::DataEnd => {
                    match byte {
                        b'\r' => {}
                        b'\n' => *self = Chunk::Size(Vec::new()),
                        _ => return Eaten::Wrong,
                    }
                    rest = after;
                }
                Chunk::Size(line) => {
                    rest = after;
                    if byte != b'\n' {
                        line.push(byte);
                        if line.len() > MAX_LINE_BYTES {
                            return Eaten::Wrong;
                        }
                        continue;
                    }
                    match size(line) {
                        Some(0) => *self = Chunk::Trailer(0),
                        Some(size) => *self = Chunk::Data(size),
                        None => return Eaten::Wrong,
                    }
                }
                Chunk::Trailer(len) => {
                    rest = after;
                    match (byte, *len) {
                        (b'\n', 0) => return Eaten::Over(rest),
                        (b'\n', _) => *len = 0,
                        (b'\r', _) => {}
                        _ => *len += 1,
                    }
                    if *len > MAX_LINE_BYTES {
                        return Eaten::Wrong;
                    }
                }
            }
        }
    }
}

/// The size that a line gives, in hexadecimal, before its extensions.
fn size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|&byte| byte == b';').next().unwrap_or_default();
    let digits = std::str::from_utf8(digits.trim_ascii()).ok()?;
    u64::from_str_radix(digits, 16).ok()
}
