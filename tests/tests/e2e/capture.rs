//! `--pcap`: the file that Wireshark and tcpdump open.

use std::path::Path;

use wirepath_tests::server::CAPTURE;
use wirepath_tests::{Lab, Serve, Server};

on_every_device! {
    tshark_finds_every_request_and_no_malformed_frame,
    times_in_the_capture_are_those_of_the_clock_and_do_not_go_back,
    tcpdump_reads_it,
}

/// What tshark prints of the frames of a capture that `filter` lets through.
#[track_caller]
pub fn tshark(lab: &Lab, capture: &Path, filter: &str, field: &str) -> Vec<String> {
    let file = capture.to_str().unwrap();
    let check = |protocol: &str| format!("{protocol}.check_checksum:TRUE");
    let [ip, tcp] = [check("ip"), check("tcp")];
    let args = [
        "-n",
        "-r",
        file,
        "-d",
        "tcp.port==8080,http",
        "-o",
        &ip,
        "-o",
        &tcp,
    ];
    let out = lab.run(
        "tshark",
        &[&args[..], &["-Y", filter, "-T", "fields", "-e", field]].concat(),
    );
    out.ok().text().lines().map(ToOwned::to_owned).collect()
}

fn tshark_finds_every_request_and_no_malformed_frame(lab: &Lab) {
    let server = Serve::new(lab).start();
    let mut asked = Vec::new();
    for (to, family) in [(Server::V4, 4), (Server::V6, 6)] {
        for connection in 0..5 {
            let mut client = server.connect(to).unwrap();
            for n in 0..20 {
                let path = format!("/users/v{family}c{connection}n{n}");
                assert_eq!(client.get(&path).status, 200);
                asked.push(path);
            }
        }
    }
    lab.run("ping", &["-c", "1", "10.0.0.2"]).ok();
    lab.run("ping", &["-c", "1", "fd00::2"]).ok();
    let (status, printed) = server.stop();
    assert!(status.success(), "{printed}");

    let capture = lab.dir().join(CAPTURE);
    let mut found = tshark(lab, &capture, "http.request", "http.request.uri");
    found.sort();
    asked.sort();
    assert_eq!(found, asked);
    let codes = tshark(lab, &capture, "http.response", "http.response.code");
    assert_eq!(codes.len(), asked.len());
    assert!(codes.iter().all(|code| code == "200"));

    for wrong in [
        "_ws.malformed",
        "_ws.short",
        // Linux writes a sum of zero as 0xffff, for TCP too (CSUM_MANGLED_0), which
        // is as right and which tshark calls bad.
        "tcp.checksum.status == Bad && tcp.checksum != 0xffff",
        "ip.checksum.status == Bad",
        "tcp.analysis.retransmission",
        "tcp.analysis.lost_segment",
    ] {
        let frames = tshark(lab, &capture, wrong, "frame.number");
        assert_eq!(frames, Vec::<String>::new(), "{wrong}");
    }
    for there in ["arp", "icmp", "icmpv6"] {
        let frames = tshark(lab, &capture, there, "frame.number");
        assert!(frames.len() >= 2, "{there}: {frames:?}");
    }
}

fn times_in_the_capture_are_those_of_the_clock_and_do_not_go_back(lab: &Lab) {
    let now = || {
        let now = std::time::SystemTime::now();
        now.duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs_f64()
    };
    let before = now();
    let server = Serve::new(lab).start();
    for _ in 0..50 {
        server.check_alive();
    }
    server.stop();
    let capture = lab.dir().join(CAPTURE);
    let times: Vec<f64> = tshark(lab, &capture, "tcp", "frame.time_epoch")
        .iter()
        .map(|time| time.parse().unwrap())
        .collect();
    assert!(times.len() > 50 * 8);
    assert!(times.is_sorted(), "frames are in the order of their times");
    // An off-by-thousand resolution would put them decades away.
    assert!(times[0] > before - 1.0 && times[times.len() - 1] < now() + 1.0);
}

fn tcpdump_reads_it(lab: &Lab) {
    let server = Serve::new(lab).start();
    server.check_alive();
    server.stop();
    let capture = lab.dir().join(CAPTURE);
    let out = lab
        .run(
            "tcpdump",
            &["-n", "-A", "-r", capture.to_str().unwrap(), "tcp"],
        )
        .ok();
    let said = out.text();
    assert!(said.contains("Flags [S]"), "{said}");
    assert!(said.contains("Hello, World!"), "{said}");
}
