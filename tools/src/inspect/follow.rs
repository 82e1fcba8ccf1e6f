//! One connection's two streams, as text, in hexadecimal, or as they are.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::seen::Side;
use super::stream::{How, Listener, Place};
use crate::failure::Failure;

/// Bytes of a line in hexadecimal.
const ROW_BYTES: usize = 16;

/// How bytes are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// As text; what would move a terminal is escaped.
    Text,
    /// Sixteen bytes a line, with their offsets.
    Hex,
    /// As they are, one side only (`--side`).
    Raw,
}

/// Prints a stream.
pub struct Follow<'a> {
    stream: u32,
    form: Form,
    side: Option<Side>,
    is_coloured: bool,
    out: &'a mut dyn Write,
    last: Option<Side>,
    at_line_start: bool,
    ended: [bool; 2],
    /// Whether anything was heard of it.
    pub was_seen: bool,
    /// The first error of `out`, after which nothing is written.
    pub error: Option<io::Error>,
}

impl<'a> Follow<'a> {
    /// Prints `stream`, of one side if `side` says which.
    pub fn new(
        stream: u32,
        form: Form,
        side: Option<Side>,
        is_coloured: bool,
        out: &'a mut dyn Write,
    ) -> Follow<'a> {
        Follow {
            stream,
            form,
            side,
            is_coloured,
            out,
            last: None,
            at_line_start: true,
            ended: [false; 2],
            was_seen: false,
            error: None,
        }
    }

    fn wants(&mut self, stream: u32, from: Side) -> bool {
        self.was_seen |= stream == self.stream;
        stream == self.stream && self.side.is_none_or(|side| side == from) && self.error.is_none()
    }

    fn attempt(&mut self, write: impl FnOnce(&mut Self) -> io::Result<()>) {
        if let Err(err) = write(self) {
            self.error = Some(err);
        }
    }

    /// A line of our own, between the stream's.
    fn note(&mut self, from: Side, words: &str) -> io::Result<()> {
        if !self.at_line_start {
            self.out.write_all(b"\n")?;
        }
        self.at_line_start = true;
        let arrow = arrow(from);
        match self.is_coloured {
            true => writeln!(self.out, "\x1b[2m{arrow} {words}\x1b[0m"),
            false => writeln!(self.out, "{arrow} {words}"),
        }
    }

    fn show(&mut self, place: Place, bytes: &[u8]) -> io::Result<()> {
        if self.form == Form::Raw {
            return self.out.write_all(bytes);
        }
        if self.last != Some(place.from) {
            self.last = Some(place.from);
            self.note(
                place.from,
                &format!("packet {}, from byte {} on", place.packet, place.offset),
            )?;
        }
        if self.is_coloured {
            let colour = if place.from == Side::Client { 36 } else { 33 };
            write!(self.out, "\x1b[{colour}m")?;
        }
        match self.form {
            Form::Hex => hex(place.offset, bytes, self.out)?,
            _ => self.text(bytes)?,
        }
        if self.is_coloured {
            self.out.write_all(b"\x1b[0m")?;
        }
        Ok(())
    }

    /// Text as it is, but for what would move a terminal.
    fn text(&mut self, bytes: &[u8]) -> io::Result<()> {
        for chunk in bytes.utf8_chunks() {
            for letter in chunk.valid().chars() {
                match letter {
                    '\n' | '\t' => write!(self.out, "{letter}")?,
                    '\r' => {}
                    _ if letter.is_control() || turns_text(letter) => {
                        write!(self.out, "{}", letter.escape_default())?;
                    }
                    _ => write!(self.out, "{letter}")?,
                }
            }
            for byte in chunk.invalid() {
                write!(self.out, "\\x{byte:02x}")?;
            }
        }
        self.at_line_start = bytes.last() == Some(&b'\n');
        Ok(())
    }
}

/// Whether it changes the direction of what follows (Unicode's UAX #9 §2), which
/// shows text that is not there.
fn turns_text(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn arrow(from: Side) -> &'static str {
    match from {
        Side::Client => "→ client,",
        Side::Server => "← server,",
    }
}

fn hex(offset: u64, bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
    for (row, bytes) in bytes.chunks(ROW_BYTES).enumerate() {
        write!(out, "{:08x} ", offset + (row * ROW_BYTES) as u64)?;
        for place in 0..ROW_BYTES {
            let middle = if place == ROW_BYTES / 2 { " " } else { "" };
            match bytes.get(place) {
                Some(byte) => write!(out, "{middle} {byte:02x}")?,
                None => write!(out, "{middle}   ")?,
            }
        }
        let text: String = bytes
            .iter()
            .map(|&byte| {
                if byte.is_ascii_graphic() || byte == b' ' {
                    byte as char
                } else {
                    '.'
                }
            })
            .collect();
        writeln!(out, "  {text}")?;
    }
    Ok(())
}

impl Listener for Follow<'_> {
    fn data(&mut self, place: Place, bytes: &[u8]) {
        if self.wants(place.stream, place.from) {
            self.attempt(|follow| follow.show(place, bytes));
        }
    }

    fn gap(&mut self, place: Place, missing: u64) {
        if self.wants(place.stream, place.from) && self.form != Form::Raw {
            self.attempt(|follow| {
                follow.note(
                    place.from,
                    &format!("{missing} bytes are not in the capture"),
                )
            });
        }
    }

    fn end(&mut self, stream: u32, from: Side, _at_ns: i64, how: How) {
        if self.wants(stream, from) && self.form != Form::Raw {
            let words = match how {
                How::Fin => "ends",
                How::Reset => "is reset",
                How::Unseen => "goes on behind the capture",
            };
            self.attempt(|follow| follow.note(from, words));
        }
        self.ended[from.index()] |= stream == self.stream;
    }

    fn is_over(&self) -> bool {
        self.error.is_some() || self.ended == [true; 2]
    }
}

/// Writes a stream into two files of a directory.
pub struct Files {
    stream: u32,
    files: [File; 2],
    names: [String; 2],
    paths: [PathBuf; 2],
    ended: [bool; 2],
    /// Bytes that each side sent, and bytes that are missing.
    pub written: [(u64, u64); 2],
    /// Whether anything was heard of it.
    pub was_seen: bool,
    /// The first error, after which nothing is written.
    pub error: Option<io::Error>,
}

impl Files {
    /// Makes `stream-N.client` and `stream-N.server`, which must not be there.
    ///
    /// # Errors
    ///
    /// A file cannot be made.
    pub fn create(stream: u32, dir: &Path) -> Result<Files, Failure> {
        let refused = |path: &Path, err: io::Error| {
            Failure::refused(format!(
                "cannot make {}: {err}; give another directory",
                path.display()
            ))
        };
        std::fs::create_dir_all(dir).map_err(|err| refused(dir, err))?;
        let names = ["client", "server"].map(|side| format!("stream-{stream}.{side}"));
        let paths = [0, 1].map(|index: usize| dir.join(&names[index]));
        let make = |path: &PathBuf| File::create_new(path).map_err(|err| refused(path, err));
        Ok(Files {
            stream,
            files: [make(&paths[0])?, make(&paths[1])?],
            names,
            paths,
            ended: [false; 2],
            written: [(0, 0); 2],
            was_seen: false,
            error: None,
        })
    }

    /// The files' names, the client's first.
    pub fn names(&self) -> &[String; 2] {
        &self.names
    }

    /// Takes both files away again.
    ///
    /// # Errors
    ///
    /// They cannot be removed.
    pub fn discard(self) -> io::Result<()> {
        self.paths.iter().try_for_each(std::fs::remove_file)
    }
}

impl Listener for Files {
    fn data(&mut self, place: Place, bytes: &[u8]) {
        if place.stream != self.stream || self.error.is_some() {
            return;
        }
        self.was_seen = true;
        let index = place.from.index();
        self.written[index].0 += bytes.len() as u64;
        if let Err(err) = self.files[index].write_all(bytes) {
            self.error = Some(err);
        }
    }

    fn gap(&mut self, place: Place, missing: u64) {
        if place.stream == self.stream {
            self.was_seen = true;
            self.written[place.from.index()].1 += missing;
        }
    }

    fn end(&mut self, stream: u32, from: Side, _at_ns: i64, _how: How) {
        self.was_seen |= stream == self.stream;
        self.ended[from.index()] |= stream == self.stream;
    }

    fn is_over(&self) -> bool {
        self.error.is_some() || self.ended == [true; 2]
    }
}
