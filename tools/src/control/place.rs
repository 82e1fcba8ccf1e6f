//! Where control sockets are: `PID.sock` in a folder of the user's, or where
//! `--control` says.

use std::convert::Infallible;
use std::env;
use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The folder of root's servers.
const OF_ROOT: &str = "/run/wirepath";
/// The end of a socket's name.
const SUFFIX: &str = ".sock";

/// What `--control` is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlPath {
    /// No socket.
    Off,
    /// One at this path.
    At(PathBuf),
}

impl FromStr for ControlPath {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<ControlPath, Infallible> {
        Ok(match text {
            "off" => ControlPath::Off,
            path => ControlPath::At(path.into()),
        })
    }
}

/// The folder of this user's sockets; None where the user has no runtime folder
/// (`XDG_RUNTIME_DIR`, XDG Base Directory Specification).
pub fn own_dir() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(OF_ROOT.into());
    }
    let runtime = env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty())?;
    Some(Path::new(&runtime).join("wirepath"))
}

/// The folders in which a client looks: this user's, and root's.
pub fn all_dirs() -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = own_dir().into_iter().collect();
    if !dirs.iter().any(|dir| dir == Path::new(OF_ROOT)) {
        dirs.push(OF_ROOT.into());
    }
    dirs
}

/// The socket of a process.
pub fn of_process(dir: &Path, pid: u32) -> PathBuf {
    dir.join(format!("{pid}{SUFFIX}"))
}

/// The sockets of a folder, with their processes. A folder that is not there,
/// or not this user's, has none.
pub fn sockets(dir: &Path) -> Vec<(u32, PathBuf)> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let socket = |entry: io::Result<fs::DirEntry>| {
        let path = entry.ok()?.path();
        let pid = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
        Some((pid.parse().ok()?, path))
    };
    let mut sockets: Vec<_> = entries.filter_map(socket).collect();
    sockets.sort();
    sockets
}

/// Whether nobody listens at a socket any more.
pub fn is_dead(path: &Path) -> bool {
    let connected = UnixStream::connect(path);
    connected.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
}

/// Removes the sockets that processes left which were killed. One whose process
/// lives stays even if nobody listens yet: it may be about to.
pub fn tidy(dir: &Path) {
    let left = sockets(dir).into_iter().filter(|(pid, path)| {
        let lives = Path::new("/proc").join(pid.to_string()).exists();
        !lives && is_dead(path)
    });
    for (_, path) in left {
        // One that cannot be removed is met again by the next server.
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Above the kernel's largest (`PID_MAX_LIMIT` is 2^22).
    const NO_PROCESS: u32 = 4_194_305;

    #[test]
    fn sockets_of_dead_processes_go_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let at = |pid| of_process(dir.path(), pid);
        drop(UnixListener::bind(at(NO_PROCESS)).unwrap());
        let _elsewhere = UnixListener::bind(at(NO_PROCESS + 1)).unwrap();
        let own = std::process::id();
        drop(UnixListener::bind(at(own)).unwrap());
        fs::write(dir.path().join("notes.txt"), "").unwrap();
        tidy(dir.path());
        let left: Vec<u32> = sockets(dir.path()).iter().map(|(pid, _)| *pid).collect();
        assert_eq!(left, [own, NO_PROCESS + 1]);
        assert!(dir.path().join("notes.txt").exists());
    }

    #[test]
    fn off_is_no_path() {
        assert_eq!("off".parse(), Ok(ControlPath::Off));
        assert_eq!("./off".parse(), Ok(ControlPath::At("./off".into())));
    }
}
