//! `wirepath demo`: one request through the fourteen stages, for anybody.

use std::path::Path;
use std::process::Command;

use wirepath_tests::bin;
use wirepath_tests::nobody::Nobody;
use wirepath_tests::process::{self, Finished};

/// The stages, as every part of the project names them.
const STAGES: [&str; 14] = [
    "nic.rx",
    "driver.poll",
    "flow.lookup",
    "tcp.ingress",
    "fd.ready",
    "g.ready",
    "g.run",
    "conn.read",
    "conn.write",
    "tcp.segment",
    "nic.tx",
    "driver.kick",
    "nic.done",
    "http.handler",
];

/// Checks what the demo printed, and the capture that it left in `dir`.
#[track_caller]
fn check_demo(finished: Finished, dir: &Path) {
    let said = finished.ok().text();
    for stage in STAGES {
        assert!(said.contains(stage), "{stage} is in {said}");
    }
    let capture = dir.join("demo.pcapng");
    assert!(said.contains("demo.pcapng"), "{said}");
    let filter = |filter: &str| {
        let mut tshark = Command::new("tshark");
        let args = ["-d", "tcp.port==8080,http", "-Y", filter];
        tshark.arg("-n").arg("-r").arg(&capture).args(args);
        process::run(&mut tshark).ok().text()
    };
    assert_eq!(filter("_ws.malformed"), "");
    assert!(filter("http.request.method == GET").contains("GET / HTTP/1.1"));
    assert!(filter("http.response.code == 200").contains("200 OK"));
}

#[test]
fn as_root() {
    let lab = lab!(bare "demo_as_root");
    let mut demo = Command::new(bin::wirepath());
    demo.arg("demo").current_dir(lab.dir());
    check_demo(process::run(&mut demo), lab.dir());
}

#[test]
fn as_nobody() {
    let _lab = lab!(bare "demo_as_nobody");
    let nobody = Nobody::new().unwrap();
    let mut demo = nobody.command();
    demo.arg(nobody.program()).arg("demo");
    check_demo(process::run(&mut demo), nobody.dir());
}

#[test]
fn where_namespaces_are_forbidden() {
    let _lab = lab!(bare "demo_where_namespaces_are_forbidden");
    let nobody = Nobody::new().unwrap();
    // A user namespace with limits of its own, set to none.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces
        echo 0 > /proc/sys/user/max_net_namespaces
        exec \"$@\"";
    let mut demo = nobody.command();
    demo.args([
        "unshare",
        "--user",
        "--map-root-user",
        "sh",
        "-ec",
        script,
        "sh",
    ]);
    demo.arg(nobody.program()).arg("demo");
    let finished = process::run(&mut demo);
    let said = format!("{}{}", finished.text(), finished.stderr);
    assert!(
        said.contains("namespace"),
        "it says what was refused: {said}"
    );
    assert!(said.contains("cable"), "it goes on over the cable: {said}");
    check_demo(finished, nobody.dir());
}
