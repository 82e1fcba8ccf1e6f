//! The encoders, and a pool of them.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use brotli::CompressorWriter;
use flate2::{Compress, Compression, Crc, FlushCompress};
use zstd::stream::raw::{Encoder as Zstd, InBuffer, Operation, OutBuffer};

use super::Coding;

/// Encoders of a kind that are kept for the next response: about 300 KiB each
/// with gzip, more with zstd at high levels.
const POOL_LIMIT: usize = 64;
/// Room that is made for output at a time, in bytes.
const ROOM_BYTES: usize = 8 * 1024;
/// Brotli's window, as a power of two: 256 KiB, so that an encoder takes a few
/// MiB less than with the window that it could have.
const BROTLI_WINDOW: u32 = 18;
const BROTLI_BUFFER_BYTES: usize = 4096;

/// RFC 1952 §2.3: deflate, no flags, no time, of an unknown system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// What turns a body into its coded form.
pub(super) enum Encoder {
    Gzip(Gzip),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(Zstd<'static>),
}

/// gzip around deflate.
pub(super) struct Gzip {
    deflate: Compress,
    crc: Crc,
    is_begun: bool,
}

impl Gzip {
    fn new(level: u32) -> Gzip {
        Gzip {
            deflate: Compress::new(Compression::new(level), false),
            crc: Crc::new(),
            is_begun: false,
        }
    }

    fn reset(&mut self) {
        self.deflate.reset();
        self.crc.reset();
        self.is_begun = false;
    }

    fn run(&mut self, mut data: &[u8], how: FlushCompress, out: &mut Vec<u8>) -> io::Result<()> {
        if !std::mem::replace(&mut self.is_begun, true) {
            out.extend_from_slice(&GZIP_HEADER);
        }
        self.crc.update(data);
        loop {
            out.reserve(ROOM_BYTES);
            let before = self.deflate.total_in();
            let status = self.deflate.compress_vec(data, out, how);
            let status = status.map_err(io::Error::other)?;
            let taken = (self.deflate.total_in() - before) as usize;
            data = &data[taken..];
            let is_full = out.len() == out.capacity();
            let is_over = match how {
                FlushCompress::Finish => status == flate2::Status::StreamEnd,
                _ => data.is_empty() && !is_full,
            };
            if is_over {
                return Ok(());
            }
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        self.run(&[], FlushCompress::Finish, out)?;
        out.extend_from_slice(&self.crc.sum().to_le_bytes());
        out.extend_from_slice(&self.crc.amount().to_le_bytes());
        Ok(())
    }
}

/// Calls `f` with room in `out` until nothing is left to come.
fn drain(
    out: &mut Vec<u8>,
    mut f: impl FnMut(&mut OutBuffer<'_, Vec<u8>>) -> io::Result<bool>,
) -> io::Result<()> {
    loop {
        out.reserve(ROOM_BYTES);
        let at = out.len();
        if f(&mut OutBuffer::around_pos(out, at))? {
            return Ok(());
        }
    }
}

fn take_from(writer: &mut CompressorWriter<Vec<u8>>, out: &mut Vec<u8>) {
    out.append(writer.get_mut());
}

impl Encoder {
    fn new(coding: Coding, level: u32) -> io::Result<Encoder> {
        Ok(match coding {
            Coding::Gzip => Encoder::Gzip(Gzip::new(level)),
            Coding::Brotli => Encoder::Brotli(Box::new(CompressorWriter::new(
                Vec::new(),
                BROTLI_BUFFER_BYTES,
                level,
                BROTLI_WINDOW,
            ))),
            Coding::Zstd => Encoder::Zstd(Zstd::new(level.cast_signed())?),
        })
    }

    pub fn write(&mut self, data: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Encoder::Gzip(gzip) => gzip.run(data, FlushCompress::None, out),
            Encoder::Brotli(writer) => {
                writer.write_all(data)?;
                take_from(writer, out);
                Ok(())
            }
            Encoder::Zstd(zstd) => {
                let mut input = InBuffer::around(data);
                drain(out, |room| {
                    zstd.run(&mut input, room)?;
                    Ok(input.pos() == data.len())
                })
            }
        }
    }

    pub fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Encoder::Gzip(gzip) => gzip.run(&[], FlushCompress::Sync, out),
            Encoder::Brotli(writer) => {
                writer.flush()?;
                take_from(writer, out);
                Ok(())
            }
            Encoder::Zstd(zstd) => drain(out, |room| Ok(zstd.flush(room)? == 0)),
        }
    }

    /// Ends the coded form.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Encoder::Gzip(gzip) => gzip.finish(out),
            Encoder::Brotli(writer) => {
                let empty = CompressorWriter::new(Vec::new(), 1, 0, 10);
                let ended = std::mem::replace(&mut **writer, empty).into_inner();
                out.extend_from_slice(&ended);
                Ok(())
            }
            Encoder::Zstd(zstd) => drain(out, |room| Ok(zstd.finish(room, true)? == 0)),
        }
    }
}

/// Encoders of one server, by kind. Those of brotli cannot be used again.
#[derive(Default)]
pub(super) struct Pool {
    gzip: Mutex<Vec<Gzip>>,
    zstd: Mutex<Vec<Zstd<'static>>>,
}

fn pop<T>(pool: &Mutex<Vec<T>>) -> Option<T> {
    pool.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

fn push<T>(pool: &Mutex<Vec<T>>, encoder: T) {
    let mut pool = pool.lock().unwrap_or_else(PoisonError::into_inner);
    if pool.len() < POOL_LIMIT {
        pool.push(encoder);
    }
}

impl Pool {
    pub fn take(&self, coding: Coding, level: u32) -> io::Result<Encoder> {
        let pooled = match coding {
            Coding::Gzip => pop(&self.gzip).map(Encoder::Gzip),
            Coding::Zstd => pop(&self.zstd).map(Encoder::Zstd),
            Coding::Brotli => None,
        };
        pooled.map_or_else(|| Encoder::new(coding, level), Ok)
    }

    /// Keeps an encoder, wherever it stopped.
    pub fn put(&self, encoder: Encoder) {
        match encoder {
            Encoder::Gzip(mut gzip) => {
                gzip.reset();
                push(&self.gzip, gzip);
            }
            Encoder::Zstd(mut zstd) => {
                if zstd.reinit().is_ok() {
                    push(&self.zstd, zstd);
                }
            }
            Encoder::Brotli(_) => {}
        }
    }
}
