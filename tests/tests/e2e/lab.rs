//! The lab itself: what it makes is gone afterwards, whatever happened.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use wirepath_tests::frames::{BROADCAST, ethernet, ethertype};
use wirepath_tests::inject::Injector;
use wirepath_tests::process::Daemon;
use wirepath_tests::wait::wait_until;

#[test]
fn a_panic_leaves_no_namespace_and_no_program() {
    let lab = lab!(bare "a_panic_leaves_no_namespace_and_no_program");
    let namespace = Path::new("/run/netns").join(lab.net().name());
    assert!(namespace.exists());
    let dir = lab.dir().to_owned();
    let mut pid = 0;
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let lab = lab;
        let mut sleeper = Daemon::start(lab.net().command("sleep").arg("600")).unwrap();
        pid = sleeper.pid();
        assert!(sleeper.ended().is_none());
        panic!("on purpose");
    }));
    assert!(ended.is_err());
    assert!(!namespace.exists());
    assert!(!Path::new("/proc").join(pid.to_string()).exists());
    // A test that failed would want its folder kept.
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn an_injected_frame_crosses_the_cable_as_it_is() {
    let lab = lab!(bare "an_injected_frame_crosses_the_cable_as_it_is");
    lab.net().ip("link add near type veth peer name far");
    lab.plug("near");
    lab.net().ip("link set far up");
    let capture = lab.dir().join("far.pcap");
    let mut tcpdump = lab.net().command("tcpdump");
    tcpdump.args(["-i", "far", "-U", "--immediate-mode", "-Z", "root", "-w"]);
    tcpdump.arg(&capture);
    let mut tcpdump = Daemon::start(&mut tcpdump).unwrap();
    tcpdump.wait_for("listening on far");

    let mut injector = Injector::new(&lab, "near");
    let body = b"nothing that a kernel would send by itself";
    let frame = ethernet(BROADCAST, injector.mac(), ethertype::EXPERIMENTAL, body);
    injector.send(&frame);
    wait_until("the frame is in the capture", || {
        let bytes = std::fs::read(&capture).unwrap_or_default();
        bytes.windows(frame.len()).any(|bytes| bytes == frame)
    });
    assert_eq!(injector.sent(), 1);
}
