//! A server that dies leaves the interface as it found it.

use std::time::Duration;

use rustix::process::Signal;
use wirepath_tests::bpf::{Objects, attached};
use wirepath_tests::lab::SERVER_END;
use wirepath_tests::load::Load;
use wirepath_tests::wait::{poll_until, wait_until};
use wirepath_tests::{Device, Lab, Serve, Server};

on_xdp! {
    a_kill_under_load_leaves_nothing_and_a_restart_succeeds_at_once,
    the_mode_asked_for_is_the_mode_there_is,
}

/// How long the kernel may take to close what a killed process held.
const AFTER_A_KILL: Duration = Duration::from_secs(5);

fn a_kill_under_load_leaves_nothing_and_a_restart_succeeds_at_once(lab: &Lab) {
    let net = lab.server_net();
    net.ip(&format!("addr add 10.0.0.9/24 dev {SERVER_END}"));
    let load = Load::start(lab.net(), Server::V4, "/", 8);
    for _ in 0..5 {
        let mut server = Serve::new(lab).without_capture().start();
        load.wait_for(500);
        let program = attached(net, SERVER_END).expect("a program is attached");
        let objects = Objects::of_program(program.id);
        assert!(!objects.maps.is_empty() && !objects.links.is_empty());
        server.daemon().signal(Signal::KILL);
        server.daemon().wait();
        // A second server does not wait for the first one's remains to go.
        let mut next = Serve::new(lab).without_capture().start();
        next.check_alive();
        next.daemon().signal(Signal::KILL);
        next.daemon().wait();
        lab.run("ping", &["-c", "1", "-W", "10", "10.0.0.9"]).ok();
        let none = || attached(net, SERVER_END).is_none();
        assert!(poll_until(AFTER_A_KILL, none), "no program stays");
        wait_until("programs, maps and links are gone", || {
            objects.living() == Objects::default()
        });
    }
    drop(load);
    Serve::new(lab).start().check_alive();
}

fn the_mode_asked_for_is_the_mode_there_is(lab: &Lab) {
    let server = Serve::new(lab).start();
    server.check_alive();
    let want = match lab.device() {
        Device::XdpGeneric => "generic",
        _ => "driver",
    };
    let program = attached(lab.server_net(), SERVER_END).unwrap();
    assert_eq!(program.mode, want, "{program:?}");
    let (status, printed) = server.stop();
    assert!(status.success(), "{printed}");
    assert!(printed.contains(want), "it says so: {printed}");
    assert!(printed.contains("copy"), "and how it is bound: {printed}");
    assert_eq!(attached(lab.server_net(), SERVER_END), None);
}
