//! A capture that comes as a stream, put into files.
//!
//! Blocks are copied as they are. Each file but the first begins with the
//! section header, the interfaces and the secrets that came so far, so that it
//! is whole by itself; only the last one has the statistics.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use wirepath_driver::capture::Files;

/// Types of blocks (draft-ietf-opsawg-pcapng §4).
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const SECRETS: u32 = 10;
const PACKET: u32 = 6;

/// Bytes of a block at most: the longest that a server makes has all of a
/// capture's secrets in it, 1 MiB.
const MOST_BLOCK: usize = 4 << 20;

/// Bytes of what each file begins with, at most.
const MOST_PREAMBLE: usize = 8 << 20;

/// When the next file begins.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// After so many bytes.
    pub bytes: Option<u64>,
    /// After so long.
    pub age: Option<Duration>,
}

/// Why copying ended before the stream did.
#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    /// The server's side.
    #[error("reading what the server captures: {0}")]
    Read(io::Error),
    /// The file's side.
    #[error("{0}")]
    Write(io::Error),
}

/// Copies blocks from `stream` to its end, and says how many frames there
/// were.
pub fn copy(
    stream: &mut impl Read,
    files: &mut dyn Files,
    limits: Limits,
) -> Result<u64, SplitError> {
    let mut out = Splitter::new(files, limits).map_err(SplitError::Write)?;
    while let Some(block) = block(stream).map_err(SplitError::Read)? {
        out.put(&block).map_err(SplitError::Write)?;
    }
    Ok(out.all_frames)
}

/// The next block, whole; None at the end of the stream.
fn block(stream: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; 8];
    if let Err(e) = stream.read_exact(&mut head) {
        return match e.kind() {
            io::ErrorKind::UnexpectedEof => Ok(None),
            _ => Err(e),
        };
    }
    let len = u32::from_ne_bytes([head[4], head[5], head[6], head[7]]) as usize;
    if !(12..=MOST_BLOCK).contains(&len) || !len.is_multiple_of(4) {
        return Err(io::Error::other(format!("a block of {len} bytes is none")));
    }
    let mut block = vec![0; len];
    block[..8].copy_from_slice(&head);
    stream.read_exact(&mut block[8..])?;
    Ok(Some(block))
}

struct Splitter<'a> {
    files: &'a mut dyn Files,
    limits: Limits,
    current: Box<dyn Write + Send>,
    began: Instant,
    bytes: u64,
    frames: u64,
    all_frames: u64,
    preamble: Vec<u8>,
}

impl<'a> Splitter<'a> {
    fn new(files: &'a mut dyn Files, limits: Limits) -> io::Result<Splitter<'a>> {
        Ok(Splitter {
            current: files.next()?,
            files,
            limits,
            began: Instant::now(),
            bytes: 0,
            frames: 0,
            all_frames: 0,
            preamble: Vec::new(),
        })
    }

    fn put(&mut self, block: &[u8]) -> io::Result<()> {
        let kind = u32::from_ne_bytes([block[0], block[1], block[2], block[3]]);
        if kind == PACKET && self.is_full() {
            self.begin()?;
        }
        let is_preamble = matches!(kind, SECTION | INTERFACE | SECRETS);
        if is_preamble && self.preamble.len() + block.len() <= MOST_PREAMBLE {
            self.preamble.extend_from_slice(block);
        }
        if kind == PACKET {
            self.frames += 1;
            self.all_frames += 1;
        }
        self.bytes += block.len() as u64;
        self.current.write_all(block)
    }

    fn is_full(&self) -> bool {
        let Limits { bytes, age } = self.limits;
        let is_long = bytes.is_some_and(|limit| self.bytes >= limit);
        let is_old = age.is_some_and(|limit| self.began.elapsed() >= limit);
        self.frames > 0 && (is_long || is_old)
    }

    fn begin(&mut self) -> io::Result<()> {
        self.current.flush()?;
        self.current = self.files.next()?;
        self.current.write_all(&self.preamble)?;
        self.began = Instant::now();
        self.bytes = self.preamble.len() as u64;
        self.frames = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Shelf(Arc<Mutex<Vec<Vec<u8>>>>);

    struct Book(Shelf, usize);

    impl Files for Shelf {
        fn next(&mut self) -> io::Result<Box<dyn Write + Send>> {
            let mut all = self.0.lock().unwrap();
            all.push(Vec::new());
            Ok(Box::new(Book(self.clone(), all.len() - 1)))
        }
    }

    impl Write for Book {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.0.lock().unwrap()[self.1].extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn a_block(kind: u32, len: u32) -> Vec<u8> {
        let mut block = vec![kind as u8; len as usize];
        block[..4].copy_from_slice(&kind.to_ne_bytes());
        block[4..8].copy_from_slice(&len.to_ne_bytes());
        block
    }

    #[test]
    fn each_file_begins_with_what_makes_it_whole() {
        let (head, interface) = (a_block(SECTION, 28), a_block(INTERFACE, 20));
        let mut stream = [&head[..], &interface].concat();
        for _ in 0..5 {
            stream.extend(a_block(PACKET, 100));
        }
        let statistics = a_block(5, 24);
        stream.extend(&statistics);
        let mut shelf = Shelf::default();
        let limits = Limits {
            bytes: Some(200),
            age: None,
        };
        assert_eq!(copy(&mut &stream[..], &mut shelf, limits).unwrap(), 5);
        let files = shelf.0.lock().unwrap();
        let packet = a_block(PACKET, 100);
        let two = [&head[..], &interface, &packet, &packet].concat();
        let one = [&head[..], &interface, &packet, &statistics].concat();
        assert_eq!(*files, [two.clone(), two, one]);
    }

    #[test]
    fn what_is_no_block_ends_it() {
        for bad in [
            &[6, 0, 0, 0, 11, 0, 0, 0][..],
            &[6, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f],
            &[6, 0, 0, 0, 16, 0, 0, 0, 1],
        ] {
            let copied = copy(&mut &bad[..], &mut Shelf::default(), Limits::default());
            assert!(matches!(copied, Err(SplitError::Read(_))), "{bad:?}");
        }
    }
}
