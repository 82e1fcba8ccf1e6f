//! A terminal that a program shows itself on: a pty whose other end is read as
//! a terminal reads it, so that a test sees what a person would.

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::wait::{PATIENCE, poll_until, wait_until};

/// A program in a terminal, killed when dropped.
pub struct Terminal {
    child: Child,
    keys: File,
    screen: Arc<Mutex<vt100::Parser>>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Runs a program in a terminal of that many rows and columns.
    ///
    /// # Errors
    /// There is no pty, or no such program.
    pub fn run(command: &Command, (rows, columns): (u16, u16)) -> io::Result<Terminal> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let name = ptsname(&ours, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let its = open(name.as_c_str(), flags, Mode::empty())?;
        let keys = File::from(ours);
        set_size(&keys, (rows, columns))?;
        // So that /dev/tty is this one too.
        let child = Command::new("setsid")
            .arg("--ctty")
            .arg(command.get_program())
            .args(command.get_args())
            .env("TERM", "xterm-256color")
            .stdin(Stdio::from(its.try_clone()?))
            .stdout(Stdio::from(its.try_clone()?))
            .stderr(Stdio::from(its))
            .spawn()?;
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let mut output = keys.try_clone()?;
        let shown = screen.clone();
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Ends with EIO once nobody has the other end open.
            while let Ok(len @ 1..) = output.read(&mut bytes) {
                lock(&shown).process(&bytes[..len]);
            }
        });
        Ok(Terminal {
            child,
            keys,
            screen,
            reader: Some(reader),
        })
    }

    /// What stands on the screen.
    pub fn text(&self) -> String {
        lock(&self.screen).screen().contents()
    }

    /// Whether the program has the screen to itself, and what was there before is
    /// kept beneath.
    pub fn is_full_screen(&self) -> bool {
        lock(&self.screen).screen().alternate_screen()
    }

    /// Whether the cursor can be seen.
    pub fn has_cursor(&self) -> bool {
        !lock(&self.screen).screen().hide_cursor()
    }

    /// Types these bytes.
    ///
    /// # Panics
    /// The terminal is gone.
    #[track_caller]
    pub fn press(&self, keys: &str) {
        let mut terminal = &self.keys;
        let typed = terminal.write_all(keys.as_bytes());
        typed.expect("a pty takes a few keys");
    }

    /// Another size, as when a person draws the window's corner.
    ///
    /// # Panics
    /// The terminal is gone.
    #[track_caller]
    pub fn resize(&self, (rows, columns): (u16, u16)) {
        lock(&self.screen).screen_mut().set_size(rows, columns);
        set_size(&self.keys, (rows, columns)).expect("a pty can be resized");
    }

    /// Waits until these words stand on the screen.
    ///
    /// # Panics
    /// With what stands there, if they do not come.
    #[track_caller]
    pub fn wait_for(&self, words: &str) {
        let shows = poll_until(PATIENCE, || self.text().contains(words));
        assert!(shows, "no «{words}» in\n{}", self.text());
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let _ = kill_process(pid.expect("a process id is a positive i32"), signal);
    }

    /// Waits for the program's end.
    ///
    /// # Panics
    /// If it does not end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("a program in a terminal ends", || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        });
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        status.expect("it has ended")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn set_size(terminal: &File, (ws_row, ws_col): (u16, u16)) -> io::Result<()> {
    let size = Winsize {
        ws_row,
        ws_col,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(tcsetwinsize(terminal, size)?)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
