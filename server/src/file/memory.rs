//! Files that a program brings with it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::time::SystemTime;

use super::fs::{DirEntry, File, FileInfo, FileSystem};

/// Files in memory, by their paths: Go's `embed.FS` behind `http.FS`. Their
/// entity tags are made of their bytes; they have no `Last-Modified` unless
/// one is set.
///
/// ```
/// use wirepath::FileServer;
/// use wirepath::file::MemoryFs;
///
/// let files = MemoryFs::new()
///     .file("/index.html", "<h1>Here</h1>")
///     .file("/css/site.css", &b"body { margin: 0 }"[..]);
/// let server = FileServer::of(files);
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryFs {
    files: Arc<Files>,
    modified: Option<SystemTime>,
}

/// By their paths.
#[derive(Clone, Debug, Default)]
struct Files(BTreeMap<Vec<u8>, Arc<Held>>);

#[derive(Debug)]
struct Held {
    bytes: Cow<'static, [u8]>,
    etag: String,
}

impl MemoryFs {
    /// No files yet.
    pub fn new() -> MemoryFs {
        MemoryFs::default()
    }

    /// Adds a file at `path`, or puts it in place of the one there. The
    /// directories above it are there by that.
    ///
    /// # Panics
    ///
    /// When `path` could never be asked for: it must begin with `/`, and have
    /// no empty, `.` or `..` segment.
    #[must_use]
    pub fn file(mut self, path: &str, bytes: impl Into<Bytes>) -> MemoryFs {
        let bytes = bytes.into().0;
        let is_clean = crate::path::clean(path.as_bytes()) == path.as_bytes();
        assert!(
            is_clean && !path.ends_with('/'),
            "{path:?} is not the path of a file: give one as in \"/dir/name\""
        );
        let etag = tag_of(&bytes);
        let held = Arc::new(Held { bytes, etag });
        let files = Arc::make_mut(&mut self.files);
        files.0.insert(path.as_bytes().to_vec(), held);
        self
    }

    /// Sets the `Last-Modified` of all of them, such as the time of the build.
    #[must_use]
    pub fn modified(mut self, at: SystemTime) -> MemoryFs {
        self.modified = Some(at);
        self
    }
}

impl Files {
    /// What follows `prefix`, the path of a directory with a slash at its end,
    /// in the paths of the files below it.
    fn below(&self, prefix: &[u8]) -> impl Iterator<Item = &[u8]> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let files = self.0.range::<[u8], _>(from);
        files.map_while(move |(path, _)| path.strip_prefix(prefix))
    }
}

/// The bytes of a file: of a `&'static` slice or text as they are, of a `Vec`
/// or `String` taken over.
#[derive(Debug)]
pub struct Bytes(Cow<'static, [u8]>);

impl From<&'static [u8]> for Bytes {
    fn from(bytes: &'static [u8]) -> Bytes {
        Bytes(Cow::Borrowed(bytes))
    }
}

impl<const N: usize> From<&'static [u8; N]> for Bytes {
    fn from(bytes: &'static [u8; N]) -> Bytes {
        Bytes(Cow::Borrowed(bytes))
    }
}

impl From<&'static str> for Bytes {
    fn from(text: &'static str) -> Bytes {
        Bytes(Cow::Borrowed(text.as_bytes()))
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        Bytes(Cow::Owned(bytes))
    }
}

impl From<String> for Bytes {
    fn from(text: String) -> Bytes {
        Bytes(Cow::Owned(text.into_bytes()))
    }
}

/// A strong entity tag: other bytes have another length or, but once in 2⁶⁴,
/// another hash.
fn tag_of(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    format!("\"{:x}-{:016x}\"", bytes.len(), hasher.finish())
}

impl FileSystem for MemoryFs {
    fn open(&self, path: &[u8]) -> io::Result<Box<dyn File>> {
        self.try_open(path)
    }

    fn try_open(&self, path: &[u8]) -> io::Result<Box<dyn File>> {
        if let Some(held) = self.files.0.get(path) {
            let mut info = FileInfo::file(held.bytes.len() as u64, self.modified);
            info.etag = Some(held.etag.clone());
            let held = held.clone();
            return Ok(Box::new(MemoryFile { held, info }));
        }
        let prefix = [path.strip_suffix(b"/").unwrap_or(path), b"/"].concat();
        if path != b"/" && self.files.below(&prefix).next().is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Box::new(MemoryDir {
            files: self.files.clone(),
            prefix,
            info: FileInfo::directory(self.modified),
        }))
    }
}

struct MemoryFile {
    held: Arc<Held>,
    info: FileInfo,
}

impl File for MemoryFile {
    fn info(&self) -> io::Result<FileInfo> {
        Ok(self.info.clone())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.try_read_at(buf, offset)
    }

    fn try_read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(copy_from(&self.held.bytes, buf, offset))
    }

    fn entries(&self, _limit: usize) -> io::Result<Vec<DirEntry>> {
        Err(io::ErrorKind::NotADirectory.into())
    }

    fn bytes(&self) -> Option<&[u8]> {
        Some(&self.held.bytes)
    }
}

/// Copies what there is of `all` from `offset` on, as a read of a file does.
pub(super) fn copy_from(all: &[u8], buf: &mut [u8], offset: u64) -> usize {
    let start = usize::try_from(offset).unwrap_or(all.len()).min(all.len());
    let n = buf.len().min(all.len() - start);
    buf[..n].copy_from_slice(&all[start..start + n]);
    n
}

struct MemoryDir {
    files: Arc<Files>,
    /// Its path, with a slash at its end.
    prefix: Vec<u8>,
    info: FileInfo,
}

impl File for MemoryDir {
    fn info(&self) -> io::Result<FileInfo> {
        Ok(self.info.clone())
    }

    fn read_at(&self, _buf: &mut [u8], _offset: u64) -> io::Result<usize> {
        Err(io::ErrorKind::IsADirectory.into())
    }

    fn entries(&self, limit: usize) -> io::Result<Vec<DirEntry>> {
        let entry = |path: &[u8]| {
            let end = memchr::memchr(b'/', path);
            DirEntry {
                name: path[..end.unwrap_or(path.len())].to_vec(),
                is_dir: end.is_some(),
            }
        };
        // Files of one directory below it follow one another.
        let mut entries: Vec<_> = self.files.below(&self.prefix).map(entry).collect();
        entries.dedup();
        entries.truncate(limit);
        Ok(entries)
    }
}
