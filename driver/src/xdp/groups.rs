//! MAC addresses that the NIC must let through for an address of our own.
//!
//! The kernel programs a NIC for its own address and for the groups that it has
//! joined; what is for others, the NIC drops before any queue. Two kinds of
//! frame would be lost so: neighbour solicitations, which go to the group of
//! the address's last three bytes (RFC 4291, 2.7.1; RFC 2464, section 7), and
//! everything, where we answer with another MAC than the interface's. A packet
//! socket joins them (packet(7), `PACKET_ADD_MEMBERSHIP`) and receives nothing;
//! the kernel takes them back when it is closed, which it is for a process that
//! dies.
//!
//! No MLD report is sent for these groups. A switch that snoops MLD floods the
//! groups of solicited nodes or not as it is set up; see docs/af-xdp.md.
//!
//! Rejected: `ip maddr add`, which stays after a crash; promiscuous mode, which
//! brings every frame of the segment.
//!
//! The device joins before it attaches the filter, and drops [`Groups`] last.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::filter::Rules;
use super::interface::Interface;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// All nodes (RFC 4291, 2.7.1): where claims to an address are sent to.
const ALL_NODES: Mac = [0x33, 0x33, 0, 0, 0, 1];

/// Bit 0 of the first byte: an address of a group.
const GROUP_BIT: u8 = 1;

/// Why the NIC would not let our frames through.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GroupsError {
    /// This process may not open packet sockets.
    #[error(
        "cannot have {interface} receive for an address of our own: not permitted; run as root or with CAP_NET_RAW, or share the host's address (--share-host), which needs no more than the NIC receives already"
    )]
    Permission {
        /// The interface.
        interface: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The interface did not take the address.
    #[error(
        "cannot have {interface} receive frames for {mac}; see 'ip maddr show dev {interface}' for what it has, and leave out --mac if that is the address",
        mac = text(mac)
    )]
    Join {
        /// The interface.
        interface: String,
        /// The address.
        mac: Mac,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Memberships that last as long as this value.
#[derive(Debug)]
pub struct Groups {
    /// None where nothing had to be joined.
    _socket: Option<OwnedFd>,
    macs: Vec<Mac>,
}

impl Groups {
    /// Joins what a server with these rules needs, which answers with `mac`, or
    /// with the interface's address. Where the host's address is shared that is
    /// nothing.
    ///
    /// # Errors
    /// See [`GroupsError`].
    pub fn join(
        interface: &Interface,
        mac: Option<Mac>,
        rules: &Rules,
    ) -> Result<Groups, GroupsError> {
        let macs = needed(interface, mac, rules);
        if macs.is_empty() {
            return Ok(Groups {
                _socket: None,
                macs,
            });
        }
        let socket = open().map_err(|source| permission(interface, source))?;
        for mac in &macs {
            add(&socket, interface.index, *mac).map_err(|source| GroupsError::Join {
                interface: interface.name.clone(),
                mac: *mac,
                source,
            })?;
        }
        Ok(Groups {
            _socket: Some(socket),
            macs,
        })
    }

    /// What was joined.
    pub fn macs(&self) -> &[Mac] {
        &self.macs
    }
}

fn permission(interface: &Interface, source: io::Error) -> GroupsError {
    GroupsError::Permission {
        interface: interface.name.clone(),
        source,
    }
}

/// The MACs to join.
fn needed(interface: &Interface, mac: Option<Mac>, rules: &Rules) -> Vec<Mac> {
    let mut macs = Vec::new();
    if rules.is_shared() {
        return macs;
    }
    macs.extend(mac.filter(|mac| interface.mac != Some(*mac)));
    for addr in &rules.addrs {
        if let IpAddr::V6(addr) = addr {
            macs.extend([ALL_NODES, solicited_node(*addr)]);
        }
    }
    macs.sort_unstable();
    macs.dedup();
    macs
}

/// The MAC of the group that solicitations for `addr` go to.
fn solicited_node(addr: Ipv6Addr) -> Mac {
    let [.., a, b, c] = addr.octets();
    [0x33, 0x33, 0xff, a, b, c]
}

/// A packet socket of protocol 0: it receives no frame.
fn open() -> io::Result<OwnedFd> {
    let socket = socket_with(
        AddressFamily::PACKET,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    );
    Ok(socket?)
}

fn add(socket: &OwnedFd, ifindex: u32, mac: Mac) -> io::Result<()> {
    let is_group = mac[0] & GROUP_BIT != 0;
    let kind = if is_group {
        libc::PACKET_MR_MULTICAST
    } else {
        libc::PACKET_MR_UNICAST
    };
    let mut request = libc::packet_mreq {
        mr_ifindex: ifindex.cast_signed(),
        mr_type: kind as u16,
        mr_alen: 6,
        mr_address: [0; 8],
    };
    request.mr_address[..6].copy_from_slice(&mac);
    // SAFETY: the option reads one packet_mreq, which lives over the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            std::ptr::from_ref(&request).cast(),
            size_of::<libc::packet_mreq>() as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn text(mac: &Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdp::filter::tests::lab::{addr, as_nobody, in_namespace, ip, veth, wait_until};

    const OURS: Mac = [2, 0, 0, 0, 0, 7];
    const OTHER: Mac = [2, 0, 0, 0, 0, 8];

    fn interface() -> Interface {
        Interface {
            index: 1,
            name: "eth0".into(),
            mac: Some(OURS),
            mtu: 1500,
            up: true,
            addrs: Vec::new(),
            rx_queues: 1,
            programs: Vec::new(),
        }
    }

    #[test]
    fn what_is_needed_goes_by_addresses_and_mac() {
        let (v4, v6) = (addr("10.0.0.2"), addr("fd00::12:3456"));
        let group = [0x33, 0x33, 0xff, 0x12, 0x34, 0x56];
        let table: [(Rules, Mac, &[Mac]); 6] = [
            (Rules::own([v4]), OURS, &[]),
            (Rules::own([v4]), OTHER, &[OTHER]),
            (Rules::own([v4, v6]), OURS, &[ALL_NODES, group]),
            (Rules::own([v6]), OTHER, &[OTHER, ALL_NODES, group]),
            (
                Rules::own([v6, addr("fe80::12:3456")]),
                OURS,
                &[ALL_NODES, group],
            ),
            (Rules::shared([v4, v6], [80]), OURS, &[]),
        ];
        for (rules, mac, want) in table {
            assert_eq!(needed(&interface(), Some(mac), &rules), want, "{rules:?}");
        }
        assert_eq!(
            needed(&interface(), None, &Rules::own([v4])),
            [] as [Mac; 0]
        );
    }

    /// The groups of the namespace's interfaces.
    fn joined() -> String {
        ip("maddr show dev wpf0")
    }

    /// The addresses that the interface receives for besides its own.
    fn receives_for() -> String {
        let out = std::process::Command::new("bridge")
            .args(["fdb", "show", "dev", "wpf0"])
            .output()
            .unwrap();
        String::from_utf8(out.stdout).unwrap()
    }

    #[test]
    fn groups_are_joined_until_they_are_dropped() {
        in_namespace("groups_are_joined_until_they_are_dropped", || {
            veth();
            let interface = Interface::named("wpf0").unwrap();
            let rules = Rules::own([addr("10.0.0.2"), addr("fd00::12:3456")]);
            let (group, mac) = ("33:33:ff:12:34:56", "02:00:00:00:00:08");
            assert!(!joined().contains(group), "{}", joined());
            let groups = Groups::join(&interface, Some(OTHER), &rules).unwrap();
            assert_eq!(groups.macs().len(), 3);
            assert!(joined().contains(group), "{}", joined());
            assert!(receives_for().contains(mac), "{}", receives_for());
            drop(groups);
            wait_until("the groups are left", || !joined().contains(group));
            wait_until("the address is left", || !receives_for().contains(mac));
        });
    }

    #[test]
    fn a_shared_address_needs_no_packet_socket() {
        in_namespace("a_shared_address_needs_no_packet_socket", || {
            veth();
            let interface = Interface::named("wpf0").unwrap();
            let shared = Rules::shared([addr("fd00::2")], [80]);
            let own = Rules::own([addr("fd00::2")]);
            as_nobody(|| {
                let none = Groups::join(&interface, Some(OTHER), &shared).unwrap();
                assert!(none.macs().is_empty());
                let refused = Groups::join(&interface, Some(OTHER), &own).unwrap_err();
                assert!(refused.to_string().contains("CAP_NET_RAW"), "{refused}");
            });
        });
    }

    #[test]
    fn an_address_that_no_nic_takes_is_named() {
        in_namespace("an_address_that_no_nic_takes", || {
            let gone = Interface {
                index: 4242,
                ..interface()
            };
            let rules = Rules::own([addr("10.0.0.2")]);
            let refused = Groups::join(&gone, Some(OTHER), &rules).unwrap_err();
            let text = refused.to_string();
            assert!(text.contains("02:00:00:00:00:08"), "{text}");
        });
    }
}
