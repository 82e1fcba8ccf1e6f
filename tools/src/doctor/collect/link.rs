//! Interfaces and addresses, from rtnetlink(7).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp,
};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::conversation::Conversation;
use crate::doctor::facts::{HostAddress, Link, Mode, Program};

/// An interface, and where it stands among the others.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// The interface.
    pub link: Link,
    /// The index of its master.
    pub master: Option<u32>,
    /// The index of what it is linked to: a veth's peer, a VLAN's parent.
    pub linked_to: Option<u32>,
    /// The network namespace that `linked_to` is in, when it is another.
    pub linked_namespace: Option<i32>,
}

/// The interfaces of the network namespace that the thread is in.
///
/// # Errors
/// What the kernel said.
pub fn links() -> io::Result<Vec<Standing>> {
    ask_links(LinkMessage::default(), NLM_F_DUMP)
}

/// The interface `index` of the namespace with this id.
///
/// # Errors
/// What the kernel said; it wants CAP_NET_ADMIN there.
pub fn link_in(namespace: i32, index: u32) -> io::Result<Standing> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::IfNetnsId(namespace));
    let found = ask_links(message, NLM_F_ACK)?.into_iter().next();
    found.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// The id under which the namespace that the thread is in knows another one,
/// an open file of which is given (RTM_GETNSID, ip-netns(8)).
///
/// # Errors
/// What the kernel said; `NotFound` for one that it has no id for.
pub fn namespace_id(namespace: BorrowedFd<'_>) -> io::Result<i32> {
    let mut message = NsidMessage::default();
    let fd = u32::try_from(namespace.as_raw_fd()).expect("an open file's number is no error");
    message.attributes.push(NsidAttribute::Fd(fd));
    let mut conversation = Conversation::open(NETLINK_ROUTE)?;
    let answers = conversation.ask(RouteNetlinkMessage::GetNsId(message), NLM_F_ACK)?;
    let ids = answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewNsId(message) => Some(message.attributes),
        _ => None,
    });
    let id = ids.flatten().find_map(|attribute| match attribute {
        NsidAttribute::Id(id) if id >= 0 => Some(id),
        _ => None,
    });
    id.ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn ask_links(mut message: LinkMessage, flags: u16) -> io::Result<Vec<Standing>> {
    // Statistics are of no use here.
    let skip = LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
    message.attributes.push(skip);
    let mut conversation = Conversation::open(NETLINK_ROUTE)?;
    let answers = conversation.ask(RouteNetlinkMessage::GetLink(message), flags)?;
    Ok(answers
        .into_iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(standing(&link)),
            _ => None,
        })
        .collect())
}

fn standing(message: &LinkMessage) -> Standing {
    let mut found = Standing::default();
    let link = &mut found.link;
    link.index = message.header.index;
    link.is_up = message.header.flags.contains(LinkFlags::Up);
    link.has_carrier = message.header.flags.contains(LinkFlags::LowerUp);
    let mut bus = (None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::NumRxQueues(n) => link.rx_queues = *n,
            LinkAttribute::NumTxQueues(n) => link.tx_queues = *n,
            LinkAttribute::Address(mac)
                if message.header.link_layer_type == LinkLayerType::Ether =>
            {
                link.mac = Some(mac_text(mac));
            }
            LinkAttribute::LinkInfo(info) => link.kind = kind(info),
            LinkAttribute::Xdp(xdp) => link.programs = programs(xdp),
            LinkAttribute::ParentDevBusName(name) => bus.0 = Some(name.clone()),
            LinkAttribute::ParentDevName(name) => bus.1 = Some(name.clone()),
            LinkAttribute::Controller(index) => found.master = Some(*index),
            LinkAttribute::Link(index) => found.linked_to = Some(*index),
            LinkAttribute::LinkNetNsId(id) => found.linked_namespace = Some(*id),
            _ => {}
        }
    }
    found.link.device = bus.0.zip(bus.1);
    found
}

fn mac_text(mac: &[u8]) -> String {
    let bytes: Vec<_> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

fn kind(info: &[LinkInfo]) -> Option<String> {
    info.iter().find_map(|part| match part {
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    })
}

fn programs(xdp: &[LinkXdp]) -> Vec<Program> {
    let attached = xdp.iter().filter_map(|part| match part {
        LinkXdp::DrvProgId(id) => Some((*id, Mode::Driver)),
        LinkXdp::SkbProgId(id) => Some((*id, Mode::Generic)),
        LinkXdp::HwProgId(id) => Some((*id, Mode::Hardware)),
        _ => None,
    });
    attached
        .filter(|(id, _)| *id != 0)
        .map(|(id, mode)| Program { id, mode })
        .collect()
}

/// The addresses of the network namespace that the thread is in; `name` knows
/// the names of interfaces.
///
/// # Errors
/// What the kernel said.
pub fn addresses(name: impl Fn(u32) -> Option<String>) -> io::Result<Vec<HostAddress>> {
    let mut conversation = Conversation::open(NETLINK_ROUTE)?;
    let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let answers = conversation.ask(question, NLM_F_DUMP)?;
    Ok(answers
        .into_iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewAddress(address) => address_of(&address, &name),
            _ => None,
        })
        .collect())
}

fn address_of(
    message: &AddressMessage,
    name: impl Fn(u32) -> Option<String>,
) -> Option<HostAddress> {
    let mut addr = None;
    for attribute in &message.attributes {
        match attribute {
            // Of a point-to-point link, `Address` is the other end's.
            AddressAttribute::Local(local) => addr = Some(*local),
            AddressAttribute::Address(any) => addr = addr.or(Some(*any)),
            _ => {}
        }
    }
    Some(HostAddress {
        addr: addr?,
        prefix: message.header.prefix_len,
        interface: name(message.header.index)?,
    })
}
