//! Which processes hold something, for error messages: as much as /proc shows
//! to whoever runs us.

use std::fs;
use std::path::{Path, PathBuf};

/// Descriptors that are looked at before giving up: an error message is not
/// worth more time than this takes (about a second).
const LOOKS_MAX: usize = 200_000;

/// A process: its number and its name.
pub(super) type Process = (u32, String);

/// The processes with a descriptor that opens `target` (`socket:[12345]`).
pub(super) fn with_descriptor(target: &str) -> Vec<Process> {
    let opens = |fd: &Path| fs::read_link(fd).is_ok_and(|to| to.as_os_str() == target);
    with("fd", opens)
}

/// The processes with the BPF link of this number (proc_pid_fdinfo(5)).
pub(super) fn with_link(id: u32) -> Vec<Process> {
    let holds = |fdinfo: &Path| {
        let text = fs::read_to_string(fdinfo).unwrap_or_default();
        let number = |line: &str| line.strip_prefix("link_id:")?.trim().parse::<u32>().ok();
        text.lines().any(|line| number(line) == Some(id))
    };
    with("fdinfo", holds)
}

/// The processes where `is_it` holds for an entry of this folder.
fn with(folder: &str, is_it: impl Fn(&Path) -> bool) -> Vec<Process> {
    let mut looks = 0;
    let mut found = Vec::new();
    for (pid, path) in processes() {
        for entry in entries(&path.join(folder)) {
            looks += 1;
            if looks > LOOKS_MAX {
                return found;
            }
            if is_it(&entry) {
                found.push((pid, name(&path)));
                break;
            }
        }
    }
    found
}

fn processes() -> Vec<(u32, PathBuf)> {
    let numbered = |path: PathBuf| {
        let pid = path.file_name()?.to_str()?.parse().ok()?;
        Some((pid, path))
    };
    entries(Path::new("/proc")).filter_map(numbered).collect()
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.flatten().map(|entry| entry.path())
}

fn name(process: &Path) -> String {
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_socket_is_found_with_its_process() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let fd = format!("/proc/self/fd/{}", socket.as_raw_fd());
        let target = fs::read_link(fd).unwrap();
        let found = with_descriptor(target.to_str().unwrap());
        let pids: Vec<u32> = found.iter().map(|(pid, _)| *pid).collect();
        assert_eq!(pids, [std::process::id()]);
        assert!(!found[0].1.is_empty());
    }

    #[test]
    fn what_nobody_has_is_found_nowhere() {
        assert_eq!(with_descriptor("socket:[0]"), []);
        assert_eq!(with_link(u32::MAX), []);
    }
}
