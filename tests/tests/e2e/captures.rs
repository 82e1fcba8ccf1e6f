//! What `--pcap` can be told, and `wirepath capture`: files, pipes, filters,
//! comments, with tshark and tcpdump as judges.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use wirepath_tests::process::{self, Daemon};
use wirepath_tests::wait::wait_until;
use wirepath_tests::{Lab, Serve, Server, server};

use crate::capture::tshark;

/// What tshark takes for wrong.
// A TCP checksum of 0xffff is Linux's way to write zero, and as right.
const WRONG: &str = "_ws.malformed || ip.checksum.status == Bad || \
    (tcp.checksum.status == Bad && tcp.checksum != 0xffff)";

/// A server that writes to `pcap`.
fn serve<'lab>(lab: &'lab Lab, pcap: &Path, more: &[&str]) -> Server<'lab> {
    let pcap = pcap.to_str().unwrap();
    Serve::new(lab)
        .without_capture()
        .args(&["--pcap", pcap])
        .args(more)
        .start()
}

/// The frames of a capture, none of them wrong, on whose number Wireshark and
/// tcpdump agree.
#[track_caller]
fn frames(lab: &Lab, capture: &Path) -> usize {
    let wrong = tshark(lab, capture, WRONG, "frame.number");
    assert_eq!(wrong, Vec::<String>::new(), "{capture:?}");
    let file = capture.to_str().unwrap();
    let number = |text: &str| -> Option<usize> { text.split_whitespace().next()?.parse().ok() };
    let capinfos = lab
        .run("capinfos", &["-c", "-M", "-T", "-r", "-B", file])
        .ok();
    let by_wireshark = capinfos
        .text()
        .split_once('\t')
        .and_then(|(_, rest)| number(rest));
    let tcpdump = lab.run("tcpdump", &["-n", "-r", file, "--count"]).ok();
    let by_tcpdump = number(&tcpdump.text());
    assert!(by_tcpdump.is_some());
    assert_eq!(by_tcpdump, by_wireshark, "{capinfos} {tcpdump}");
    by_tcpdump.unwrap_or_default()
}

/// The count behind `word` in what a server printed of its capture.
fn told(printed: &str, word: &str) -> usize {
    let line = printed.lines().find(|line| line.starts_with("capture: "));
    let line = line.unwrap_or_else(|| panic!("no line of the capture in {printed}"));
    let part = line.split(", ").find_map(|part| part.strip_suffix(word));
    part.and_then(|n| n.trim().parse().ok())
        .unwrap_or_else(|| panic!("no {word} in {line}"))
}

fn captures_in(lab: &Lab) -> Vec<PathBuf> {
    let entries = fs::read_dir(lab.dir()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = paths
        .filter(|p| p.extension().is_some_and(|e| e == "pcapng"))
        .collect();
    all.sort();
    all
}

#[test]
fn comments_tell_descriptor_goroutine_request_and_times() {
    let lab = lab!("comments_tell");
    let path = lab.dir().join("told.pcapng");
    let server = serve(&lab, &path, &[]);
    assert_eq!(server.get("/users/ann").status, 200);
    let (status, printed) = server.stop();
    assert!(status.success(), "{printed}");
    let all = frames(&lab, &path);
    assert_eq!(told(&printed, "frames"), all);
    let asked = tshark(&lab, &path, "http.request", "frame.comment");
    let [asked] = &asked[..] else {
        panic!("{asked:?}");
    };
    for part in [
        "fd ",
        " · goroutine ",
        " · GET /users/ann → 200 by /users/{id}",
        " · queued ",
        " · handler ",
    ] {
        assert!(asked.contains(part), "{part} is not in {asked}");
    }
    let answered = tshark(&lab, &path, "http.response", "frame.comment");
    assert!(answered[0].contains(" · written "), "{answered:?}");
    let cut = tshark(&lab, &path, "_ws.short", "frame.number");
    assert_eq!(cut, Vec::<String>::new());
    // All of the connection, from its SYN to the last ACK.
    let silent = tshark(&lab, &path, "tcp and not frame.comment", "frame.number");
    assert_eq!(silent, Vec::<String>::new());
}

#[test]
fn a_filter_by_status_keeps_whole_connections_and_no_others() {
    let lab = lab!("filter_by_status");
    let path = lab.dir().join("failed.pcapng");
    let server = serve(&lab, &path, &["--pcap-filter", "status 5xx and port 8080"]);
    for _ in 0..5 {
        server.check_alive();
    }
    let mut odd = server.client();
    assert_eq!(odd.get("/").status, 200);
    odd.send("GET /odd HTTP/3.1\r\nHost: x\r\n\r\n");
    assert_eq!(odd.reply().unwrap().status, 505);
    let port = odd.socket().local_addr().unwrap().port().to_string();
    drop(odd);
    server.check_alive();
    let (status, printed) = server.stop();
    assert!(status.success(), "{printed}");

    let all = frames(&lab, &path);
    assert_eq!(told(&printed, "frames"), all);
    assert_eq!(told(&printed, "left out"), 0);
    assert!(told(&printed, "filtered") > 6 * 8, "{printed}");
    let of_it = format!("tcp.port == {port}");
    assert_eq!(tshark(&lab, &path, &of_it, "frame.number").len(), all);
    let codes = tshark(&lab, &path, "http.response", "http.response.code");
    assert_eq!(codes, ["200", "505"]);
    // From the first SYN on.
    let syn = tshark(&lab, &path, "tcp.flags.syn == 1", "frame.number");
    assert_eq!(syn, ["1", "2"]);
}

#[test]
fn a_ring_of_files_has_the_last_frames_each_readable_by_itself() {
    let lab = lab!("ring_of_files");
    let path = lab.dir().join("ring.pcapng");
    let limits = ["--pcap-size", "64k", "--pcap-files", "3", "--snaplen", "96"];
    let server = serve(&lab, &path, &limits);
    let mut client = server.client();
    for n in 0..1500 {
        assert_eq!(client.get(&format!("/users/{n}")).status, 200);
    }
    let (status, printed) = server.stop();
    assert!(status.success(), "{printed}");
    let files = captures_in(&lab);
    assert_eq!(files.len(), 3, "{files:?}");
    assert!(told(&printed, "files") > 3, "{printed}");
    let kept: usize = files.iter().map(|file| frames(&lab, file)).sum();
    assert!(
        kept > 100 && kept < told(&printed, "frames"),
        "{kept}: {printed}"
    );
    for file in &files {
        assert!(fs::metadata(file).unwrap().len() < (64 << 10) + 4096);
        let long = tshark(&lab, file, "frame.cap_len > 96", "frame.number");
        assert_eq!(long, Vec::<String>::new());
    }
}

#[test]
fn a_full_disk_ends_the_capture_and_not_the_server() {
    let lab = lab!("full_disk");
    let mut server = serve(&lab, Path::new("/dev/full"), &[]);
    server.check_alive();
    server.daemon().wait_for("ends here");
    for _ in 0..20 {
        server.check_alive();
    }
    let (status, printed) = server.stop();
    assert_eq!(status.code(), Some(1), "{printed}");
    let told = printed
        .matches("ends here: No space left on device")
        .count();
    assert_eq!(told, 1, "{printed}");
    assert!(
        printed.contains("the capture /dev/full is incomplete"),
        "{printed}"
    );
}

#[test]
fn a_pipe_whose_reader_stalls_or_dies_costs_the_capture_only() {
    let lab = lab!("pipe_reader");
    for dies in [false, true] {
        let pipe = lab.dir().join(format!("pipe-{dies}"));
        process::run(Command::new("mkfifo").arg(&pipe)).ok();
        let mut server = serve(&lab, &pipe, &[]);
        let mut reader = fs::File::open(&pipe).unwrap();
        let mut head = [0; 28];
        reader.read_exact(&mut head).unwrap();
        assert_eq!(head[..4], 0x0a0d_0d0a_u32.to_ne_bytes());
        let stalled = (!dies).then_some(reader);
        // More than the pipe and what may wait hold.
        let mut client = server.client();
        for _ in 0..40 {
            assert_eq!(client.get("/big").body.len(), 1 << 20);
        }
        if dies {
            server.daemon().wait_for("ends here: Broken pipe");
        }
        server.check_alive();
        let (status, printed) = server.stop();
        assert_eq!(status.code(), Some(1), "{printed}");
        let why = match dies {
            true => "Broken pipe",
            false => "whoever reads it stopped reading",
        };
        assert!(printed.contains(why), "{printed}");
        drop(stalled);
    }
}

fn wirepath(lab: &Lab, args: &[&str]) -> Command {
    let mut command = server::command(lab);
    command.arg("capture").args(args);
    command
}

#[test]
fn a_running_server_is_asked_for_a_capture() {
    let lab = lab!("running_server");
    let mut server = Serve::new(&lab).without_capture().start();
    let pid = server.daemon().pid().to_string();
    // A connection from before the capture.
    let mut old = server.client();
    assert_eq!(old.get("/").status, 200);
    let path = lab.dir().join("asked.pcapng");
    let args = [
        &pid,
        "--pcap",
        path.to_str().unwrap(),
        "--pcap-filter",
        "tcp",
    ];
    let mut capture = Daemon::start(&mut wirepath(&lab, &args)).unwrap();
    // The file has its beginning once the server captures.
    let begun = || {
        assert_eq!(old.get("/users/old").status, 200);
        fs::metadata(&path).is_ok_and(|file| file.len() > 1000)
    };
    wait_until("the capture has frames", begun);
    assert_eq!(server.get("/users/new").status, 200);
    capture.signal(Signal::INT);
    let (status, printed) = capture.wait();
    assert!(status.success(), "{printed}");
    server.check_alive();

    let all = frames(&lab, &path);
    assert_eq!(told(&printed, "frames"), all);
    let asked = tshark(&lab, &path, "http.request", "frame.comment");
    let new = asked.iter().find(|said| said.contains("/users/new"));
    assert!(
        new.is_some_and(|said| said.contains("→ 200 by /users/{id}")),
        "{asked:?}"
    );
    assert!(
        asked.iter().all(|said| said.starts_with("fd ")),
        "{asked:?}"
    );

    for (args, says) in [
        (&[&*pid, "--pcap-filter", "status x"][..], "column 8"),
        (&["1", "--pcap", "x"], "process 1 has no socket"),
        (
            &["/nowhere", "--pcap", "x"],
            "cannot ask the server at /nowhere",
        ),
    ] {
        let refused = process::run(&mut wirepath(&lab, args));
        assert_eq!(refused.status.code(), Some(2), "{refused}");
        assert!(refused.stderr.contains(says), "{refused}");
    }
    server.stop();
}

#[test]
fn wireshark_finds_running_servers_and_captures_into_its_pipe() {
    let lab = lab!("extcap");
    let mut server = Serve::new(&lab).without_capture().start();
    let name = format!("wirepath-{}", server.daemon().pid());
    let ask = |args: &[&str]| process::run(&mut wirepath(&lab, args)).ok().text();
    let found = ask(&["--extcap-interfaces", "--extcap-version=4.0"]);
    assert!(found.starts_with("extcap {version="), "{found}");
    assert!(
        found.contains(&format!("interface {{value={name}}}{{display=")),
        "{found}"
    );
    let links = ask(&["--extcap-dlts", "--extcap-interface", &name]);
    assert_eq!(links, "dlt {number=1}{name=EN10MB}{display=Ethernet}\n");
    let config = ask(&["--extcap-config", "--extcap-interface", &name]);
    assert!(
        config
            .lines()
            .all(|l| l.starts_with("arg {") || l.starts_with("value {"))
    );

    let pipe = lab.dir().join("fifo");
    process::run(Command::new("mkfifo").arg(&pipe)).ok();
    let args = [
        "--capture",
        "--extcap-interface",
        &name,
        "--fifo",
        pipe.to_str().unwrap(),
    ];
    let mut capture = Daemon::start(&mut wirepath(&lab, &args)).unwrap();
    let mut reader = fs::File::open(&pipe).unwrap();
    let mut head = [0; 28];
    reader.read_exact(&mut head).unwrap();
    assert_eq!(head[..4], 0x0a0d_0d0a_u32.to_ne_bytes());
    // Wireshark ends a capture by closing its pipe.
    drop(reader);
    wait_until("the capture ends", || {
        server.check_alive();
        capture.ended().is_some()
    });
    let (status, printed) = capture.wait();
    assert!(status.success(), "{printed}");
    server.stop();
}

#[test]
fn stdout_is_for_the_capture_alone() {
    let lab = lab!("stdout_capture");
    let command = format!(
        "{} serve --tap wp0 --addr 10.0.0.2/24 --pcap - > {}",
        wirepath_tests::bin::wirepath().display(),
        lab.dir().join("out.pcapng").display(),
    );
    let mut shell = lab.net().command("setpriv");
    shell.args([
        "--pdeathsig",
        "KILL",
        "sh",
        "-c",
        &format!("exec {command}"),
    ]);
    let mut server = Daemon::start(&mut shell).unwrap();
    server.wait_for("listening on");
    let client = lab.net().connect(Server::V4.parse().unwrap()).unwrap();
    assert_eq!(
        wirepath_tests::http::Client::new(client).get("/").status,
        200
    );
    server.signal(Signal::TERM);
    let (status, printed) = server.wait();
    assert!(status.success(), "{printed}");
    let all = frames(&lab, &lab.dir().join("out.pcapng"));
    assert_eq!(told(&printed, "frames"), all, "what is said goes to stderr");
}
