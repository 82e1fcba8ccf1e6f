//! Real frames over a veth, in both places where the program runs.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket};

use super::lab::{in_namespace, ip, wait_until};
use super::{model, table};
use crate::xdp::filter::{AttachMode, Fate, Filter, Verdicts};
use crate::xdp::interface::Interface;

/// The peer's end of the cable: frames as they are (packet(7)).
struct Peer {
    socket: OwnedFd,
    at: LinkAddr,
}

impl Peer {
    fn new() -> Peer {
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::empty(),
            None,
        )
        .unwrap();
        let found = getifaddrs().unwrap().find_map(|entry| {
            let is_it = entry.interface_name == "wpf1";
            entry.address.filter(|_| is_it)?.as_link_addr().copied()
        });
        Peer {
            socket,
            at: found.expect("the peer is there"),
        }
    }

    fn send(&self, frame: &[u8]) -> io::Result<usize> {
        let sent = sendto(self.socket.as_raw_fd(), frame, &self.at, MsgFlags::empty());
        Ok(sent?)
    }
}

/// A veth whose ends say nothing of themselves.
fn silent_veth() -> u32 {
    ip("link add wpf0 type veth peer name wpf1");
    for end in ["wpf0", "wpf1"] {
        let setting = format!("/proc/sys/net/ipv6/conf/{end}/disable_ipv6");
        std::fs::write(setting, "1").unwrap();
        ip(&format!("link set {end} arp off up"));
    }
    Interface::named("wpf0").unwrap().index
}

#[test]
fn real_frames_end_as_the_model_says_in_both_modes() {
    in_namespace("real_frames_end_as_the_model_says_in_both_modes", || {
        let index = silent_veth();
        let peer = Peer::new();
        for mode in [AttachMode::Driver, AttachMode::Generic] {
            for rules in table::deployments() {
                let mut filter = Filter::load(&rules, 1).unwrap();
                filter.attach(index, mode).unwrap();
                for (name, frame, _) in table::rows() {
                    if frame.len() > 1514 {
                        continue;
                    }
                    let want = match model::fate(&rules, &frame) {
                        fate if fate <= Fate::RedirectUdp => Fate::PassNoSocket,
                        other => other,
                    };
                    let before = filter.verdicts();
                    peer.send(&frame).unwrap_or_else(|e| panic!("{name}: {e}"));
                    let more = |now: Verdicts| now.frames() > before.frames();
                    wait_until(name, || more(filter.verdicts()));
                    let got = filter.verdicts().of(want) - before.of(want);
                    assert_eq!(got, 1, "{name} {mode:?} {rules:?}");
                }
            }
        }
    });
}
