//! The server's addresses and ports against the host's.

use std::net::IpAddr;

use super::{Case, Finding, Mend};
use crate::doctor::facts::{HostAddress, Protocol};

pub fn judge(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if case.plan.share_host {
        findings.push(shared(case));
        findings.extend(ports(case));
    } else {
        findings.extend(case.plan.addrs.iter().map(|addr| own(case, *addr)));
    }
    findings
}

/// An address that the server is to have for itself.
fn own(case: &Case<'_>, addr: IpAddr) -> Finding {
    let holder = case.facts.addresses.iter().find(|held| held.addr == addr);
    let Some(HostAddress {
        prefix, interface, ..
    }) = holder
    else {
        return Finding::ok(
            "address",
            format!("{addr} is not one of the host's addresses"),
        );
    };
    Finding::problem(
        "address",
        format!("the host has {addr} already, on {interface}"),
    )
    .why(
        "both the kernel and the server would answer for it: ARP and neighbour discovery for \
         an address of the server's own must be the server's alone",
    )
    .mend(Mend::advice(
        "share it: --share-host with --ports instead of --addr; the kernel keeps ARP, ICMP \
         and all other ports",
    ))
    .mend(
        Mend::change(
            &format!("ip addr del {addr}/{prefix} dev {interface}"),
            &format!("ip addr add {addr}/{prefix} dev {interface}"),
        )
        .remark("not run by --fix: connections to the host by this address, SSH too, end"),
    )
}

/// The addresses of the interface that others reach.
fn on_interface<'a>(case: &'a Case<'_>) -> impl Iterator<Item = IpAddr> + 'a {
    let held = case.facts.addresses.iter();
    let held = held.filter(|held| held.interface == case.name());
    held.map(|held| held.addr)
        .filter(|addr| !is_link_local(*addr))
}

fn is_link_local(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr.is_link_local(),
        IpAddr::V6(addr) => addr.is_unicast_link_local(),
    }
}

/// The addresses that the server is to share: those given, or all.
fn shared(case: &Case<'_>) -> Finding {
    let name = case.name();
    let held: Vec<_> = on_interface(case).collect();
    let asked = &case.plan.addrs;
    if let Some(missing) = asked.iter().find(|addr| !held.contains(addr)) {
        return not_shared(format!("the host has no {missing} on {name} to share"));
    }
    if held.is_empty() {
        return not_shared(format!("{name} has no address to share"));
    }
    let list = if asked.is_empty() { &held } else { asked };
    let list: Vec<_> = list.iter().map(IpAddr::to_string).collect();
    Finding::ok(
        "address",
        format!("{name} has {} to share", list.join(", ")),
    )
}

fn not_shared(found: String) -> Finding {
    Finding::problem("address", found)
        .why(
            "with --share-host the server answers at addresses that the kernel has on the \
             interface",
        )
        .mend(Mend::advice(
            "give the server an address of its own: --addr without --share-host",
        ))
}

fn ports(case: &Case<'_>) -> Vec<Finding> {
    let listeners = case.facts.listeners.iter().flatten();
    let ours: Vec<_> = on_interface(case).collect();
    let taken = listeners
        .filter(|listener| case.plan.ports.contains(&listener.port))
        .filter(|listener| listener.addr.is_unspecified() || ours.contains(&listener.addr));
    let mut taken: Vec<_> = taken
        .map(|listener| (listener.port, listener.protocol))
        .collect();
    taken.sort_by_key(|(port, protocol)| (*port, *protocol == Protocol::Udp));
    taken.dedup();
    taken
        .into_iter()
        .map(|(port, protocol)| port_taken(port, protocol))
        .collect()
}

fn port_taken(port: u16, protocol: Protocol) -> Finding {
    let (name, option) = match protocol {
        Protocol::Tcp => ("TCP", "t"),
        Protocol::Udp => ("UDP", "u"),
    };
    Finding::problem(
        "ports",
        format!("{name} port {port} has a server of the kernel's already"),
    )
    .why(
        "the ports are reserved with kernel sockets, so that nobody else takes them: that \
         fails (EADDRINUSE), and the program would take the other server's traffic",
    )
    .mend(
        Mend::command(&format!("ss -Hln{option}p sport = :{port}"))
            .remark("shows who has it; then end that server, or choose another port"),
    )
}
