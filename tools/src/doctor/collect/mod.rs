//! Looking: /proc, /sys, rtnetlink and two families of generic netlink.
//!
//! Nothing is changed. What cannot be seen (a missing right, an older kernel,
//! a driver that does not tell) is a line in [`Facts::unseen`], never an end.
//! Only an interface that does not exist is an error.
//!
//! Netlink is preferred to /sys and to running `ethtool`: /sys shows the
//! network namespace that it was mounted in, and `ethtool` may be missing.

mod attribute;
mod conversation;
mod device;
mod ethtool;
mod generic;
mod link;
mod listeners;
mod machine;
mod netdev;
mod peer;

use std::fmt::Display;
use std::fs;
use std::io;
use std::path::Path;

use self::device::Device;
use self::ethtool::Ethtool;
use self::link::Standing;
use self::netdev::Netdev;
use super::facts::{Build, Facts, Interface, Master, Unseen};
use super::shell::printable;

/// Why there are no facts.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// No such interface.
    #[error("there is no interface {name} in this network namespace; there are: {}", there.join(", "))]
    NoInterface {
        /// Its name.
        name: String,
        /// Those that there are.
        there: Vec<String>,
    },
    /// rtnetlink does not answer.
    #[error("cannot list the network interfaces: {0}")]
    Links(#[source] io::Error),
}

/// What could not be seen so far.
#[derive(Debug, Default)]
pub struct Seen(Vec<Unseen>);

impl Seen {
    fn not(&mut self, what: impl Into<String>, why: impl Display) {
        self.0.push(Unseen {
            what: what.into(),
            why: why.to_string(),
        });
    }

    /// The answer, or none and a note of why.
    fn or_note<T>(&mut self, what: &str, answer: io::Result<T>) -> Option<T> {
        match answer {
            Ok(answer) => Some(answer),
            // The driver has no such thing: seen, and not there.
            Err(err) if err.kind() == io::ErrorKind::Unsupported => None,
            Err(err) => {
                self.not(what, err);
                None
            }
        }
    }

    /// A number under /proc/sys.
    fn number(&mut self, key: &str) -> Option<u32> {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        match fs::read_to_string(path) {
            Ok(text) => text.trim().parse().ok(),
            Err(err) if err.kind() == io::ErrorKind::NotFound && key.starts_with("net.") => {
                self.not(
                    key,
                    "it shows only in the machine's first network namespace",
                );
                None
            }
            Err(err) => {
                self.not(key, err);
                None
            }
        }
    }
}

/// Looks at the machine, and at the interface called `interface`.
///
/// # Errors
/// [`CollectError`]: no such interface, or no answer about any.
pub fn collect(interface: Option<&str>) -> Result<Facts, CollectError> {
    let mut seen = Seen::default();
    let machine = machine::look(&mut seen);
    let links = link::links().map_err(CollectError::Links)?;
    let interface = interface
        .map(|name| look_at(name, &links, &mut seen))
        .transpose()?;
    let name_of = |index| find(&links, index).map(|it| it.link.name.clone());
    let addresses = seen.or_note("the host's addresses", link::addresses(name_of));
    Ok(Facts {
        build: Build {
            version: env!("CARGO_PKG_VERSION").into(),
            has_xdp: cfg!(feature = "xdp"),
        },
        machine,
        interface,
        interfaces: names(&links),
        addresses: addresses.unwrap_or_default(),
        listeners: seen.or_note("the host's sockets", listeners::listeners()),
        unseen: seen.0,
    })
}

fn names(links: &[Standing]) -> Vec<String> {
    links.iter().map(|it| it.link.name.clone()).collect()
}

fn find(links: &[Standing], index: u32) -> Option<&Standing> {
    links.iter().find(|it| it.link.index == index)
}

fn look_at(name: &str, links: &[Standing], seen: &mut Seen) -> Result<Interface, CollectError> {
    let Some(it) = links.iter().find(|it| it.link.name == name) else {
        return Err(CollectError::NoInterface {
            name: name.to_owned(),
            there: names(links).iter().map(|name| printable(name)).collect(),
        });
    };
    let mut interface = Interface {
        link: it.link.clone(),
        vlans: vlans_on(it, links),
        master: it.master.and_then(|index| find(links, index)).map(master),
        ..Interface::default()
    };
    look_at_device(&mut interface);
    look_at_class(&mut interface, seen);
    ask_netdev(&mut interface, seen);
    ask_ethtool(&mut interface, seen);
    if it.link.kind.as_deref() == Some("veth") {
        interface.peer = peer::look(it, links, seen);
    }
    Ok(interface)
}

fn vlans_on(it: &Standing, links: &[Standing]) -> Vec<String> {
    links
        .iter()
        .filter(|other| other.link.kind.as_deref() == Some("vlan"))
        .filter(|other| other.linked_namespace.is_none())
        .filter(|other| other.linked_to == Some(it.link.index))
        .map(|other| other.link.name.clone())
        .collect()
}

fn master(it: &Standing) -> Master {
    Master {
        name: it.link.name.clone(),
        kind: it.link.kind.clone(),
        programs: it.link.programs.clone(),
    }
}

fn look_at_device(interface: &mut Interface) {
    let named = interface.link.device.as_ref();
    let device = named.and_then(|(bus, name)| Device::find(bus, name));
    let Some(device) = device else {
        // What software makes is called after its driver.
        interface.driver.clone_from(&interface.link.kind);
        return;
    };
    interface.driver = device.driver();
    let driver = interface.driver.as_deref();
    interface.driver_version = driver.and_then(device::module_version);
    interface.numa_node = device.numa_node();
    interface.virtual_functions = device.virtual_functions();
    let irqs = device.irqs().into_iter();
    interface.irqs = irqs
        .filter_map(|irq| Some((irq, device::irq_cpus(irq)?)))
        .collect();
}

/// What only /sys/class/net tells, if it shows this network namespace.
fn look_at_class(interface: &mut Interface, seen: &mut Seen) {
    let class = Path::new("/sys/class/net").join(&interface.link.name);
    let number = |file: &str| device::read(class.join(file))?.parse().ok();
    if number("ifindex") != Some(u64::from(interface.link.index)) {
        seen.not(
            "napi_defer_hard_irqs and gro_flush_timeout",
            "/sys shows another network namespace; run it with `ip netns exec`, which mounts the \
             right one",
        );
        return;
    }
    interface.defer_hard_irqs = number("napi_defer_hard_irqs");
    interface.gro_flush_timeout = number("gro_flush_timeout");
}

fn ask_netdev(interface: &mut Interface, seen: &mut Seen) {
    let opened = Netdev::open(interface.link.index);
    if let Err(err) = &opened
        && err.kind() == io::ErrorKind::NotFound
    {
        seen.not(
            "what the driver says of its XDP",
            "the kernel has no netdev netlink family (it came with Linux 6.3)",
        );
        return;
    }
    let Some(mut netdev) = seen.or_note("the netdev netlink family", opened) else {
        return;
    };
    interface.xdp = seen.or_note("what the driver says of its XDP", netdev.xdp_features());
    interface.rx_queues = seen.or_note("the receive queues", netdev.rx_queues());
}

fn ask_ethtool(interface: &mut Interface, seen: &mut Seen) {
    let opened = Ethtool::open(interface.link.index);
    let Some(mut ethtool) = seen.or_note("the ethtool netlink family", opened) else {
        return;
    };
    interface.features = seen.or_note("offloads", ethtool.features());
    interface.private_flags = seen.or_note("the driver's own flags", ethtool.private_flags());
    interface.channels = seen.or_note("channels", ethtool.channels());
    interface.rings = seen.or_note("rings", ethtool.rings());
    interface.rss_table = seen.or_note("the indirection table", ethtool.rss_table());
}
