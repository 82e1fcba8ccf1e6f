//! A directory of this machine as a [`FileSystem`].
//!
//! Every file is opened with openat2(2) from a descriptor of the root. With
//! `RESOLVE_BENEATH` the kernel itself refuses what leaves it: by `..` in any
//! encoding, by an absolute path, or by a symbolic link, also one that is put
//! there while the server looks. Comparing canonical paths in this process
//! instead would lose that race.
//!
//! `RESOLVE_CACHED` opens what the kernel has in memory without waiting for a
//! disk, and `RWF_NOWAIT` reads it (openat2(2), preadv2(2)). Both say `EAGAIN`
//! where there is a wait; where the file system cannot tell, as overlayfs, the
//! latter says `EOPNOTSUPP`.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat2, statat};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::fs::{DirEntry, File, FileInfo, FileSystem};

/// How a file is opened. A pipe without a writer must not make the open wait,
/// nor a terminal become the process's.
const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

/// `TMPFS_MAGIC` and `RAMFS_MAGIC` of linux/magic.h.
const TMPFS: i64 = 0x0102_1994;
const RAMFS: i64 = 0x8584_58f6;

/// Tries after the first, where something was renamed while a link with `..`
/// was followed below the root, and the kernel says `EAGAIN` (openat2(2)).
const RENAME_RETRIES: usize = 16;

/// What symbolic links below a [`Dir`] may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Links {
    /// They are followed as long as they stay below the root; what leads out of
    /// it is not found.
    #[default]
    Within,
    /// They are followed wherever they lead, as Go does. Whoever can make a
    /// link below the root can then have any file of the machine served that
    /// the process may read.
    Anywhere,
    /// What is behind a link is not found.
    Refused,
}

/// A directory of this machine: regular files and directories below it. Pipes,
/// sockets and devices are not found.
#[derive(Debug)]
pub struct Dir {
    root: OwnedFd,
    links: Links,
}

impl Dir {
    /// The directory at `root`, whatever is renamed later.
    ///
    /// # Errors
    ///
    /// When `root` is not a directory that can be opened, or when the kernel
    /// has no openat2 (before Linux 5.6).
    pub fn open(root: impl AsRef<Path>) -> io::Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = Dir {
            root: rustix::fs::open(root.as_ref(), flags, Mode::empty())?,
            links: Links::Within,
        };
        dir.open_with(b"/", ResolveFlags::empty())?;
        Ok(dir)
    }

    /// Sets what symbolic links may do.
    #[must_use]
    pub fn links(self, links: Links) -> Dir {
        Dir { links, ..self }
    }

    fn open_with(&self, path: &[u8], more: ResolveFlags) -> io::Result<Box<dyn File>> {
        let relative = match path.strip_prefix(b"/") {
            Some(b"") | None => b".",
            Some(relative) => relative,
        };
        let rule = match self.links {
            Links::Within => ResolveFlags::BENEATH,
            Links::Anywhere => ResolveFlags::empty(),
            Links::Refused => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        };
        let resolve = rule | ResolveFlags::NO_MAGICLINKS | more;
        let opened = openat2(&self.root, relative, FLAGS, Mode::empty(), resolve);
        opened
            .map_err(|e| named(e, self.links))
            .and_then(DiskFile::boxed)
    }
}

impl FileSystem for Dir {
    fn open(&self, path: &[u8]) -> io::Result<Box<dyn File>> {
        let mut opened = self.open_with(path, ResolveFlags::empty());
        for _ in 0..RENAME_RETRIES {
            match opened {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    opened = self.open_with(path, ResolveFlags::empty());
                }
                opened => return opened,
            }
        }
        opened
    }

    fn try_open(&self, path: &[u8]) -> io::Result<Box<dyn File>> {
        match self.open_with(path, ResolveFlags::CACHED) {
            // A kernel before 5.12 does not know it.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            opened => opened,
        }
    }
}

/// What is at and below a trusted path: `serve_file` serves from it. Nothing
/// keeps it there.
pub(super) struct Trusted(pub PathBuf);

impl FileSystem for Trusted {
    fn open(&self, path: &[u8]) -> io::Result<Box<dyn File>> {
        let relative = path.strip_prefix(b"/").unwrap_or(path);
        let path = self.0.join(OsStr::from_bytes(relative));
        let opened = rustix::fs::open(&path, FLAGS, Mode::empty());
        opened
            .map_err(|e| named(e, Links::Anywhere))
            .and_then(DiskFile::boxed)
    }
}

/// What leaves the root, or is no file, is not there.
fn named(e: Errno, links: Links) -> io::Error {
    match e {
        Errno::XDEV | Errno::NOTDIR => io::ErrorKind::NotFound.into(),
        Errno::LOOP if links == Links::Refused => io::ErrorKind::NotFound.into(),
        // Sockets cannot be opened, nor devices without a driver.
        Errno::NXIO | Errno::NODEV => io::ErrorKind::NotFound.into(),
        e => e.into(),
    }
}

/// A regular file or a directory.
struct DiskFile {
    file: fs::File,
    info: FileInfo,
}

impl DiskFile {
    fn boxed(fd: OwnedFd) -> io::Result<Box<dyn File>> {
        let file = fs::File::from(fd);
        let metadata = file.metadata()?;
        let modified = metadata.modified().ok();
        let info = match (metadata.is_file(), metadata.is_dir()) {
            (true, _) => FileInfo::file(metadata.len(), modified),
            (_, true) => FileInfo::directory(modified),
            _ => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Box::new(DiskFile { file, info }))
    }

    /// Whether it is of a file system without a disk, which does not know
    /// `RWF_NOWAIT` either.
    fn is_in_memory(&self) -> bool {
        let fs = rustix::fs::fstatfs(&self.file);
        fs.is_ok_and(|fs| [TMPFS, RAMFS].contains(&fs.f_type))
    }

    fn entry(&self, entry: &rustix::fs::DirEntry) -> DirEntry {
        let name = entry.file_name();
        let kind = match entry.file_type() {
            // Not every file system tells it with the name.
            FileType::Unknown => statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_or(FileType::Unknown, |stat| {
                    FileType::from_raw_mode(stat.st_mode)
                }),
            kind => kind,
        };
        DirEntry {
            name: name.to_bytes().to_vec(),
            is_dir: kind == FileType::Directory,
        }
    }
}

impl File for DiskFile {
    fn info(&self) -> io::Result<FileInfo> {
        Ok(self.info.clone())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn try_read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let bufs = &mut [IoSliceMut::new(buf)];
        match preadv2(&self.file, bufs, offset, ReadWriteFlags::NOWAIT) {
            Err(Errno::OPNOTSUPP) if self.is_in_memory() => self.read_at(buf, offset),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Err(io::ErrorKind::Unsupported.into()),
            read => Ok(read?),
        }
    }

    fn entries(&self, limit: usize) -> io::Result<Vec<DirEntry>> {
        let is_name = |entry: &rustix::fs::DirEntry| {
            let name = entry.file_name().to_bytes();
            name != b"." && name != b".."
        };
        let mut entries = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.file)? {
            let entry = entry?;
            if entries.len() == limit {
                break;
            }
            if is_name(&entry) {
                entries.push(self.entry(&entry));
            }
        }
        Ok(entries)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}
