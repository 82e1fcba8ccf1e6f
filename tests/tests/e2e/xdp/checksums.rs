//! A peer that leaves its checksums to its device: over veth they arrive undone.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Duration;

use wirepath_tests::process;
use wirepath_tests::server::{CAPTURE, command};
use wirepath_tests::{Lab, Serve, Server};

use crate::capture::tshark;

on_xdp! {
    undone_checksums_are_dropped_explained_and_never_answered,
}

/// Long enough for the client to send its SYN twice (RFC 6298 §2: after 1 s).
const TWO_TRIES: Duration = Duration::from_millis(2500);

fn undone_checksums_are_dropped_explained_and_never_answered(lab: &Lab) {
    lab.set_client_offloads(&["tx", "on"]);
    let mut server = Serve::new(lab).start();
    for to in [Server::V4, Server::V6] {
        let to = to.parse().unwrap();
        let tried = lab
            .net()
            .enter(|| TcpStream::connect_timeout(&to, TWO_TRIES));
        assert_eq!(tried.unwrap_err().kind(), ErrorKind::TimedOut, "{to}");
    }
    server.daemon().wait_for("tx off");
    let advice = server.daemon().output();
    assert!(advice.contains("ethtool -K"), "{advice}");
    let told = process::run(command(lab).args(["doctor", "wp0"])).text();
    assert!(
        told.contains("ethtool -K") && told.contains("tx off"),
        "{told}"
    );

    lab.set_client_offloads(&["tx", "off"]);
    server.check_alive();
    server.connect(Server::V6).unwrap();
    assert!(server.counter("checksum_partial") >= 4);
    server.stop();
    let capture = lab.dir().join(CAPTURE);
    let answers = |filter: &str| tshark(lab, &capture, filter, "frame.number").len();
    // Those of the three connections that came after the mend.
    assert_eq!(answers("tcp.srcport == 8080 && tcp.flags.syn == 1"), 3);
    assert_eq!(answers("tcp.srcport == 8080 && tcp.flags.reset == 1"), 0);
}
