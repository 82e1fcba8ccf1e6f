//! What is asked of `wirepath serve` and cannot be: one clear line, exit 2.

use wirepath_tests::nobody::Nobody;
use wirepath_tests::process::{self, Finished};
use wirepath_tests::server::command;
use wirepath_tests::{Lab, Serve};

/// Runs `wirepath serve` with a usable TAP and address, and these.
#[track_caller]
fn serve(lab: &Lab, args: &[&str]) -> Finished {
    process::run(command(lab).arg("serve").args(args))
}

/// Checks that a run was refused with one line that names `culprit`.
#[track_caller]
fn check_refused(finished: &Finished, culprit: &str) {
    assert_eq!(finished.status.code(), Some(2), "{finished}");
    let lines: Vec<_> = finished.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "one line: {finished}");
    assert!(lines[0].contains(culprit), "it names {culprit}: {finished}");
}

#[test]
fn values_that_cannot_be() {
    let lab = lab!("values_that_cannot_be");
    let tap = ["--tap", "wp0"];
    let addr = ["--addr", "10.0.0.2/24"];
    let both = [tap, addr].concat();
    let with = |more: &[&'static str]| [&both[..], more].concat();
    for (args, culprit) in [
        (with(&["--frobnicate"]), "--frobnicate"),
        (with(&["--listen", "nowhere"]), "nowhere"),
        (with(&["--listen", ":99999"]), "99999"),
        (with(&["--mac", "02:00"]), "02:00"),
        (with(&["--mac", "ff:ff:ff:ff:ff:ff"]), "ff:ff:ff:ff:ff:ff"),
        (with(&["--maxprocs", "0"]), "0"),
        (with(&["--maxprocs", "many"]), "many"),
        (with(&["--gateway", "192.168.9.1"]), "192.168.9.1"),
        (with(&["--root", "/no/such/folder"]), "/no/such/folder"),
        (with(&["--pcap", "/no/such/folder/x"]), "/no/such/folder/x"),
        (
            [&tap[..], &["--addr", "10.0.0.2/33"]].concat(),
            "10.0.0.2/33",
        ),
        ([&tap[..], &["--addr", "10.0.0"]].concat(), "10.0.0"),
        ([&tap[..], &["--addr", "10.0.0.0/24"]].concat(), "10.0.0.0"),
        (
            [&tap[..], &["--addr", "10.0.0.255/24"]].concat(),
            "10.0.0.255",
        ),
        (
            [&tap[..], &["--addr", "224.0.0.1/24"]].concat(),
            "224.0.0.1",
        ),
        ([&tap[..], &["--addr", "ff02::1/64"]].concat(), "ff02::1"),
        (
            [&["--tap", "a-name-that-is-too-long"], &addr[..]].concat(),
            "a-name-that-is-too-long",
        ),
    ] {
        println!("{args:?}");
        check_refused(&serve(&lab, &args), culprit);
    }
}

#[test]
fn a_tap_that_is_taken() {
    let lab = lab!("a_tap_that_is_taken");
    let server = Serve::new(&lab).start();
    let second = serve(&lab, &["--tap", "wp0", "--addr", "10.0.0.9/24"]);
    check_refused(&second, "wp0");
    server.check_alive();
}

#[test]
fn a_name_that_is_another_kind_of_interface() {
    let lab = lab!("a_name_that_is_another_kind_of_interface");
    check_refused(
        &serve(&lab, &["--tap", "lo", "--addr", "10.0.0.2/24"]),
        "lo",
    );
}

#[test]
fn one_who_lacks_the_right() {
    let lab = lab!(bare "one_who_lacks_the_right");
    let nobody = Nobody::new().unwrap();
    let mut command = nobody.command_in(lab.net());
    command.arg(nobody.program());
    command.args(["serve", "--tap", "wp0", "--addr", "10.0.0.2/24"]);
    check_refused(&process::run(&mut command), "wp0");
}
