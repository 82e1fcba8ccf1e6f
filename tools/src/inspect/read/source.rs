//! Where the bytes of a capture come from: a file or standard input, unpacked if
//! they are packed, and a bar that shows how far they are read.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::failure::Failure;

/// A file smaller than this is read before a bar could be looked at.
const BAR_FROM_BYTES: u64 = 32 << 20;

/// How the bytes are packed (RFC 1952, RFC 8878).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// They are not.
    None,
    /// gzip: any number of members.
    Gzip,
    /// Zstandard: any number of frames.
    Zstd,
}

impl Packing {
    fn of(start: &[u8]) -> Packing {
        match start {
            [0x1f, 0x8b, ..] => Packing::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] => Packing::Zstd,
            _ => Packing::None,
        }
    }

    /// What a person calls it.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Packing::None => None,
            Packing::Gzip => Some("gzip"),
            Packing::Zstd => Some("zstd"),
        }
    }
}

/// An opened capture.
pub(super) struct Source {
    pub bytes: Box<dyn Read>,
    pub packing: Packing,
    pub bar: ProgressBar,
}

/// Opens a file; `-` is standard input.
pub(super) fn open(path: &Path) -> Result<Source, Failure> {
    let refused = |err: io::Error| {
        Failure::refused(format!(
            "cannot read {}: {err}; give a pcap or pcapng file, or - for standard input",
            path.display()
        ))
    };
    if path == Path::new("-") {
        return of(Box::new(io::stdin()), ProgressBar::hidden()).map_err(refused);
    }
    let file = File::open(path).map_err(refused)?;
    let about = file.metadata().map_err(refused)?;
    if about.is_dir() {
        return Err(refused(io::ErrorKind::IsADirectory.into()));
    }
    of(Box::new(file), bar(about.len())).map_err(refused)
}

/// Unpacks what a reader gives, if it is packed.
pub(super) fn of(mut raw: Box<dyn Read>, bar: ProgressBar) -> io::Result<Source> {
    let mut start = Vec::new();
    (&mut raw).take(4).read_to_end(&mut start)?;
    let packing = Packing::of(&start);
    let raw = bar.wrap_read(io::Cursor::new(start).chain(raw));
    let bytes: Box<dyn Read> = match packing {
        Packing::None => Box::new(raw),
        Packing::Gzip => Box::new(MultiGzDecoder::new(io::BufReader::new(raw))),
        Packing::Zstd => Box::new(zstd::Decoder::new(raw)?),
    };
    Ok(Source {
        bytes,
        packing,
        bar,
    })
}

/// On stderr, if that is a terminal and the file is large.
fn bar(len: u64) -> ProgressBar {
    if len < BAR_FROM_BYTES || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(len), ProgressDrawTarget::stderr_with_hz(5));
    let style = "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("a template of known keys"));
    bar
}
