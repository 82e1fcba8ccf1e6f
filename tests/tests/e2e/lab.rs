//! The lab itself: what it makes is gone afterwards, whatever happened.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use wirepath_tests::frames::{BROADCAST, ethernet, ethertype};
use wirepath_tests::inject::Injector;
use wirepath_tests::process::{Daemon, run};
use wirepath_tests::wait::wait_until;
use wirepath_tests::{Device, Lab};

#[test]
fn a_panic_leaves_no_namespace_and_no_program() {
    let lab = lab!("a_panic_leaves_no_namespace_and_no_program");
    check_panic_leaves_nothing(lab);
    // A veth pair needs no more rights than a TAP.
    let name = "a_panic_leaves_no_namespaces_and_no_program";
    check_panic_leaves_nothing(Lab::new(Device::XdpNative, name).unwrap());
}

#[track_caller]
fn check_panic_leaves_nothing(lab: Lab) {
    let namespaces =
        [lab.net(), lab.server_net()].map(|net| Path::new("/run/netns").join(net.name()));
    assert!(namespaces.iter().all(|path| path.exists()));
    let dir = lab.dir().to_owned();
    let mut pid = 0;
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let lab = lab;
        let mut sleeper = Daemon::start(lab.server_net().command("sleep").arg("600")).unwrap();
        pid = sleeper.pid();
        assert!(sleeper.ended().is_none());
        panic!("on purpose");
    }));
    assert!(ended.is_err());
    assert!(!namespaces.iter().any(|path| path.exists()));
    assert!(!Path::new("/proc").join(pid.to_string()).exists());
    // A test that failed would want its folder kept.
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_veth_pair_joins_the_client_to_the_servers_kernel() {
    let name = "a_veth_pair_joins_the_client_to_the_servers_kernel";
    let Some(lab) = Lab::with_queues(Device::XdpNative, name, 2) else {
        return;
    };
    lab.server_net().ip("addr add 10.0.0.9/24 dev wp0");
    lab.run("ping", &["-c", "1", "-W", "10", "10.0.0.9"]).ok();
    let mut ls = lab.server_net().command("ls");
    let queues = run(ls.arg("/sys/class/net/wp0/queues")).ok().text();
    assert_eq!(queues.split_whitespace().count(), 4, "{queues}");
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
