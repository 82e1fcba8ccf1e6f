//! Giving up rights once the devices are open.
//!
//! Capabilities, the bounding set and `no_new_privs` belong to threads
//! (capabilities(7), prctl(2)), and a new thread gets those of its maker. So
//! [`drop_all`] is called while the process has one thread, after everything
//! that needs a right (sockets, the program, the capture's file) and before the
//! capture's writer, the runtime and the signal threads start; it checks that
//! by counting. The threads of a process that did it later would keep their
//! rights, each for itself.
//!
//! What is opened stays usable: the kernel asks for rights when a socket is
//! made and set up, not when it is read, written, or asked for statistics.

use std::ffi::CString;
use std::io;

use nix::unistd::{Gid, Uid, User, initgroups, setgid, setuid};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// Why rights could not be given up. Nothing is served then.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// No such user.
    #[error(
        "--user {0}: there is no such user; see 'getent passwd', or make one with 'useradd --system {0}'"
    )]
    NoUser(String),
    /// Only root can become somebody else.
    #[error(
        "--user {0} is for a server that is started as root; it runs as user {1} already, leave the option out"
    )]
    NotRoot(String, u32),
    /// It would change nothing.
    #[error("--user {0} is root, which would give up nothing; name another user")]
    Root(String),
    /// The user database could not be read.
    #[error("--user {user}: cannot look up the user: {source}")]
    Lookup {
        /// The user.
        user: String,
        /// What the C library said.
        source: io::Error,
    },
    /// The kernel refused a step.
    #[error(
        "cannot give up privileges: {step}: {source}; this needs no right, so look for a seccomp filter (SystemCallFilter=) that forbids it"
    )]
    Step {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another thread would keep its rights.
    #[error("cannot give up privileges: the process has {0} threads already; this is a bug")]
    Threads(usize),
}

/// A user to become.
#[derive(Clone, Debug)]
pub struct Successor {
    name: CString,
    uid: Uid,
    gid: Gid,
}

impl Successor {
    /// Looks the user up, before anything is opened.
    pub fn find(name: &str) -> Result<Successor, PrivilegeError> {
        let found = User::from_name(name).map_err(|e| PrivilegeError::Lookup {
            user: name.to_owned(),
            source: e.into(),
        })?;
        let user = found.ok_or_else(|| PrivilegeError::NoUser(name.to_owned()))?;
        if user.uid.is_root() {
            return Err(PrivilegeError::Root(name.to_owned()));
        }
        let me = Uid::effective();
        if !me.is_root() {
            return Err(PrivilegeError::NotRoot(name.to_owned(), me.as_raw()));
        }
        Ok(Successor {
            name: CString::new(user.name).map_err(|_| PrivilegeError::NoUser(name.to_owned()))?,
            uid: user.uid,
            gid: user.gid,
        })
    }

    /// Groups first: without root's rights they cannot be given up.
    fn become_it(&self) -> Result<(), PrivilegeError> {
        initgroups(&self.name, self.gid).map_err(|e| step("set the groups (setgroups)", e))?;
        setgid(self.gid).map_err(|e| step("set the group (setgid)", e))?;
        setuid(self.uid).map_err(|e| step("set the user (setuid)", e))
    }
}

/// Gives up every capability for good, and becomes `successor` when there is
/// one. Threads that start afterwards have none either.
pub fn drop_all(successor: Option<&Successor>) -> Result<(), PrivilegeError> {
    check_alone()?;
    // Needs CAP_SETPCAP, so it comes before all else; where that is missing
    // the set bounds nothing, since `no_new_privs` keeps execve(2) from giving.
    empty_bounding_set()?;
    if let Some(successor) = successor {
        successor.become_it()?;
    }
    clear_ambient_capability_set().map_err(|e| step("clear the ambient set", e))?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).map_err(|e| step("drop the capabilities (capset)", e))?;
    set_no_new_privs(true).map_err(|e| step("set no_new_privs", e))
}

fn empty_bounding_set() -> Result<(), PrivilegeError> {
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match capability_is_in_bounding_set(capability) {
            Ok(true) => match remove_capability_from_bounding_set(capability) {
                Ok(()) => {}
                Err(Errno::PERM) => return Ok(()),
                Err(e) => return Err(step("empty the bounding set", e)),
            },
            Ok(false) => {}
            // The first number that the kernel has no capability for.
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

fn check_alone() -> Result<(), PrivilegeError> {
    let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count);
    match threads {
        // Without /proc there is nothing to count by.
        Ok(1) | Err(_) => Ok(()),
        Ok(many) => Err(PrivilegeError::Threads(many)),
    }
}

fn step(step: &'static str, source: impl Into<io::Error>) -> PrivilegeError {
    PrivilegeError::Step {
        step,
        source: source.into(),
    }
}
