//! Frames sent into a lab as they are (`packet(7)`), past the kernel's TCP/IP.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket};

use crate::frames::Mac;
use crate::lab::Lab;

/// Frames that one injector sends at most: a bound for a test with a wrong
/// loop.
const LIMIT_FRAMES: usize = 100_000;

/// Sends frames out of one interface of the client.
#[derive(Debug)]
pub struct Injector {
    socket: OwnedFd,
    interface: LinkAddr,
    sent: usize,
}

impl Injector {
    /// An injector for the interface called `name`.
    ///
    /// # Panics
    /// If there is no such interface.
    #[track_caller]
    pub fn new(lab: &Lab, name: &str) -> Injector {
        let (socket, interface) = lab.net().enter(|| {
            let interface = link_address(name).expect("the interface is in the lab");
            // Protocol 0: it sends, and is given nothing.
            let socket = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                None,
            );
            (socket.expect("root may make packet sockets"), interface)
        });
        Injector {
            socket,
            interface,
            sent: 0,
        }
    }

    /// The MAC address of the interface.
    pub fn mac(&self) -> Mac {
        self.interface
            .addr()
            .expect("an Ethernet interface has one")
    }

    /// Frames sent so far.
    pub fn sent(&self) -> usize {
        self.sent
    }

    /// Sends one frame, of at least an Ethernet header and at most the MTU
    /// with one.
    ///
    /// # Panics
    /// If the kernel does not take it.
    #[track_caller]
    pub fn send(&mut self, frame: &[u8]) {
        assert!(
            self.sent < LIMIT_FRAMES,
            "a test sends at most {LIMIT_FRAMES} frames"
        );
        loop {
            let fd = self.socket.as_raw_fd();
            match sendto(fd, frame, &self.interface, MsgFlags::empty()) {
                Ok(_) => break,
                // The device's queue is full: the server is still reading it.
                Err(nix::Error::ENOBUFS) => std::thread::yield_now(),
                Err(err) => panic!("{} bytes: {}", frame.len(), io::Error::from(err)),
            }
        }
        self.sent += 1;
    }
}

/// The `sockaddr_ll` of an interface of the namespace that the thread is in.
fn link_address(name: &str) -> Option<LinkAddr> {
    getifaddrs()
        .ok()?
        .filter(|found| found.interface_name == name)
        .find_map(|found| found.address?.as_link_addr().copied())
}
