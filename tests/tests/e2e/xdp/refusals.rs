//! What cannot be served on, and what is said of it.

use wirepath_tests::lab::SERVER_END;
use wirepath_tests::nobody::Nobody;
use wirepath_tests::process::{self, Finished};
use wirepath_tests::server::command;
use wirepath_tests::{Lab, Serve};

on_xdp! {
    interfaces_that_cannot_be_served_on,
    an_interface_that_is_down,
    modes_and_queues_that_there_are_not,
    one_who_lacks_the_rights,
}

const ADDR: [&str; 2] = ["--addr", "10.0.0.2/24"];

/// Runs `wirepath serve` on `interface` in the lab's mode.
#[track_caller]
fn serve_on(lab: &Lab, interface: &str) -> Finished {
    let mut command = command(lab);
    command
        .arg("serve")
        .args(lab.device().serve_args(interface));
    process::run(command.args(ADDR))
}

/// Checks that a run was refused with a text that holds all of `want`.
#[track_caller]
fn check_refused(finished: &Finished, want: &[&str]) {
    assert_eq!(finished.status.code(), Some(2), "{finished}");
    println!("{}", finished.stderr);
    for want in want {
        let said = finished.stderr.to_lowercase();
        assert!(said.contains(&want.to_lowercase()), "{want}: {finished}");
    }
}

fn interfaces_that_cannot_be_served_on(lab: &Lab) {
    check_refused(&serve_on(lab, "nope0"), &["nope0", "link' lists"]);
    check_refused(&serve_on(lab, "lo"), &["lo"]);
    check_refused(&serve_on(lab, "a-name-that-is-too-long"), &["too-long"]);
}

fn an_interface_that_is_down(lab: &Lab) {
    let net = lab.server_net();
    net.ip(&format!("link set {SERVER_END} down"));
    check_refused(&serve_on(lab, SERVER_END), &["ip link set", "wp0", "up"]);
    net.ip(&format!("link set {SERVER_END} up"));
    Serve::new(lab).start().check_alive();
}

fn modes_and_queues_that_there_are_not(lab: &Lab) {
    let serve = |args: &[&str]| {
        let mut command = command(lab);
        command.args(["serve", "--xdp", SERVER_END]).args(ADDR);
        process::run(command.args(args))
    };
    check_refused(&serve(&["--bind", "zerocopy"]), &["wp0", "--bind"]);
    check_refused(&serve(&["--queues", "0-3"]), &["wp0", "--queues"]);
    for (args, culprit) in [
        (["--frame-len", "3000"], "3000"),
        (["--frames", "0"], "0"),
        (["--ring-len", "100"], "100"),
        (["--queues", "3-1"], "3-1"),
        (["--attach", "offload"], "offload"),
        (["--busy-poll", "soon"], "soon"),
    ] {
        check_refused(&serve(&args), &[culprit]);
    }
}

fn one_who_lacks_the_rights(lab: &Lab) {
    let nobody = Nobody::new().unwrap();
    let mut command = nobody.command_in(lab.server_net());
    command.arg(nobody.program()).arg("serve");
    command.args(lab.device().serve_args(SERVER_END)).args(ADDR);
    let refused = process::run(&mut command);
    check_refused(&refused, &["CAP_NET_ADMIN", "CAP_BPF", "CAP_NET_RAW"]);
}
