//! What a server prints at its start: where it listens and how to get there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use wirepath_stack::Cidr;

use super::plan::Plan;

/// Of a TAP, whose other end is this machine's kernel.
pub fn on_tap(tap: &str, addrs: &[Cidr], listen: SocketAddr) -> String {
    let listening = listening(addrs, listen);
    let mut text = where_it_listens(tap, &listening);
    text += "\nTo reach it from this machine, in another shell:\n";
    for cidr in addrs {
        if let Some(peer) = peer_addr(*cidr) {
            text += &format!("  sudo ip addr add {peer} dev {tap}\n");
        }
    }
    text += &format!("  sudo ip link set {tap} up\n");
    text += &curls(&listening);
    text + HOW_TO_END
}

/// Of a network card or veth, whose other end is another machine; `given` says
/// how the kernel gave it.
pub fn on_xdp(interface: &str, plan: &Plan, listen: SocketAddr, given: &str) -> String {
    let listening = listening(&plan.addrs, listen);
    let mut text = where_it_listens(interface, &listening);
    text += &format!("{given}\n");
    let ports = match &plan.ports {
        None => "all TCP and UDP ports".to_owned(),
        Some(ports) => format!("TCP and UDP {}", ranges(ports)),
    };
    text += &if plan.shared {
        format!("{ports} of these addresses come here; all else stays the host's\n")
    } else {
        format!(
            "{ports}, ARP, NDP and ICMP of these addresses come here; all else stays the host's\n"
        )
    };
    text += "\nTo reach it from another machine on the link, or the other end of a veth pair:\n";
    text +=
        "  sudo ethtool -K PEER tx off     # a veth's other end, or its checksums are not there\n";
    text += &curls(&listening);
    text += "This machine itself cannot: what it sends there does not come in by the card.\n";
    text + HOW_TO_END
}

/// The listener's addresses: those of the server that it is bound to.
fn listening(addrs: &[Cidr], listen: SocketAddr) -> Vec<SocketAddr> {
    addrs
        .iter()
        .map(|cidr| cidr.addr)
        .filter(|addr| listen.ip().is_unspecified() || listen.ip() == *addr)
        .map(|addr| SocketAddr::new(addr, listen.port()))
        .collect()
}

fn where_it_listens(device: &str, listening: &[SocketAddr]) -> String {
    listening
        .iter()
        .map(|addr| format!("listening on http://{addr}/ (device {device})\n"))
        .collect()
}

fn curls(listening: &[SocketAddr]) -> String {
    listening
        .iter()
        .map(|addr| format!("  curl http://{addr}/\n"))
        .collect()
}

/// Ascending ports as they are given: `80,443,8000-8010`.
fn ranges(ports: &[u16]) -> String {
    let runs = ports.chunk_by(|a, b| a.checked_add(1) == Some(*b));
    let texts: Vec<_> = runs
        .map(|run| match run {
            [one] => one.to_string(),
            [first, .., last] => format!("{first}-{last}"),
            [] => String::new(),
        })
        .collect();
    texts.join(",")
}

const HOW_TO_END: &str = "\nCtrl-C ends it once requests in flight are answered.\n";

/// Of the kernel's socket that is bound to `bound`.
pub fn on_kernel(bound: SocketAddr) -> String {
    let port = bound.port();
    let (at, of) = match bound.ip() {
        ip if !ip.is_unspecified() => (bound, String::new()),
        IpAddr::V4(_) => (
            (Ipv4Addr::LOCALHOST, port).into(),
            format!(" and port {port} of every other address of this machine"),
        ),
        // It takes both families.
        IpAddr::V6(_) => (
            (Ipv4Addr::LOCALHOST, port).into(),
            format!(
                ", http://{}/ and port {port} of every other address of this machine",
                SocketAddr::from((Ipv6Addr::LOCALHOST, port))
            ),
        ),
    };
    format!(
        "listening on http://{at}/{of} (the kernel's sockets)\n\nTo reach it from this machine, \
         in another shell:\n  curl http://{at}/\n{HOW_TO_END}"
    )
}

/// A greeting that also says where the path is shown.
pub fn with_page(greeting: &str) -> String {
    let body = greeting.strip_suffix(HOW_TO_END).unwrap_or(greeting);
    let url = body
        .split([' ', '\n', ','])
        .find(|word| word.starts_with("http://"));
    let url = url.unwrap_or("/");
    format!("{body}\nThe path, live, in a browser: {url}debug/wirepath/\n{HOW_TO_END}")
}

/// An address for the kernel's end of the link: the first of the network that
/// is not the server's.
fn peer_addr(cidr: Cidr) -> Option<Cidr> {
    let candidate = |n: u32| -> Option<IpAddr> {
        match cidr.addr {
            IpAddr::V4(a) => {
                let mask = u32::MAX
                    .checked_shl(32 - u32::from(cidr.prefix))
                    .unwrap_or(0);
                let addr = Ipv4Addr::from_bits((a.to_bits() & mask).checked_add(n)?);
                // The last address of a network is its broadcast address.
                (addr.to_bits() | mask != u32::MAX).then_some(addr.into())
            }
            IpAddr::V6(a) => {
                let mask = u128::MAX
                    .checked_shl(128 - u32::from(cidr.prefix))
                    .unwrap_or(0);
                let bits = (a.to_bits() & mask).checked_add(n.into())?;
                Some(std::net::Ipv6Addr::from_bits(bits).into())
            }
        }
    };
    (1..=2)
        .filter_map(candidate)
        .find(|addr| *addr != cidr.addr && cidr.contains(*addr))
        .map(|addr| Cidr {
            addr,
            prefix: cidr.prefix,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_end_gets_a_free_address_of_the_network() {
        for (ours, want) in [
            ("10.0.0.2/24", Some("10.0.0.1/24")),
            ("10.0.0.1/24", Some("10.0.0.2/24")),
            ("fd00::2/64", Some("fd00::1/64")),
            ("10.0.0.1/32", None),
        ] {
            let got = peer_addr(ours.parse().unwrap()).map(|c| c.to_string());
            assert_eq!(got.as_deref(), want, "{ours}");
        }
    }

    #[test]
    fn the_kernels_greeting_says_where() {
        for (bound, first) in [
            (
                "127.0.0.1:80",
                "listening on http://127.0.0.1:80/ (the kernel's",
            ),
            (
                "[fd00::2]:80",
                "listening on http://[fd00::2]:80/ (the kernel's",
            ),
            (
                "0.0.0.0:80",
                "listening on http://127.0.0.1:80/ and port 80 of every",
            ),
            (
                "[::]:80",
                "listening on http://127.0.0.1:80/, http://[::1]:80/ and port 80",
            ),
        ] {
            let text = on_kernel(bound.parse().unwrap());
            assert!(text.starts_with(first), "{text}");
            let (_, url) = first.split_once("on ").unwrap();
            let url = url.split([' ', ',']).next().unwrap();
            let text = with_page(&text);
            let page = format!("in a browser: {url}debug/wirepath/\n");
            assert!(text.contains(&page), "{text}");
            assert!(text.ends_with(HOW_TO_END), "{text}");
        }
    }
}
