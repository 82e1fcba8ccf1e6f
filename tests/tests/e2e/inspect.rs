//! `wirepath inspect`, with tcpdump and tshark as its judges.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use wirepath_tests::{Lab, Serve, bin, process};

use crate::capture::tshark;

/// What `wirepath inspect` prints.
#[track_caller]
fn inspect(file: &Path, args: &[&str]) -> String {
    let mut command = Command::new(bin::wirepath());
    process::run(command.arg("inspect").arg(file).args(args))
        .ok()
        .text()
}

#[track_caller]
fn json(file: &Path, args: &[&str]) -> Vec<Value> {
    let text = inspect(file, &[args, &["--json"]].concat());
    let of = |line| serde_json::from_str(line).unwrap();
    text.lines().map(of).collect()
}

/// A server is asked for a few pages, and captured.
fn clean(lab: &Lab) -> PathBuf {
    let path = lab.dir().join("clean.pcapng");
    let server = Serve::new(lab)
        .without_capture()
        .args(&["--pcap", path.to_str().unwrap()])
        .start();
    for n in 0..20 {
        assert_eq!(server.get(&format!("/users/u{n}")).status, 200);
    }
    lab.run("curl", &["-s", "http://[fd00::2]:8080/"]).ok();
    lab.run("ping", &["-c", "2", "-i", "0.2", "10.0.0.2"]).ok();
    lab.run("ping", &["-c", "2", "-i", "0.2", "fd00::2"]).ok();
    server.stop();
    path
}

/// A server whose network loses frames is asked for a large body, and for small
/// ones, and captured.
fn lossy(lab: &Lab) -> PathBuf {
    let path = lab.dir().join("lossy.pcapng");
    let args = [
        "--pcap",
        path.to_str().unwrap(),
        "--impair",
        "loss=2%,reorder=1%,seed=3",
    ];
    let server = Serve::new(lab).without_capture().args(&args).start();
    for n in 0..2 {
        assert_eq!(server.get("/big").body.len(), 1 << 20);
        assert_eq!(server.get(&format!("/users/u{n}")).status, 200);
    }
    let (status, printed) = server.stop();
    assert!(status.success(), "{printed}");
    path
}

fn sum(findings: &Value, names: &[&str]) -> u64 {
    names
        .iter()
        .filter_map(|name| findings[name].as_u64())
        .sum()
}

#[test]
fn what_was_lost_is_told_as_tshark_tells_it() {
    let lab = lab!("inspect_lossy");
    let file = lossy(&lab);
    let report = &json(&file, &[])[0];
    let count = |filter: &str| tshark(&lab, &file, filter, "frame.number").len() as u64;
    assert_eq!(report["packets"].as_u64(), Some(count("frame")));
    let findings = &report["tcp"]["findings"];
    // tshark tells a segment that came late by its time alone; that it came
    // late, both must say.
    let again = [
        "retransmission",
        "fast_retransmission",
        "spurious_retransmission",
        "out_of_order",
    ];
    let late = count("tcp.analysis.retransmission || tcp.analysis.out_of_order");
    assert!(late > 10, "{late}");
    assert_eq!(sum(findings, &again), late, "{findings}");
    assert_eq!(
        sum(findings, &["previous_missing"]),
        count("tcp.analysis.lost_segment")
    );
    assert_eq!(
        sum(findings, &["zero_window"]),
        count("tcp.analysis.zero_window")
    );
    assert_eq!(sum(findings, &["reset"]), count("tcp.flags.reset == 1"));
    let streams = tshark(&lab, &file, "tcp", "tcp.stream");
    let last: u64 = streams
        .iter()
        .map(|stream| stream.parse().unwrap())
        .max()
        .unwrap();
    assert_eq!(report["tcp"]["connections"].as_u64(), Some(last + 1));
    // What a timeout cost is named.
    let stalls = report["tcp"]["stalls"].as_array().unwrap();
    assert!(
        stalls
            .iter()
            .any(|stall| stall["cause"] == "retransmission"),
        "{stalls:?}"
    );
}

#[test]
fn requests_and_bodies_are_those_that_tshark_finds() {
    let lab = lab!("inspect_http");
    let file = lossy(&lab);
    let exchanges = json(&file, &["--http"]);
    let ours = |field: &str| -> Vec<String> {
        let text = |value: &Value| {
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_string)
        };
        exchanges
            .iter()
            .map(|exchange| text(&exchange[field]))
            .collect()
    };
    let by_status = |uri: &str| tshark(&lab, &file, uri, "http.request.uri");
    let mut asked = by_status("http.request");
    let mut found = ours("target");
    asked.sort();
    found.sort();
    assert_eq!(found, asked);
    assert!(ours("status").iter().all(|status| status == "200"));
    assert!(ours("is_whole").iter().all(|is_whole| is_whole == "true"));
    let dir = lab.dir().join("objects");
    inspect(&file, &["--export", dir.to_str().unwrap()]);
    let bodies: Vec<_> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(bodies.len(), 4);
    let big = bodies
        .iter()
        .filter(|path| path.metadata().unwrap().len() == 1 << 20)
        .count();
    assert_eq!(big, 2);
    let text = inspect(&file, &["--follow", "0"]);
    assert!(text.contains("GET /big HTTP/1.1") && text.contains("HTTP/1.1 200 OK"));
    // Into files: those of a connection that there is, and none for another.
    let into = lab.dir().join("streams");
    let into_arg = into.to_str().unwrap();
    let names = inspect(&file, &["--follow", "0", "--into", into_arg]);
    assert!(names.starts_with("stream-0.client  "), "{names}");
    let refused = process::run(
        Command::new(bin::wirepath())
            .arg("inspect")
            .arg(&file)
            .args(["--follow", "999", "--into", into_arg]),
    );
    assert_eq!(refused.status.code(), Some(2), "{refused}");
    assert!(refused.stderr.contains("stream 999 is no TCP"), "{refused}");
    assert_eq!(std::fs::read_dir(&into).unwrap().count(), 2);
}

#[test]
fn the_list_is_that_of_tcpdump() {
    let lab = lab!("inspect_list");
    let path = clean(&lab);
    let file = path.to_str().unwrap();
    let theirs = lab.run("tcpdump", &["-nn", "-r", file]).ok();
    let is_line = |line: &&str| line.as_bytes().first().is_some_and(u8::is_ascii_digit);
    let theirs = theirs.text();
    let theirs: Vec<&str> = theirs.lines().filter(is_line).collect();
    let ours = inspect(&path, &["--packets"]);
    let ours: Vec<&str> = ours.lines().collect();
    assert!(ours.len() > 100);
    assert_eq!(ours, theirs);
}

#[test]
fn packed_and_piped_files_are_read_alike() {
    let lab = lab!("inspect_packed");
    let file = clean(&lab);
    let plain = inspect(&file, &["--packets"]);
    for (program, args, name) in [
        ("gzip", &["-k"][..], "clean.pcapng.gz"),
        ("tcpdump", &["-w", "clean.pcap", "-r"], "clean.pcap"),
    ] {
        let path = file.to_str().unwrap();
        process::run(
            Command::new(program)
                .args(args)
                .arg(path)
                .current_dir(lab.dir()),
        )
        .ok();
        assert_eq!(
            inspect(&lab.dir().join(name), &["--packets"]),
            plain,
            "{name}"
        );
    }
    let piped = Command::new(bin::wirepath())
        .args(["inspect", "-", "--packets"])
        .stdin(std::fs::File::open(&file).unwrap())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&piped.stdout), plain);
}
