//! What a file server serves from: Go's `http.FileSystem` and `http.File`.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::SystemTime;

/// A collection of files, found by paths.
///
/// [`Dir`](super::Dir) is a directory of this machine,
/// [`MemoryFs`](super::MemoryFs) holds what a program brings with it.
pub trait FileSystem: Send + Sync + 'static {
    /// Opens the file or directory at `path`, and may wait for it: it is called
    /// off the scheduler.
    ///
    /// `path` is decoded and clean: it begins with `/`, ends with one only if
    /// it is `/`, and has no empty, `.` or `..` segment.
    ///
    /// # Errors
    ///
    /// `NotFound` becomes 404, `PermissionDenied` 403, anything else 500.
    fn open(&self, path: &[u8]) -> io::Result<Box<dyn File>>;

    /// Opens `path` if that needs no wait, not for a disk either.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if it needs one, then [`open`](FileSystem::open) is called;
    /// else as there.
    fn try_open(&self, _path: &[u8]) -> io::Result<Box<dyn File>> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// An open file or directory.
pub trait File {
    /// What is known of it. Does not wait if the file came from
    /// [`FileSystem::try_open`].
    ///
    /// # Errors
    ///
    /// As those of [`FileSystem::open`].
    fn info(&self) -> io::Result<FileInfo>;

    /// Reads some bytes from `offset` on, and may wait for them: it is called
    /// off the scheduler. 0 is the end.
    ///
    /// # Errors
    ///
    /// Any error ends the response, whose connection is closed.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Reads some bytes from `offset` on if they are in memory.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if they are not, `Unsupported` if that cannot be told: then
    /// [`read_at`](File::read_at) is called; else as there.
    fn try_read_at(&self, _buf: &mut [u8], _offset: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// At most `limit` names in this directory, in any order, without `.` and
    /// `..`. It is called off the scheduler.
    ///
    /// # Errors
    ///
    /// Any error becomes 500.
    fn entries(&self, limit: usize) -> io::Result<Vec<DirEntry>>;

    /// All of the file, if it is in the program's memory: it is sent from
    /// there.
    fn bytes(&self) -> Option<&[u8]> {
        None
    }

    /// The descriptor, if it is a regular file of this machine: over a kernel
    /// socket its pages are sent without a copy.
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// What is known of an open file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileInfo {
    /// Whether it is a directory; what is neither that nor a regular file must
    /// not be opened.
    pub is_dir: bool,
    /// Bytes in the file.
    pub len: u64,
    /// When it was changed, if that is known: the validator of `Last-Modified`.
    pub modified: Option<SystemTime>,
    /// A strong or weak entity tag with its quotes (RFC 9110 §8.8.3), if the
    /// collection has one.
    pub etag: Option<String>,
}

impl FileInfo {
    /// Of a regular file.
    pub fn file(len: u64, modified: Option<SystemTime>) -> FileInfo {
        FileInfo {
            len,
            modified,
            ..FileInfo::default()
        }
    }

    /// Of a directory.
    pub fn directory(modified: Option<SystemTime>) -> FileInfo {
        FileInfo {
            is_dir: true,
            modified,
            ..FileInfo::default()
        }
    }
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The name: no slash in it.
    pub name: Vec<u8>,
    /// Whether it is a directory itself, and no link to one.
    pub is_dir: bool,
}
