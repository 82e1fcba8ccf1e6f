//! Starting and stopping again and again: what a server takes of the kernel, it
//! gives back.

use std::process::Command;

use wirepath_tests::bpf::{Objects, attached};
use wirepath_tests::lab::SERVER_END;
use wirepath_tests::nobody::Nobody;
use wirepath_tests::process::Daemon;
use wirepath_tests::wait::wait_until;
use wirepath_tests::{Lab, Server};

use rustix::process::Signal;
use wirepath_tests::http::Client;

on_xdp! {
    a_hundred_starts_leave_nothing,
}

/// What a server needs to be root for, otherwise.
const RIGHTS: &str = "+net_admin,+net_raw,+bpf,+perfmon";

/// Memory that the user's processes may lock together: four times a server's, so
/// that few of those that were leaked leave no room for the next. The
/// kernel counts it for each user, not for root (`xdp_umem_account_pages`).
const MEMLOCK: &str = "--memlock=8388608";

fn a_hundred_starts_leave_nothing(lab: &Lab) {
    let nobody = Nobody::new().unwrap();
    let net = lab.server_net();
    let mut seen = Objects::default();
    for n in 0..100 {
        let mut server = Daemon::start(&mut serve_as(lab, &nobody)).unwrap();
        server.wait_for("listening on");
        let program = attached(net, SERVER_END).expect("a program is attached");
        seen.extend(Objects::of_program(program.id));
        if n % 10 == 0 {
            let stream = lab.net().connect(Server::V4.parse().unwrap()).unwrap();
            assert_eq!(Client::new(stream).get("/").status, 200);
        }
        let signal = [Signal::TERM, Signal::KILL][n % 2];
        server.signal(signal);
        server.wait();
    }
    assert_eq!(seen.programs.len(), 100);
    assert_eq!(seen.links.len(), 100);
    assert!(
        seen.maps.len() >= 200,
        "a map of sockets and one of counters"
    );
    wait_until("programs, maps and links are gone", || {
        seen.living() == Objects::default()
    });
    assert_eq!(attached(net, SERVER_END), None);
}

/// A server of nobody's, with the rights that it needs and that limit.
fn serve_as(lab: &Lab, nobody: &Nobody) -> Command {
    let mut command = lab.server_net().command("prlimit");
    command.args([MEMLOCK, "setpriv", "--pdeathsig", "KILL"]);
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.arg(format!("--inh-caps={RIGHTS}"));
    command.arg(format!("--ambient-caps={RIGHTS}"));
    command.arg(nobody.program()).arg("serve");
    command.args(lab.device().serve_args(SERVER_END));
    command.args(["--addr", "10.0.0.2/24", "--frames", "1024"]);
    command
}
