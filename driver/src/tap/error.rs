//! Why a TAP could not be opened, and what to do.

use std::io;

use rustix::io::Errno;

use crate::frame::PoolError;

/// Bytes of an interface's name at most (`IFNAMSIZ` less the closing NUL).
const MAX_NAME_LEN: usize = 15;

/// Why a TAP could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TapError {
    /// Not a name that an interface can have.
    #[error(
        "«{0}» cannot name an interface: use 1 to {MAX_NAME_LEN} bytes without white space, «/», «:» or «%»"
    )]
    Name(String),
    /// There is no TUN driver.
    #[error(
        "there is no /dev/net/tun: load the driver with `sudo modprobe tun`, or pass the device into this container"
    )]
    NoDriver(#[source] io::Error),
    /// The caller may not.
    #[error(
        "no permission to open the TAP {name}: make one that you own with `sudo ip tuntap add dev {name} mode tap user $USER` and see that /dev/net/tun is readable and writable to you, or run as root (CAP_NET_ADMIN)"
    )]
    Permission {
        /// The device.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another process has it.
    #[error("the TAP {name} is in use by another process: end that one, or choose another name")]
    Busy {
        /// The device.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is something else.
    #[error(
        "{name} exists and is not a TAP of one queue without headers: choose another name, or remove it with `sudo ip link del {name}`"
    )]
    NotTap {
        /// The device.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something else failed.
    #[error("cannot set up the TAP {name}")]
    Setup {
        /// The device.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The frames' memory.
    #[error(transparent)]
    Pool(#[from] PoolError),
}

impl TapError {
    /// What opening /dev/net/tun or `TUNSETIFF` said.
    pub(super) fn open(name: &str, source: io::Error) -> TapError {
        let name = name.to_owned();
        match Errno::from_io_error(&source) {
            Some(Errno::NOENT | Errno::NXIO | Errno::NODEV) => TapError::NoDriver(source),
            Some(Errno::PERM | Errno::ACCESS) => TapError::Permission { name, source },
            Some(Errno::BUSY) => TapError::Busy { name, source },
            Some(Errno::INVAL | Errno::EXIST) => TapError::NotTap { name, source },
            _ => TapError::Setup { name, source },
        }
    }
}

/// Refuses what the kernel would refuse, cut short, or take for a pattern
/// (`dev_valid_name`, `dev_alloc_name` of net/core/dev.c).
pub(super) fn check_name(name: &str) -> Result<(), TapError> {
    let odd = |b: u8| b.is_ascii_whitespace() || b.is_ascii_control() || b"/:%".contains(&b);
    let is_good = (1..=MAX_NAME_LEN).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.bytes().any(odd);
    if is_good {
        Ok(())
    } else {
        Err(TapError::Name(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_refuses_or_changes_are_refused() {
        for good in ["wp0", "tap-long-name.5", "ä0"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a b",
            "tap%d",
            "a/b",
            "a:1",
            "0123456789abcdef",
            "a\0b",
            "a\n",
        ] {
            assert!(matches!(check_name(bad), Err(TapError::Name(_))), "{bad:?}");
        }
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        for (errno, want) in [
            (Errno::NOENT, "modprobe tun"),
            (Errno::PERM, "ip tuntap add dev t0"),
            (Errno::BUSY, "another process"),
            (Errno::INVAL, "ip link del t0"),
        ] {
            let text = TapError::open("t0", errno.into()).to_string();
            assert!(text.contains(want), "{text}");
        }
    }
}
