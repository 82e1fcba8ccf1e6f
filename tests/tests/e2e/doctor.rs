//! `wirepath doctor` on veth pairs: what it finds, mends, and how that is
//! undone.

use std::process::Command;

use serde_json::Value;
use wirepath_tests::Lab;
use wirepath_tests::bin;
use wirepath_tests::netns::Netns;
use wirepath_tests::nobody::Nobody;
use wirepath_tests::process::{Finished, run};

/// A pair whose `near` end is in the lab's namespace, up and with the offloads
/// that a new veth has.
fn lay_pair(lab: &Lab) {
    lab.net().ip("link add near type veth peer name far");
    lab.net().ip("link set near up");
    lab.net().ip("link set far up");
}

fn doctor(lab: &Lab, args: &[&str]) -> Finished {
    let mut command = lab.net().command(bin::wirepath());
    run(command.arg("doctor").args(args))
}

/// What it prints as JSON.
#[track_caller]
fn report(finished: &Finished) -> Value {
    serde_json::from_slice(&finished.stdout).unwrap_or_else(|err| panic!("{err}: {finished}"))
}

/// How bad the finding `id` is.
#[track_caller]
fn severity(report: &Value, id: &str) -> String {
    let findings = report["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["id"] == id);
    let found = found.unwrap_or_else(|| panic!("nothing about {id} in {report}"));
    found["severity"].as_str().unwrap().to_owned()
}

/// The problems, but for a `wirepath` that was built without AF_XDP.
fn problems(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().unwrap().iter();
    let bad = findings.filter(|finding| finding["severity"] == "problem");
    let ids = bad.map(|finding| finding["id"].as_str().unwrap());
    ids.filter(|id| cfg!(feature = "xdp") || *id != "build")
        .collect()
}

/// All features of an interface, as the doctor saw them.
fn features(net: &Netns, interface: &str) -> Value {
    let mut command = net.command(bin::wirepath());
    let finished = run(command.args(["doctor", "--json", interface]));
    report(&finished)["facts"]["interface"]["features"].take()
}

/// The commands that `--fix` says undo what it did.
#[track_caller]
fn undo_commands(finished: &Finished) -> Vec<String> {
    let said = finished.stderr.lines();
    let after = said.skip_while(|line| !line.contains("to undo:")).skip(1);
    let commands = after.take_while(|line| line.starts_with("  "));
    commands.map(|line| line.trim().to_owned()).collect()
}

#[track_caller]
fn check_found_mended_and_undone(lab: &Lab, far: &Netns) {
    let before = features(far, "far");
    assert_eq!(before["tx-checksum-ip-generic"]["on"], true, "{before}");
    let finished = doctor(lab, &["--json", "near"]);
    assert_eq!(finished.status.code(), Some(1), "{finished}");
    assert_eq!(problems(&report(&finished)), ["peer-checksum"]);

    let finished = doctor(lab, &["--json", "--fix", "near"]);
    assert!(
        finished.stderr.contains("ethtool -K far tx off"),
        "{finished}"
    );
    let mended = report(&finished);
    assert_eq!(severity(&mended, "peer-checksum"), "ok");
    assert_eq!(problems(&mended), [""; 0]);
    let has_xdp = cfg!(feature = "xdp");
    assert_eq!(finished.status.success(), has_xdp, "{finished}");
    let after = features(far, "far");
    assert_eq!(after["tx-checksum-ip-generic"]["on"], false, "{after}");
    assert_eq!(after["tx-tcp-segmentation"]["on"], false, "{after}");

    let undo = undo_commands(&finished);
    assert_eq!(undo.len(), 1, "{finished}");
    run(lab.net().command("sh").args(["-c", &undo[0]])).ok();
    assert_eq!(features(far, "far"), before);
    assert_eq!(
        problems(&report(&doctor(lab, &["--json", "near"]))),
        ["peer-checksum"]
    );
}

#[test]
fn a_peers_offloads_are_found_mended_and_put_back() {
    let lab = lab!(bare "a_peers_offloads_are_found_mended_and_put_back");
    lay_pair(&lab);
    check_found_mended_and_undone(&lab, lab.net());
}

#[test]
fn a_peer_in_another_namespace_is_mended_too() {
    let lab = lab!(bare "a_peer_in_another_namespace_is_mended_too");
    lay_pair(&lab);
    let far = Netns::create().unwrap();
    lab.net().ip(&format!("link set far netns {}", far.name()));
    far.ip("link set far up");
    check_found_mended_and_undone(&lab, &far);
}

#[test]
fn what_is_mended_needs_no_mending() {
    let lab = lab!(bare "what_is_mended_needs_no_mending");
    lay_pair(&lab);
    doctor(&lab, &["--fix", "near"]);
    let again = doctor(&lab, &["--fix", "near"]);
    assert!(again.stderr.contains("nothing"), "{again}");
    assert!(undo_commands(&again).is_empty(), "{again}");
}

#[test]
fn a_veth_is_seen_as_it_is() {
    let lab = lab!(bare "a_veth_is_seen_as_it_is");
    lab.net()
        .ip("link add near numrxqueues 2 type veth peer name far numtxqueues 2");
    lab.net().ip("link set far up mtu 9000");
    lab.net().ip("addr add 10.0.0.1/24 dev near");
    let addr = ["--addr", "10.0.0.1/24"];
    let seen = report(&doctor(&lab, &[&["--json", "near"], &addr[..]].concat()));
    assert_eq!(severity(&seen, "link"), "problem", "it is down");
    assert_eq!(severity(&seen, "native-mtu"), "warning");
    assert_eq!(severity(&seen, "address"), "problem");
    assert_eq!(seen["facts"]["interface"]["driver"], "veth");
    assert_eq!(seen["facts"]["interface"]["xdp"]["zero_copy"], false);
    assert_eq!(seen["facts"]["interface"]["peer"]["mtu"], 9000);

    lab.net().ip("link set near up");
    lab.net().ip("link set far mtu 1500");
    lab.net().ip("addr del 10.0.0.1/24 dev near");
    let seen = report(&doctor(&lab, &[&["--json", "near"], &addr[..]].concat()));
    for id in ["link", "native-mtu", "address", "mtu", "native"] {
        assert_eq!(severity(&seen, id), "ok", "{id}");
    }
}

/// An interface that a server has already.
#[cfg(feature = "xdp")]
#[test]
fn a_server_that_has_the_interface_is_seen() {
    use wirepath_tests::process::Daemon;
    use wirepath_tests::wait::wait_until;
    let lab = lab!(bare "a_server_that_has_the_interface_is_seen");
    lay_pair(&lab);
    let mut command = lab.net().command(bin::wirepath());
    command.args(["serve", "--xdp", "near", "--addr", "10.0.0.2/24"]);
    let mut server = Daemon::start(&mut command).unwrap();
    server.wait_for("listening on");
    let seen = report(&doctor(&lab, &["--json", "near"]));
    assert_eq!(severity(&seen, "program"), "problem");
    assert_eq!(severity(&seen, "queue-taken"), "problem");
    drop(server);
    // The kernel lets go of a closed socket's queue a little later.
    wait_until("the queue is free", || {
        let seen = report(&doctor(&lab, &["--json", "near"]));
        problems(&seen) == ["peer-checksum"]
    });
}

#[test]
fn one_without_rights_is_told_what_was_not_seen() {
    let lab = lab!(bare "one_without_rights_is_told_what_was_not_seen");
    lay_pair(&lab);
    let far = Netns::create().unwrap();
    lab.net().ip(&format!("link set far netns {}", far.name()));
    let nobody = Nobody::new().unwrap();
    let mut command = nobody.command_in(lab.net());
    command
        .arg(nobody.program())
        .args(["doctor", "--json", "near"]);
    let finished = run(&mut command);
    assert_eq!(finished.status.code(), Some(1), "{finished}");
    let seen = report(&finished);
    assert_eq!(severity(&seen, "capabilities"), "problem");
    assert_eq!(
        severity(&seen, "peer-checksum"),
        "warning",
        "it cannot be seen"
    );
    let unseen = seen["unseen"].as_array().unwrap();
    let is_peer = |it: &Value| it["what"].as_str().unwrap().contains("peer");
    assert!(unseen.iter().any(is_peer), "{unseen:?}");
    // The same to be read: each command as one who is not root types it.
    let mut command = nobody.command_in(lab.net());
    let text = run(command.arg(nobody.program()).args(["doctor", "near"])).text();
    assert!(text.contains("not seen"), "{text}");
}

#[test]
fn an_interface_that_is_not_there() {
    let lab = lab!(bare "an_interface_that_is_not_there");
    let finished = doctor(&lab, &["nowhere0"]);
    assert_eq!(finished.status.code(), Some(2), "{finished}");
    let lines: Vec<_> = finished.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{finished}");
    assert!(
        lines[0].contains("nowhere0") && lines[0].contains("lo"),
        "{finished}"
    );
}

#[test]
fn recorded_facts_are_judged_alike() {
    let lab = lab!(bare "recorded_facts_are_judged_alike");
    lay_pair(&lab);
    let file = lab.dir().join("facts.json");
    let file = file.to_str().unwrap();
    let here = report(&doctor(&lab, &["near", "--json", "--save-facts", file]));
    let elsewhere = run(Command::new(bin::wirepath()).args(["doctor", "--json", "--facts", file]));
    let elsewhere = report(&elsewhere);
    assert_eq!(elsewhere["findings"], here["findings"]);
    assert_eq!(elsewhere["facts"], here["facts"]);

    std::fs::write(file, "no facts").unwrap();
    let finished = run(Command::new(bin::wirepath()).args(["doctor", "--facts", file]));
    assert_eq!(finished.status.code(), Some(2), "{finished}");
    assert!(finished.stderr.contains(file), "{finished}");
}
