//! Frames as long as the interface allows, and interfaces that allow more than
//! a frame of the ring holds.

use wirepath_tests::http::post_head;
use wirepath_tests::lab::SERVER_END;
use wirepath_tests::pattern::{self, Check};
use wirepath_tests::server::CAPTURE;
use wirepath_tests::{Lab, Serve};

use crate::capture::tshark;

on_xdp! {
    a_frame_of_the_mtu_goes_both_ways,
    an_mtu_beyond_the_frames_is_refused_with_its_mend,
    frames_of_4_kib_carry_a_larger_mtu,
}

/// More than a frame of 2 KiB holds, less than veth lets a program see.
const LARGE_MTU: u32 = 3000;

fn a_frame_of_the_mtu_goes_both_ways(lab: &Lab) {
    let server = Serve::new(lab).start();
    server.check_alive();
    for (family, to, headers) in [("-4", "10.0.0.2", 28), ("-6", "fd00::2", 48)] {
        let whole = (1500 - headers).to_string();
        let args = [family, "-c", "3", "-i", "0.05", "-W", "10", "-M", "do"];
        let ping = |size: &str| lab.run("ping", &[&args[..], &["-s", size, to]].concat());
        let said = ping(&whole).ok().text();
        assert!(said.contains("3 received, 0% packet loss"), "{said}");
    }
    server.stop();
    let capture = lab.dir().join(CAPTURE);
    let longest = tshark(lab, &capture, "frame.len == 1514", "frame.number");
    assert!(longest.len() >= 12, "{longest:?}");
}

fn an_mtu_beyond_the_frames_is_refused_with_its_mend(lab: &Lab) {
    for (mtu, args) in [(LARGE_MTU, &["--frame-len", "2048"][..]), (9000, &[])] {
        lab.set_mtu(mtu);
        let refused = Serve::new(lab).args(args).run();
        assert!(!refused.status.success(), "{refused}");
        let given = mtu.to_string();
        for said in [SERVER_END, &given, "--frame-len 4096", "ip link set", "mtu"] {
            assert!(refused.stderr.contains(said), "{said}: {refused}");
        }
    }
    lab.set_mtu(1500);
    Serve::new(lab).start().check_alive();
}

fn frames_of_4_kib_carry_a_larger_mtu(lab: &Lab) {
    const LENGTH: u64 = 4 << 20;
    lab.set_mtu(LARGE_MTU);
    // Without --frame-len: it follows from the MTU.
    let server = Serve::new(lab).start();
    let mut client = server.client();
    let mut writer = client.socket().try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            use std::io::Write;
            let head = post_head("/echo", LENGTH);
            writer.write_all(head.as_bytes()).unwrap();
            pattern::send(LENGTH, &mut writer).unwrap();
        });
        let reply = client.head().unwrap();
        let mut check = Check::default();
        client.body(&reply, &mut check).unwrap();
        assert_eq!(check.seen(), LENGTH);
    });
    server.stop();
    let capture = lab.dir().join(CAPTURE);
    for from in ["10.0.0.1", "10.0.0.2"] {
        let large = format!("ip.src == {from} && frame.len == {}", LARGE_MTU + 14);
        let frames = tshark(lab, &capture, &large, "frame.number");
        assert!(!frames.is_empty(), "{large}");
    }
}
