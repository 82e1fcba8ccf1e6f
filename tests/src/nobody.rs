//! Running `wirepath` as a user without rights.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, io};

use crate::bin;
use crate::netns::Netns;

/// The ids of the user and group `nobody` on Linux (`overflowuid`).
const NOBODY: u32 = 65534;

/// A folder of nobody's with a copy of the `wirepath` command in it, which
/// that user might not reach otherwise. Dropping it removes it.
#[derive(Debug)]
pub struct Nobody {
    dir: PathBuf,
}

impl Nobody {
    /// Sets up the folder.
    ///
    /// # Errors
    /// If this process is not root, or the disk refuses.
    pub fn new() -> io::Result<Nobody> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("wplab-{}-{serial}", std::process::id());
        let dir = env::temp_dir().join(name);
        fs::create_dir(&dir)?;
        let nobody = Nobody { dir };
        fs::copy(bin::wirepath(), nobody.program())?;
        chown(&nobody.dir, Some(NOBODY), Some(NOBODY))?;
        Ok(nobody)
    }

    /// The user's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The copy of the `wirepath` command.
    pub fn program(&self) -> PathBuf {
        self.dir.join("wirepath")
    }

    /// A command that runs another, to be added as arguments, as that user in
    /// its folder.
    pub fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        self.lower(&mut command);
        command
    }

    /// As [`Nobody::command`], inside a namespace.
    pub fn command_in(&self, net: &Netns) -> Command {
        let mut command = net.command("setpriv");
        self.lower(&mut command);
        command
    }

    fn lower(&self, setpriv: &mut Command) {
        setpriv
            .arg(format!("--reuid={NOBODY}"))
            .arg(format!("--regid={NOBODY}"))
            .arg("--clear-groups")
            .env("HOME", &self.dir)
            .current_dir(&self.dir);
    }
}

impl Drop for Nobody {
    fn drop(&mut self) {
        if let Err(err) = fs::remove_dir_all(&self.dir) {
            eprintln!("lab: {}: {err}", self.dir.display());
        }
    }
}
