//! The far end of a veth: its offloads decide what arrives.
//!
//! It is often in another network namespace. One that has a name under
//! /run/netns is looked into by a thread that enters it, which needs
//! CAP_SYS_ADMIN; nothing is changed there.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::ethtool::Ethtool;
use super::link::{self, Standing};
use super::{Seen, find};
use crate::doctor::facts::Peer;

/// Where `ip netns` keeps the names of namespaces.
const NAMES: &str = "/run/netns";

/// Looks for the peer of the veth `it`.
pub fn look(it: &Standing, links: &[Standing], seen: &mut Seen) -> Option<Peer> {
    let index = it.linked_to?;
    if it.linked_namespace.is_none() {
        let peer = find(links, index)?;
        let asked = Ethtool::open(index);
        let asked = seen.or_note("the peer's offloads", asked);
        return Some(Peer {
            is_here: true,
            ..peer_of(peer, asked)
        });
    }
    Some(look_elsewhere(it, index, seen))
}

fn peer_of(peer: &Standing, mut ethtool: Option<Ethtool>) -> Peer {
    let channels = ethtool.as_mut().and_then(|asked| asked.channels().ok());
    Peer {
        name: Some(peer.link.name.clone()),
        is_here: false,
        namespace: None,
        mtu: Some(peer.link.mtu),
        tx_queues: channels.map(|channels| channels.sending()),
        features: ethtool.and_then(|mut asked| asked.features().ok()),
    }
}

fn look_elsewhere(it: &Standing, index: u32, seen: &mut Seen) -> Peer {
    let named = it.linked_namespace.and_then(named_namespace);
    let looked = match &named {
        Some((_, file)) => inside(file, || look_inside(index)),
        None => Err(io::Error::other("its network namespace has no name here")),
    };
    let name = named.map(|(name, _)| name);
    let peer = looked.unwrap_or_else(|err| {
        seen.not("the offloads of the veth's peer", err);
        let namespace = it.linked_namespace.unwrap_or_default();
        let peer = link::link_in(namespace, index).map(|peer| peer_of(&peer, None));
        peer.unwrap_or_default()
    });
    Peer {
        namespace: name,
        ..peer
    }
}

/// The name and the file of the namespace with this id.
fn named_namespace(id: i32) -> Option<(String, File)> {
    let entries = fs::read_dir(NAMES).ok()?;
    entries.flatten().find_map(|entry| {
        let file = File::open(entry.path()).ok()?;
        let is_it = link::namespace_id(file.as_fd()).is_ok_and(|found| found == id);
        is_it.then(|| (entry.file_name().to_string_lossy().into_owned(), file))
    })
}

/// The interface `index` of the namespace that the thread is in.
fn look_inside(index: u32) -> io::Result<Peer> {
    let links = link::links()?;
    let found = find(&links, index).ok_or(io::ErrorKind::NotFound)?;
    Ok(peer_of(found, Some(Ethtool::open(index)?)))
}

/// Runs `look` on a thread inside the namespace.
fn inside<T: Send>(namespace: &File, look: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            look()
        });
        let ended = thread.join();
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
