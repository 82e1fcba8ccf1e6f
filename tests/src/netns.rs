//! A network namespace that the lab made and removes again.
//!
//! A namespace has a name under `/run/netns`, so that `ip netns exec` runs
//! commands inside it, and it can be entered by a thread of the test. A socket
//! stays in the namespace that it was made in, so [`Netns::connect`] hands its
//! stream to a thread that never left the machine's own network.
//!
//! The name holds the process id of its maker. What a killed test run left
//! behind is removed by the next one, and nothing of a living one is touched.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Once};
use std::thread::JoinHandle;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::wait::PATIENCE;

const PREFIX: &str = "wplab-";
const DIR: &str = "/run/netns";

/// A network namespace; dropping it removes it.
#[derive(Debug)]
pub struct Netns {
    name: String,
    inside: Inside,
}

/// A way into a namespace, for threads that outlive whoever holds a reference
/// to its [`Netns`].
#[derive(Clone, Debug)]
pub struct Inside(Arc<File>);

impl Netns {
    /// Makes a namespace with its loopback interface up.
    ///
    /// # Errors
    /// What `ip` said, for one who lacks the right to.
    pub fn create() -> io::Result<Netns> {
        static SWEEP: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        SWEEP.call_once(remove_orphans);
        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{serial}", std::process::id());
        checked(Command::new("ip").args(["netns", "add", &name]))?;
        let file = match File::open(Path::new(DIR).join(&name)) {
            Ok(file) => file,
            Err(err) => {
                remove(&name);
                return Err(err);
            }
        };
        let inside = Inside(Arc::new(file));
        let ns = Netns { name, inside };
        ns.try_ip("link set lo up")?;
        // Addresses are usable at once: nobody else is on these cables, so
        // looking for duplicates would only delay the test.
        for scope in ["all", "default"] {
            ns.set_sysctl(&format!("net/ipv6/conf/{scope}/accept_dad"), "0")?;
        }
        Ok(ns)
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run inside.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.name])
            .arg(program)
            .stdin(Stdio::null());
        command
    }

    /// Runs `ip ARGS` inside, `args` being split at spaces.
    ///
    /// # Errors
    /// What `ip` said.
    pub fn try_ip(&self, args: &str) -> io::Result<String> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name]).args(args.split(' '));
        checked(&mut command).map(|out| String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Runs `ip ARGS` inside and returns what it printed.
    ///
    /// # Panics
    /// If `ip` fails.
    #[track_caller]
    pub fn ip(&self, args: &str) -> String {
        self.try_ip(args)
            .unwrap_or_else(|err| panic!("ip {args}: {err}"))
    }

    /// Sets `/proc/sys/KEY`, which for `net/` is the namespace's own.
    ///
    /// # Errors
    /// If the kernel refuses the value.
    pub fn set_sysctl(&self, key: &str, value: &str) -> io::Result<()> {
        self.enter(|| std::fs::write(Path::new("/proc/sys").join(key), value))
    }

    /// A way in that may be kept.
    pub fn inside(&self) -> Inside {
        self.inside.clone()
    }

    /// As [`Inside::enter`].
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.inside.enter(f)
    }

    /// Starts a thread that stays inside the namespace. Whoever starts it sees
    /// to its end: a namespace lives as long as a thread is in it.
    pub fn spawn<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let inside = self.inside();
        std::thread::spawn(move || {
            inside.move_in();
            f()
        })
    }

    /// A TCP connection from inside the namespace. Reading and writing give up
    /// after [`PATIENCE`], so that a test that hangs ends.
    ///
    /// # Errors
    /// As [`TcpStream::connect`].
    pub fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        self.enter(|| {
            let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        })
    }
}

impl Inside {
    /// Runs `f` on a thread of its own inside the namespace. A panic of `f`
    /// goes on in the caller.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let result = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.move_in();
                    f()
                })
                .join()
        });
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Moves the calling thread there for good.
    fn move_in(&self) {
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("who may make a namespace may enter it");
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Removes the namespaces of test runs that were killed.
fn remove_orphans() {
    let Ok(entries) = std::fs::read_dir(DIR) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let maker = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        if let Some(pid) = maker
            && !Path::new("/proc").join(pid).exists()
        {
            remove(name);
        }
    }
}

fn remove(name: &str) {
    let result = checked(Command::new("ip").args(["netns", "del", name]));
    if let Err(err) = result {
        eprintln!("lab: ip netns del {name}: {err}");
    }
}

/// Runs a command to its end; one that fails is an error that quotes it.
fn checked(command: &mut Command) -> io::Result<Output> {
    let out = command.stdin(Stdio::null()).output()?;
    if out.status.success() {
        Ok(out)
    } else {
        let said = String::from_utf8_lossy(&out.stderr);
        Err(io::Error::other(format!(
            "{} ({})",
            said.trim(),
            out.status
        )))
    }
}
