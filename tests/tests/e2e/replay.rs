//! `wirepath replay`: what a kernel's client sent comes once more.

use std::path::Path;
use std::process::Command;

use wirepath_tests::process::Finished;
use wirepath_tests::{Lab, Serve, bin, process, server};

fn replay(file: &Path, args: &[&str]) -> Finished {
    process::run(
        Command::new(bin::wirepath())
            .arg("replay")
            .arg(file)
            .args(args),
    )
}

/// A capture of a kernel's client at our server.
fn captured(lab: &Lab) -> std::path::PathBuf {
    let path = lab.dir().join("own.pcapng");
    let server = Serve::new(lab)
        .without_capture()
        .args(&["--pcap", path.to_str().unwrap()])
        .start();
    for to in [server::Server::V4, server::Server::V6] {
        let mut client = server.connect(to).unwrap();
        for path in ["/", "/users/ann", "/nope", "/big", "/sleep?ms=30"] {
            client.get(path);
        }
    }
    let url = "http://10.0.0.2:8080/echo";
    lab.run("curl", &["-s", "-d", &"x".repeat(50_000), url])
        .ok();
    let (status, printed) = server.stop();
    assert!(status.success(), "{printed}");
    path
}

#[test]
fn a_capture_of_ours_is_answered_as_captured_each_time() {
    let lab = lab!("replay_own");
    let file = captured(&lab);
    let first = replay(&file, &["--packets", "--at", "60"]).ok().text();
    assert!(
        first.contains("3 connections to 10.0.0.2:8080 and [fd00::2]:8080"),
        "{first}"
    );
    assert_eq!(
        first.matches("bytes of the server as captured").count(),
        3,
        "{first}"
    );
    assert!(first.contains("«accept» [IO wait"), "{first}");
    let second = replay(&file, &["--packets", "--at", "60"]).ok().text();
    assert_eq!(first, second);
    let json = replay(&file, &["--json", "--packets"]).ok().text();
    assert_eq!(json, replay(&file, &["--json", "--packets"]).ok().text());
    assert!(
        json.trim_end().ends_with("\"is_as_captured\":true}"),
        "{json}"
    );
}

#[test]
fn another_answer_is_told_with_its_place() {
    let lab = lab!("replay_other");
    let file = captured(&lab);
    let mut bytes = std::fs::read(&file).unwrap();
    let place = bytes
        .windows(8)
        .position(|window| window == b"user ann")
        .unwrap();
    bytes[place + 5] = b'b';
    let other = lab.dir().join("other.pcapng");
    std::fs::write(&other, bytes).unwrap();
    let finished = replay(&other, &[]);
    assert_eq!(finished.status.code(), Some(1), "{finished}");
    let text = finished.text();
    assert!(
        text.contains("  captured: bnn\\n") && text.contains("  now:      ann\\n"),
        "{text}"
    );
}
