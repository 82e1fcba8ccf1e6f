//! The bodies of requests and answers as files.
//!
//! A file's name is the last part of its target, made harmless; none is ever
//! overwritten. Content codings (gzip, deflate, zstd) are undone as the bytes
//! come, and what they may grow to is bounded; another one stays, and is named.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::write::{MultiGzDecoder, ZlibDecoder};
use indicatif::HumanBytes;

use super::http::{Audience, Exchange};
use super::seen::Side;
use crate::failure::Failure;

/// A file ends here, in bytes, unless the command says otherwise.
pub const MAX_OBJECT_BYTES: u64 = 1 << 30;
/// Of a target's last part as many characters make the name.
const NAME_CHARS: usize = 80;
/// Names that are tried before one that is free.
const MAX_SAME_NAMES: u32 = 100_000;
/// Files that are open at a time: bodies that go on.
const MAX_OPEN: usize = 128;
/// The window of a Zstandard frame, as a power of two: what RFC 8878 §3.1.1.1.2
/// asks of a decoder, 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Writes bodies into a directory.
pub struct Export<'a> {
    dir: PathBuf,
    max_bytes: u64,
    open: HashMap<Key, Object>,
    /// How often a name was given.
    given: HashMap<String, u32>,
    out: &'a mut dyn Write,
    /// Files that were written.
    pub files: u64,
    /// Bodies that found no room among those that are open.
    pub left_out: u64,
    /// Why no more is written.
    pub error: Option<String>,
}

/// A body: its connection, its request's number there, and whose it is.
type Key = (u32, u32, Side);

/// A body that is being written.
struct Object {
    name: String,
    sink: Sink,
    problem: Option<String>,
}

/// Where a body's bytes go: through its coding, into its file.
enum Sink {
    Plain(Bounded),
    Gzip(MultiGzDecoder<Bounded>),
    Deflate(ZlibDecoder<Bounded>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Bounded>>),
}

/// A file that takes only so many bytes.
struct Bounded {
    file: BufWriter<File>,
    written: u64,
    max: u64,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written + bytes.len() as u64 > self.max {
            return Err(io::Error::other(format!(
                "more than {} (--max-object)",
                HumanBytes(self.max)
            )));
        }
        let count = self.file.write(bytes)?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Sink {
    fn new(coding: Option<&str>, file: Bounded) -> io::Result<Sink> {
        let coding = coding.map(|coding| coding.trim().to_ascii_lowercase());
        Ok(match coding.as_deref() {
            Some("gzip" | "x-gzip") => Sink::Gzip(MultiGzDecoder::new(file)),
            Some("deflate") => Sink::Deflate(ZlibDecoder::new(file)),
            Some("zstd") => {
                let mut decoder = zstd::stream::write::Decoder::new(file)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Sink::Zstd(Box::new(decoder))
            }
            _ => Sink::Plain(file),
        })
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Sink::Plain(sink) => sink,
            Sink::Gzip(sink) => sink,
            Sink::Deflate(sink) => sink,
            Sink::Zstd(sink) => sink,
        }
    }

    /// Writes the rest. How many bytes the file has.
    fn finish(mut self) -> (u64, io::Result<()>) {
        let flushed = self.writer().flush();
        let (written, ended) = match self {
            Sink::Plain(sink) => (sink.written, Ok(())),
            Sink::Gzip(mut sink) => {
                let ended = sink.try_finish();
                (sink.get_ref().written, ended)
            }
            Sink::Deflate(mut sink) => {
                let ended = sink.try_finish();
                (sink.get_ref().written, ended)
            }
            Sink::Zstd(sink) => (sink.get_ref().written, Ok(())),
        };
        (written, flushed.and(ended))
    }
}

impl<'a> Export<'a> {
    /// Writes into `dir`, which is made if need be; a line for each file to `out`.
    ///
    /// # Errors
    ///
    /// The directory cannot be made.
    pub fn new(dir: &Path, max_bytes: u64, out: &'a mut dyn Write) -> Result<Export<'a>, Failure> {
        fs::create_dir_all(dir).map_err(|err| {
            Failure::refused(format!(
                "cannot make {}: {err}; give another directory",
                dir.display()
            ))
        })?;
        Ok(Export {
            dir: dir.to_path_buf(),
            max_bytes,
            open: HashMap::new(),
            given: HashMap::new(),
            out,
            files: 0,
            left_out: 0,
            error: None,
        })
    }

    fn object(&mut self, exchange: &Exchange, from: Side) -> Result<Object, String> {
        let (name, file) = self.create(&name_of(exchange, from))?;
        let bounded = Bounded {
            file: BufWriter::new(file),
            written: 0,
            max: self.max_bytes,
        };
        let coding = match from {
            Side::Server => exchange.content_encoding.as_deref(),
            Side::Client => None,
        };
        let sink = Sink::new(coding, bounded).map_err(|err| err.to_string())?;
        Ok(Object {
            name,
            sink,
            problem: None,
        })
    }

    /// Makes a file of that name, or of the name with a number.
    fn create(&mut self, wanted: &str) -> Result<(String, File), String> {
        let number = self.given.entry(wanted.to_string()).or_insert(0);
        while *number < MAX_SAME_NAMES {
            *number += 1;
            let name = numbered(wanted, *number);
            let path = self.dir.join(&name);
            match File::create_new(&path) {
                Ok(file) => return Ok((name, file)),
                Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
                Err(err) => return Err(format!("cannot make {}: {err}", path.display())),
            }
        }
        Err(format!(
            "{MAX_SAME_NAMES} files are called {wanted} already"
        ))
    }
}

/// `page.html`, `page-2.html`, …
fn numbered(name: &str, number: u32) -> String {
    match (number, name.rsplit_once('.')) {
        (1, _) => name.to_string(),
        (_, Some((stem, extension))) if !stem.is_empty() => format!("{stem}-{number}.{extension}"),
        _ => format!("{name}-{number}"),
    }
}

/// The last part of a target, with letters, digits and `.-_` only, not hidden.
fn name_of(exchange: &Exchange, from: Side) -> String {
    let target = exchange.target.as_deref().unwrap_or("unknown");
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let last = path.rsplit(['/', '\\']).next().unwrap_or_default();
    let safe = |letter: char| {
        if letter.is_ascii_alphanumeric() || "-_.".contains(letter) {
            letter
        } else {
            '_'
        }
    };
    let name: String = last.chars().take(NAME_CHARS).map(safe).collect();
    let name = match name.trim_start_matches('.') {
        "" => "index",
        name => name,
    };
    match from {
        Side::Client => format!("{name}.request"),
        Side::Server => name.to_string(),
    }
}

impl Audience for Export<'_> {
    fn is_over(&self) -> bool {
        self.error.is_some()
    }

    fn body(&mut self, exchange: &Exchange, from: Side, bytes: &[u8]) {
        let key = (exchange.stream, exchange.number, from);
        if self.error.is_some() {
            return;
        }
        if !self.open.contains_key(&key) {
            let is_first = match from {
                Side::Client => exchange.request_body_bytes == bytes.len() as u64,
                Side::Server => exchange.response_body_bytes == bytes.len() as u64,
            };
            if !is_first || self.open.len() == MAX_OPEN {
                self.left_out += u64::from(is_first);
                return;
            }
            match self.object(exchange, from) {
                Ok(object) => self.open.insert(key, object),
                Err(why) => return self.error = Some(why),
            };
        }
        let object = self.open.get_mut(&key).expect("it is there now");
        if object.problem.is_none()
            && let Err(err) = object.sink.writer().write_all(bytes)
        {
            object.problem = Some(err.to_string());
        }
    }

    fn body_ends(&mut self, exchange: &Exchange, from: Side, is_whole: bool) {
        let Some(object) = self.open.remove(&(exchange.stream, exchange.number, from)) else {
            return;
        };
        let is_plain = matches!(object.sink, Sink::Plain(_));
        let (written, ended) = object.sink.finish();
        let mut words = object
            .problem
            .map_or(String::new(), |why| format!(", cut: {why}"));
        if let Err(err) = ended
            && words.is_empty()
        {
            words = format!(", cut: {err}");
        }
        let coding = exchange.content_encoding.as_deref().unwrap_or_default();
        if from == Side::Server && is_plain && !matches!(coding.trim(), "" | "identity") {
            words += &format!(", still encoded as {}", coding.escape_debug());
        }
        if !is_whole {
            words += ", not whole in the capture";
        }
        self.files += 1;
        let kind = exchange
            .content_type
            .as_deref()
            .filter(|_| from == Side::Server)
            .unwrap_or("-");
        let line = writeln!(
            self.out,
            "{}  {}  {}  stream {}, request {}{words}",
            object.name,
            HumanBytes(written),
            kind.escape_debug(),
            exchange.stream,
            exchange.number,
        );
        if let Err(err) = line {
            self.error = Some(format!("cannot print: {err}"));
        }
    }

    fn exchange(&mut self, exchange: &Exchange) {
        for from in [Side::Client, Side::Server] {
            self.body_ends(exchange, from, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_harmless() {
        for (target, name) in [
            ("/", "index"),
            ("/a/b.css?v=../..", "b.css"),
            ("/../../etc/passwd", "passwd"),
            ("/x/..", "index"),
            ("/.bashrc", "bashrc"),
            ("/a%00\u{1b}[2J", "a_00_2J"),
            ("\\\\host\\share", "share"),
        ] {
            let exchange = Exchange {
                target: Some(target.replace('[', "")),
                ..Exchange::default()
            };
            assert_eq!(name_of(&exchange, Side::Server), name, "{target}");
        }
        assert_eq!(numbered("a.tar.gz", 2), "a.tar-2.gz");
        assert_eq!(
            (numbered("index", 3), numbered("index", 1)),
            ("index-3".into(), "index".into())
        );
    }
}
