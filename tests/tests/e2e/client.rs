//! The client side of a stack on a device, with the kernel as its server:
//! datagrams, connects that fail for a reason that the kernel gives, and names
//! that it answers for.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs, UdpSocket as KernelSocket};
use std::thread;
use std::time::Duration;

use wirepath_driver::Queue;
use wirepath_driver::tap::{Tap, TapOptions};
use wirepath_runtime::net::{TcpStream, UdpSocket, lookup_host};
use wirepath_runtime::{Runtime, Stack, sleep};
use wirepath_stack::Config;
use wirepath_tests::lab::SERVER_END;
use wirepath_tests::netns::Inside;
use wirepath_tests::{Device, Lab};

on_every_device! {
    datagrams_go_both_ways_between_stack_and_kernel,
    the_kernel_says_why_nothing_arrives,
    names_are_found_and_dialled,
}

const ANY: &str = "0.0.0.0:0";

/// Runs `client` in a goroutine whose stack is on the lab's device, with the
/// kernel that `client` is given as gateway and name server, when the stack's
/// IPv6 address is usable.
fn run(lab: &Lab, client: impl FnOnce(&Kernel) + Send + 'static) {
    let kernel = Kernel(lab.net().inside());
    let greeter = kernel.greeter();
    lab.server_net().enter(|| {
        let addrs = ["10.0.0.2/24", "fd00::2/64"];
        let addrs = addrs.iter().map(|addr| addr.parse().unwrap());
        let mut config = Config::new("02:00:00:00:00:02".parse().unwrap(), addrs.collect());
        config.gateways = vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        config.name_servers = vec!["10.0.0.1:53".parse().unwrap()];
        let stack = Stack::new(config, vec![queue(lab)]).unwrap();
        let runtime = Runtime::builder().max_procs(2).stack(stack).build();
        let test = move || {
            let dial = || TcpStream::connect(addr(&format!("[fd00::1]:{greeter}")));
            for _ in 0..200 {
                if dial().is_ok() {
                    return client(&kernel);
                }
                sleep(Duration::from_millis(50));
            }
            panic!("the stack's IPv6 address never became usable");
        };
        runtime.unwrap().run(test).unwrap();
    });
}

/// The queue of the lab's device.
fn queue(lab: &Lab) -> Box<dyn Queue> {
    match lab.device() {
        Device::Tap => Box::new(Tap::open(&TapOptions::new(SERVER_END)).unwrap()),
        #[cfg(feature = "xdp")]
        device => crate::xdp::queue(device),
        #[cfg(not(feature = "xdp"))]
        device => unreachable!("{device:?} is tested with the feature xdp"),
    }
}

/// The other end of the cable: what the kernel there does.
struct Kernel(Inside);

impl Kernel {
    fn bind_udp(&self, at: impl ToSocketAddrs + Send) -> KernelSocket {
        self.0.enter(|| KernelSocket::bind(at).unwrap())
    }

    /// A service that greets whoever connects; its port.
    fn greeter(&self) -> u16 {
        let listener = self.0.enter(|| TcpListener::bind("[::]:0").unwrap());
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            while let Ok((mut stream, peer)) = listener.accept() {
                let _ = write!(stream, "hello {}", peer.ip().to_canonical());
            }
        });
        port
    }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn hello(stream: io::Result<TcpStream>) -> String {
    let mut said = String::new();
    stream.unwrap().read_to_string(&mut said).unwrap();
    said
}

fn datagrams_go_both_ways_between_stack_and_kernel(lab: &Lab) {
    run(lab, |kernel| {
        for (near, far, longest) in [
            ("10.0.0.2", "10.0.0.1", 1_472),
            ("fd00::2", "fd00::1", 1_452),
        ] {
            let at = |host: &str| SocketAddr::new(host.parse().unwrap(), 0);
            // The kernel echoes what the stack sends.
            let echo = kernel.bind_udp(at(far));
            let echo_at = echo.local_addr().unwrap();
            let lens = [0, 1, 2, 3, 1_000, longest];
            let server = thread::spawn(move || {
                let mut buf = [0; 2048];
                for _ in lens {
                    let (len, from) = echo.recv_from(&mut buf).unwrap();
                    echo.send_to(&buf[..len], from).unwrap();
                }
            });
            let socket = UdpSocket::bind(at(near)).unwrap();
            let mut buf = [0; 2048];
            for len in lens {
                let data: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
                assert_eq!(socket.send_to(&data, echo_at).unwrap(), len);
                let (got, from) = socket.recv_from(&mut buf).unwrap();
                assert_eq!((&buf[..got], from), (&data[..], echo_at));
            }
            server.join().unwrap();
            let sent = socket.send_to(&[0; 1_473], echo_at);
            assert_eq!(sent.unwrap_err().kind(), ErrorKind::InvalidInput);
            // The stack echoes what the kernel sends.
            let echo_at = socket.local_addr().unwrap();
            let asker = kernel.bind_udp(at(far));
            let client = thread::spawn(move || {
                asker.connect(echo_at).unwrap();
                let mut buf = [0; 2048];
                for len in lens {
                    asker.send(&vec![7; len]).unwrap();
                    assert_eq!(asker.recv(&mut buf).unwrap(), len);
                }
            });
            for _ in lens {
                let (len, from) = socket.recv_from(&mut buf).unwrap();
                socket.send_to(&buf[..len], from).unwrap();
            }
            client.join().unwrap();
        }
    });
}

fn the_kernel_says_why_nothing_arrives(lab: &Lab) {
    // The kernel routes, and has been told what it cannot reach.
    for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        lab.net().set_sysctl(key, "1").unwrap();
    }
    lab.net().ip("route add unreachable 192.0.2.0/24");
    lab.net().ip("route add prohibit 198.51.100.0/24");
    lab.net().ip("-6 route add unreachable 2001:db8::/64");
    run(lab, |_| {
        for (to, want) in [
            ("10.0.0.1:9", ErrorKind::ConnectionRefused),
            ("[fd00::1]:9", ErrorKind::ConnectionRefused),
            ("10.0.0.77:9", ErrorKind::HostUnreachable),
            ("[fd00::77]:9", ErrorKind::HostUnreachable),
            ("192.0.2.1:9", ErrorKind::HostUnreachable),
            ("198.51.100.1:9", ErrorKind::HostUnreachable),
            ("[2001:db8::1]:9", ErrorKind::NetworkUnreachable),
        ] {
            let failed = TcpStream::connect(addr(to)).unwrap_err();
            assert_eq!(failed.kind(), want, "tcp {to}");
        }
        for to in ["10.0.0.1:9", "[fd00::1]:9"] {
            let socket = UdpSocket::bind(addr(ANY)).unwrap();
            socket.connect(addr(to)).unwrap();
            socket.send(b"x").unwrap();
            let failed = socket.recv(&mut [0; 8]).unwrap_err();
            assert_eq!(failed.kind(), ErrorKind::ConnectionRefused, "udp {to}");
        }
    });
}

fn names_are_found_and_dialled(lab: &Lab) {
    run(lab, |kernel| {
        let names = kernel.bind_udp("10.0.0.1:53");
        thread::spawn(move || {
            let mut buf = [0; 512];
            while let Ok((len, from)) = names.recv_from(&mut buf) {
                let _ = names.send_to(&answer(&buf[..len]), from);
            }
        });
        let port = kernel.greeter();
        let want: [IpAddr; 2] = [addr("[fd00::1]:0").ip(), addr("10.0.0.1:0").ip()];
        assert_eq!(lookup_host("kernel.test").unwrap(), want);
        let failed = lookup_host("none.test").unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::NotFound, "{failed}");
        let said = hello(TcpStream::connect_host(&format!("kernel.test:{port}")));
        assert!(
            ["hello fd00::2", "hello 10.0.0.2"].contains(&said.as_str()),
            "{said}"
        );
        let failed = TcpStream::connect_host("kernel.test:9").unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::ConnectionRefused);
    });
}

/// `none.test` does not exist; every other name is the kernel's end.
fn answer(query: &[u8]) -> Vec<u8> {
    let mut reply = query.to_vec();
    reply[2] |= 0x80;
    if query[13..].starts_with(b"none") {
        reply[3] = 3;
        return reply;
    }
    // The question ends with its type and class.
    let is_v6 = query[query.len() - 3] == 28;
    reply[7] = 1;
    reply.extend_from_slice(&[0xc0, 12, 0, query[query.len() - 3], 0, 1, 0, 0, 0, 9, 0]);
    match addr(if is_v6 { "[fd00::1]:0" } else { "10.0.0.1:0" }).ip() {
        IpAddr::V4(ip) => reply.extend([4].into_iter().chain(ip.octets())),
        IpAddr::V6(ip) => reply.extend([16].into_iter().chain(ip.octets())),
    }
    reply
}
