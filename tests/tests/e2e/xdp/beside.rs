//! The kernel on the same interface goes on: another address of it, or another
//! port of the same address.

use std::io::ErrorKind;
use std::net::TcpListener;

use rustix::process::Signal;
use wirepath_tests::echo::{Echo, Session};
use wirepath_tests::lab::SERVER_END;
use wirepath_tests::load::Load;
use wirepath_tests::wait::wait_until;
use wirepath_tests::{Lab, Serve, Server};

on_xdp! {
    a_service_of_another_address_goes_on,
    a_service_of_another_port_goes_on,
    both_addresses_answer_the_peer,
    a_shared_address_stays_the_kernels,
    a_shared_port_is_reserved,
}

/// An address of the server's kernel that is not the server's.
const HOST: &str = "10.0.0.9";
const HOST6: &str = "fd00::9";

fn give_other_addresses(lab: &Lab) {
    let net = lab.server_net();
    net.ip(&format!("addr add {HOST}/24 dev {SERVER_END}"));
    net.ip(&format!("-6 addr add {HOST6}/64 nodad dev {SERVER_END}"));
}

fn a_service_of_another_address_goes_on(lab: &Lab) {
    give_other_addresses(lab);
    for at in [format!("{HOST}:22"), format!("[{HOST6}]:22")] {
        check_service_goes_on(lab, &at, || Serve::new(lab).without_capture());
    }
}

fn a_service_of_another_port_goes_on(lab: &Lab) {
    lab.give_host_addresses();
    for at in ["10.0.0.2:22", "[fd00::2]:22"] {
        check_service_goes_on(lab, at, || Serve::new(lab).sharing_host().without_capture());
    }
}

/// What an operator does over SSH: the session, and new ones, must outlive
/// start, load, a kill and an orderly end of the server.
#[track_caller]
fn check_service_goes_on<'lab>(lab: &'lab Lab, at: &str, serve: impl Fn() -> Serve<'lab>) {
    let _service = Echo::start(lab.server_net(), at).unwrap();
    let session = Session::open(lab.net(), at).unwrap();
    session.check_goes_on();
    let check = || {
        session.check_goes_on();
        Session::open(lab.net(), at).unwrap().check_goes_on();
    };
    for signal in [Signal::KILL, Signal::TERM] {
        let mut server = serve().start();
        server.check_alive();
        check();
        let load = Load::start(lab.net(), Server::V4, "/", 4);
        load.wait_for(200);
        check();
        let before = load.served();
        assert!(before > 0);
        server.daemon().signal(signal);
        server.daemon().wait();
        check();
        drop(load);
    }
    let mut server = serve().start();
    server.check_alive();
    check();
    server.daemon().signal(Signal::TERM);
    server.daemon().wait();
    check();
}

#[track_caller]
fn check_ping(lab: &Lab, to: &str) {
    let args = ["-c", "3", "-i", "0.05", "-W", "10", to];
    let said = lab.run("ping", &args).ok().text();
    assert!(said.contains("3 received, 0% packet loss"), "{said}");
    assert!(!said.contains("DUP!"), "{said}");
}

/// The neighbour entry that the client has for an address, which it is made to
/// learn anew.
#[track_caller]
fn check_learns(lab: &Lab, addr: &str) {
    lab.net().ip("neigh flush all");
    check_ping(lab, addr);
    let entry = lab.net().ip(&format!("neigh show {addr}"));
    assert!(entry.contains("lladdr"), "{entry:?}");
}

fn both_addresses_answer_the_peer(lab: &Lab) {
    give_other_addresses(lab);
    let server = Serve::new(lab).start();
    server.check_alive();
    server.connect(Server::V6).unwrap();
    let echoes = || server.counter("echo_replies");
    for (addr, is_ours) in [
        ("10.0.0.2", true),
        ("fd00::2", true),
        (HOST, false),
        (HOST6, false),
    ] {
        let before = echoes();
        check_learns(lab, addr);
        let answered = echoes() - before;
        assert_eq!(answered, if is_ours { 3 } else { 0 }, "{addr}");
    }
}

fn a_shared_address_stays_the_kernels(lab: &Lab) {
    lab.give_host_addresses();
    let server = Serve::new(lab).sharing_host().start();
    server.check_alive();
    assert_eq!(server.connect(Server::V6).unwrap().get("/").status, 200);
    for addr in ["10.0.0.2", "fd00::2"] {
        check_learns(lab, addr);
        // Fragments, which only the kernel puts together.
        let args = ["-c", "3", "-i", "0.05", "-W", "10", "-s", "4000", addr];
        lab.run("ping", &args).ok();
    }
    assert_eq!(server.counter("echo_replies"), 0);
    // Other ports are refused by the kernel, as it does.
    for to in ["10.0.0.2:8081", "[fd00::2]:8081"] {
        let err = server.connect(to).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::ConnectionRefused, "{to}");
    }
    server.stop();
    wait_until("the kernel refuses the port that was the server's", || {
        let refused = lab.net().connect(Server::V4.parse().unwrap());
        refused.is_err_and(|err| err.kind() == ErrorKind::ConnectionRefused)
    });
}

fn a_shared_port_is_reserved(lab: &Lab) {
    lab.give_host_addresses();
    let take = || {
        lab.server_net()
            .enter(|| TcpListener::bind("0.0.0.0:8080").map(drop))
    };
    let server = Serve::new(lab).sharing_host().start();
    assert_eq!(take().unwrap_err().kind(), ErrorKind::AddrInUse);
    server.check_alive();
    server.stop();
    take().unwrap();

    let holder = lab
        .server_net()
        .enter(|| TcpListener::bind("10.0.0.2:8080"))
        .unwrap();
    let refused = Serve::new(lab).sharing_host().run();
    assert!(!refused.status.success(), "{refused}");
    for said in ["8080", "ss -"] {
        assert!(refused.stderr.contains(said), "{said}: {refused}");
    }
    drop(holder);
    Serve::new(lab).sharing_host().start().check_alive();
}
