//! Where a capture is written: one file, a ring of files, a pipe, or stdout.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{Access, access};
use wirepath_driver::capture::Files;

use crate::failure::Failure;

/// What stands for stdout.
pub const STDOUT: &str = "-";

/// How a capture's files follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// There is more than one.
    pub is_on: bool,
    /// Files that are kept; the oldest goes. None to keep all.
    pub keep: Option<u32>,
}

/// A place to write to, of which as much is open as takes a right.
pub struct Destination {
    path: PathBuf,
    rotation: Rotation,
    /// The first file; None for a pipe, whose opening waits for a reader.
    first: Option<File>,
    made: VecDeque<PathBuf>,
    count: u32,
}

impl Destination {
    /// Opens the first file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn open(path: &Path, rotation: Rotation) -> Result<Destination, Failure> {
        let mut destination = Destination {
            path: path.to_owned(),
            rotation,
            first: None,
            made: VecDeque::new(),
            count: 0,
        };
        let refused = |e| {
            let path = path.display();
            Failure::refused(format!("cannot write the capture {path}: {e}"))
        };
        if destination.is_one_stream() && rotation.is_on {
            return Err(Failure::refused(format!(
                "--pcap {}: a pipe is one file; leave out --pcap-size and --pcap-time",
                path.display()
            )));
        }
        if destination.is_stdout() {
            let stdout = io::stdout().as_fd().try_clone_to_owned();
            destination.first = Some(File::from(stdout.map_err(refused)?));
            crate::leave_stdout();
        } else if is_pipe(path) {
            access(path, Access::WRITE_OK).map_err(|e| refused(e.into()))?;
        } else {
            destination.first = Some(destination.make().map_err(refused)?);
        }
        Ok(destination)
    }

    fn is_stdout(&self) -> bool {
        self.path.as_os_str() == STDOUT
    }

    fn is_one_stream(&self) -> bool {
        self.is_stdout() || is_pipe(&self.path)
    }

    /// Checks, once the process has the rights that it keeps, that it can make
    /// the files that follow.
    ///
    /// # Errors
    /// It cannot.
    pub fn check_next(&self) -> Result<(), Failure> {
        if !self.rotation.is_on {
            return Ok(());
        }
        let folder = self.folder();
        access(folder, Access::WRITE_OK | Access::EXEC_OK).map_err(|e| {
            let folder = folder.display();
            Failure::refused(format!(
                "the server's user cannot make the files that follow the first in {folder}: {e}; \
                 give it that folder with chown, or leave out --pcap-size and --pcap-time"
            ))
        })
    }

    fn folder(&self) -> &Path {
        let folder = self.path.parent();
        folder
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."))
    }

    /// How people are told of it.
    pub fn shown(&self) -> String {
        if self.is_stdout() {
            "stdout".into()
        } else if self.rotation.is_on {
            let stem = self.path.file_stem().unwrap_or_default();
            let pattern = format!("{}_*{}", stem.to_string_lossy(), self.extension());
            self.path.with_file_name(pattern).display().to_string()
        } else {
            self.path.display().to_string()
        }
    }

    fn extension(&self) -> String {
        let extension = self.path.extension();
        extension.map_or_else(String::new, |e| format!(".{}", e.to_string_lossy()))
    }

    /// The name of the next file, as dumpcap makes them: `web_00001_20260131120000.pcapng`.
    fn next_path(&mut self) -> PathBuf {
        if !self.rotation.is_on {
            return self.path.clone();
        }
        self.count += 1;
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        let now = Timestamp::now().strftime("%Y%m%d%H%M%S").to_string();
        let name = format!("{stem}_{:05}_{now}{}", self.count, self.extension());
        self.path.with_file_name(name)
    }

    fn make(&mut self) -> io::Result<File> {
        let path = self.next_path();
        let file = File::create(&path)?;
        self.made.push_back(path);
        Ok(file)
    }

    /// Removes files until there is room for another.
    fn remove_oldest(&mut self) {
        let Some(keep) = self.rotation.keep else {
            return;
        };
        while self.made.len() >= keep.max(1) as usize
            && let Some(oldest) = self.made.pop_front()
        {
            if let Err(error) = fs::remove_file(&oldest) {
                let oldest = oldest.display();
                tracing::warn!("the old capture {oldest} stays where it is: {error}");
            }
        }
    }
}

fn is_pipe(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo())
}

impl Files for Destination {
    fn next(&mut self) -> io::Result<Box<dyn Write + Send>> {
        let file = match self.first.take() {
            Some(first) => first,
            None => {
                self.remove_oldest();
                self.make().inspect_err(|e| self.warn(e))?
            }
        };
        Ok(Box::new(Told {
            file,
            shown: self.shown(),
            has_failed: false,
        }))
    }
}

impl Destination {
    fn warn(&self, error: &io::Error) {
        warn(&self.shown(), error);
    }
}

/// Told once, since nothing is written after it.
fn warn(shown: &str, error: &io::Error) {
    tracing::warn!(
        "the capture {shown} ends here: {error}; frames that cross from now on are counted, not \
         written"
    );
}

/// A file whose failure is told when it happens, not only at the end.
struct Told {
    file: File,
    shown: String,
    has_failed: bool,
}

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes);
        written.inspect_err(|e| {
            // A buffer tries once more before it goes.
            if e.kind() != io::ErrorKind::Interrupted && !self.has_failed {
                self.has_failed = true;
                warn(&self.shown, e);
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let name = |e: io::Result<fs::DirEntry>| e.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn a_ring_keeps_the_last_files() {
        let folder = tempfile::tempdir().unwrap();
        let rotation = Rotation {
            is_on: true,
            keep: Some(2),
        };
        let mut ring = Destination::open(&folder.path().join("web.pcapng"), rotation).unwrap();
        for _ in 0..4 {
            ring.next().unwrap();
        }
        let left = names(folder.path());
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(left[0].starts_with("web_00003_") && left[1].starts_with("web_00004_"));
        assert!(left[0].ends_with(".pcapng"));
        assert!(ring.shown().ends_with("web_*.pcapng"));
    }

    #[test]
    fn one_file_is_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let mut one = Destination::open(&path, Rotation::default()).unwrap();
        one.next().unwrap().write_all(b"abc").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"abc");
        assert_eq!(one.shown(), path.display().to_string());
    }

    #[test]
    fn what_cannot_be_written_is_refused_at_the_start() {
        let missing = Path::new("/proc/nowhere/x.pcapng");
        let Err(refused) = Destination::open(missing, Rotation::default()) else {
            panic!("it was taken");
        };
        assert!(refused.to_string().contains("cannot write the capture"));
        let rotation = Rotation {
            is_on: true,
            keep: None,
        };
        let Err(refused) = Destination::open(Path::new(STDOUT), rotation) else {
            panic!("it was taken");
        };
        assert!(refused.to_string().contains("--pcap-size"), "{refused}");
    }
}
