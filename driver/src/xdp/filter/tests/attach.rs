//! Putting the program on an interface, and taking it off.

use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::lab::{addr, as_nobody, in_namespace, ip, may, veth, wait_until, with_socket};
use crate::xdp::filter::sys::{self, Action};
use crate::xdp::filter::{
    AttachMode, Attached, Fate, Filter, FilterError, Holder, Mode, Occupant, Rules,
};
use crate::xdp::interface::{self, Interface};

fn filter() -> Filter {
    Filter::load(&Rules::own([addr("10.0.0.2"), addr("fd00::2")]), 2).unwrap()
}

#[test]
fn each_mode_puts_the_program_there_and_dropping_takes_it_off() {
    in_namespace("each_mode_puts_the_program_there", || {
        let index = veth();
        for (asked, want) in [
            (AttachMode::Auto, Mode::Driver),
            (AttachMode::Driver, Mode::Driver),
            (AttachMode::Generic, Mode::Generic),
        ] {
            let mut filter = filter();
            let got = filter.attach(index, asked).unwrap();
            assert_eq!((got.mode, got.driver_refused), (want, None));
            let on_it = Interface::numbered(index).unwrap().programs;
            assert_eq!(on_it.len(), 1);
            assert_eq!(on_it[0].0, want);
            assert!(ip("-d link show wpf0").contains("wirepath_filter"));
            drop(filter);
            assert_eq!(Interface::numbered(index).unwrap().programs, []);
        }
    });
}

#[test]
fn auto_goes_to_the_generic_place_and_says_why() {
    in_namespace("auto_goes_to_the_generic_place", || {
        // The loopback's driver has no place for programs.
        ip("link set lo up");
        let index = Interface::named("lo").unwrap().index;
        let mut filter = filter();
        let got = filter.attach(index, AttachMode::Auto).unwrap();
        assert_eq!(got.mode, Mode::Generic);
        let why = got.driver_refused.unwrap();
        println!("{why}");
        assert!(!why.is_empty());
        let refused = filter.attach(index, AttachMode::Driver).unwrap_err();
        assert!(
            refused.to_string().contains("--attach generic"),
            "{refused}"
        );
    });
}

#[test]
fn a_socket_in_its_slot_gets_what_is_ours() {
    if !may("a_socket_in_its_slot") {
        return;
    }
    let filter = filter();
    let mut frame = vec![0; 14 + 20 + 20];
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14] = 0x45;
    frame[14 + 9] = 6;
    frame[14 + 16..14 + 20].copy_from_slice(&[10, 0, 0, 2]);
    let run = |frame: &[u8]| {
        let ran = sys::prog_test_run(filter.prog.as_fd(), frame, 1).unwrap();
        ran.verdict
    };
    assert_eq!(run(&frame), Action::Pass as u32);
    assert_eq!(filter.verdicts().of(Fate::PassNoSocket), 1);
    let _socket = with_socket(&filter);
    assert_eq!(run(&frame), Action::Redirect as u32);
    assert_eq!(filter.verdicts().of(Fate::RedirectTcp), 1);
    filter.clear_socket(0).unwrap();
    assert_eq!(run(&frame), Action::Pass as u32);
    assert_eq!(filter.verdicts().frames(), 3);
}

#[test]
fn another_program_is_never_replaced() {
    in_namespace("another_program_is_never_replaced", || {
        let index = veth();
        let mut first = filter();
        for (put, ask) in [
            (AttachMode::Driver, AttachMode::Driver),
            (AttachMode::Driver, AttachMode::Generic),
            (AttachMode::Driver, AttachMode::Auto),
            (AttachMode::Generic, AttachMode::Auto),
        ] {
            let mode = first.attach(index, put).unwrap().mode;
            let there = Interface::numbered(index).unwrap().programs;
            let busy = busy(filter().attach(index, ask));
            assert_eq!((busy.mode, busy.id), (mode, there[0].1));
            assert_eq!(busy.interface, "wpf0");
            assert_eq!(busy.name.as_deref(), Some("wirepath_filter"));
            let Holder::Link { processes, .. } = &busy.holder else {
                panic!("{busy}");
            };
            let ours = std::process::id();
            assert!(processes.iter().any(|(pid, _)| *pid == ours), "{busy}");
            assert_eq!(Interface::numbered(index).unwrap().programs, there);
        }
    });
}

#[test]
fn a_program_that_nobody_holds_is_told_from_one_of_a_link() {
    in_namespace("a_program_that_nobody_holds", || {
        let index = veth();
        let first = filter();
        for mode in [Mode::Driver, Mode::Generic] {
            interface::put(index, first.prog.as_fd(), mode.flags()).unwrap();
            let busy = busy(filter().attach(index, AttachMode::Auto));
            assert_eq!((busy.mode, &busy.holder), (mode, &Holder::Netlink));
            let off = format!("ip link set dev wpf0 {} off", mode.off_word());
            assert!(busy.to_string().contains(&off), "{busy}");
            assert_eq!(Interface::numbered(index).unwrap().programs[0].1, busy.id);
            // The command of the message does what it says.
            ip(off.strip_prefix("ip ").unwrap());
            assert_eq!(Interface::numbered(index).unwrap().programs, []);
        }
    });
}

#[test]
fn a_pinned_link_goes_with_its_pin() {
    in_namespace("a_pinned_link_goes_with_its_pin", || {
        let index = veth();
        bpf_file_system();
        let first = filter();
        let flags = Mode::Driver.flags();
        let link = sys::link_create(first.prog.as_fd(), index, flags).unwrap();
        sys::obj_pin(link.as_fd(), c"/sys/fs/bpf/wpf_link").unwrap();
        drop(link);
        // Other tests of this process look at all links, and so do what they
        // start, for a moment each.
        wait_until("the pin alone keeps the link", || {
            let busy = busy(filter().attach(index, AttachMode::Auto));
            let Holder::Link { id, processes } = &busy.holder else {
                panic!("{busy}");
            };
            let mend = format!("sudo bpftool link detach id {id}");
            assert!(!processes.is_empty() || busy.to_string().contains(&mend));
            processes.is_empty()
        });
        std::fs::remove_file("/sys/fs/bpf/wpf_link").unwrap();
        filter().attach(index, AttachMode::Driver).unwrap();
    });
}

/// A BPF file system that this thread alone sees.
fn bpf_file_system() {
    // SAFETY: only the mounts of this thread change.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0);
    for args in [
        ["--make-rprivate", "/"].as_slice(),
        ["-t", "bpf", "bpf", "/sys/fs/bpf"].as_slice(),
    ] {
        let done = Command::new("mount").args(args).status().unwrap();
        assert!(done.success(), "mount {args:?}");
    }
}

#[track_caller]
fn busy(result: Result<Attached, FilterError>) -> Occupant {
    match result {
        Err(FilterError::Busy(occupant)) => *occupant,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_drivers_refusal_is_in_its_own_words() {
    in_namespace("a_drivers_refusal_is_in_its_own_words", || {
        let index = veth();
        ip("link set wpf1 mtu 9000");
        let refused = filter().attach(index, AttachMode::Driver).unwrap_err();
        let text = refused.to_string();
        assert!(matches!(refused, FilterError::Refused { .. }), "{text}");
        assert!(text.contains("MTU is too large"), "{text}");
        assert!(text.contains("mtu 1500"), "{text}");
        assert_eq!(Interface::numbered(index).unwrap().programs, []);
        let mut second = filter();
        let got = second.attach(index, AttachMode::Auto).unwrap();
        assert_eq!(got.mode, Mode::Generic);
        assert!(got.driver_refused.unwrap().contains("MTU is too large"));
    });
}

#[test]
fn too_few_queues_for_the_peer_is_a_refusal() {
    in_namespace("too_few_queues_for_the_peer", || {
        ip(
            "link add wpf0 numrxqueues 1 numtxqueues 1 type veth peer name wpf1 numrxqueues 4 numtxqueues 4",
        );
        ip("link set wpf0 up");
        let index = Interface::named("wpf0").unwrap().index;
        let refused = filter().attach(index, AttachMode::Driver).unwrap_err();
        assert!(refused.to_string().contains("ethtool -L wpf0"), "{refused}");
    });
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    in_namespace("an_interface_that_is_not_there", || {
        for mode in [AttachMode::Auto, AttachMode::Driver, AttachMode::Generic] {
            let gone = filter().attach(4242, mode).unwrap_err();
            assert!(matches!(gone, FilterError::NoInterface { .. }), "{gone}");
        }
        let gone = Interface::named("wpf9").unwrap_err();
        assert!(gone.to_string().contains("no interface wpf9"), "{gone}");
    });
}

#[test]
fn only_reading_the_counters_needs_no_privilege() {
    in_namespace("only_reading_the_counters", || {
        let index = veth();
        let mut filter = filter();
        filter.attach(index, AttachMode::Generic).unwrap();
        let counters = filter.counters();
        let (read, refused) = as_nobody(|| {
            let rules = Rules::own([addr("10.0.0.2")]);
            (counters.read(), Filter::load(&rules, 1).unwrap_err())
        });
        assert!(read.frames() <= filter.verdicts().frames());
        assert!(
            matches!(refused, FilterError::Permission { .. }),
            "{refused}"
        );
        assert!(refused.to_string().contains("cap_bpf"), "{refused}");
    });
}

/// Set for the child that is to be killed: the interface to sit on.
const CHILD: &str = "WIREPATH_TEST_FILTER_CHILD";

#[test]
fn killing_the_process_takes_the_program_off() {
    if let Ok(index) = std::env::var(CHILD) {
        return sit_on(index.parse().unwrap());
    }
    in_namespace("killing_the_process_takes_the_program_off", || {
        let index = veth();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("xdp::filter::tests::attach::killing_the_process_takes_the_program_off")
            .env(CHILD, index.to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let programs = || Interface::numbered(index).unwrap().programs;
        wait_until("the program is there", || !programs().is_empty());
        let busy = busy(filter().attach(index, AttachMode::Auto));
        assert!(busy.to_string().contains(&child.id().to_string()), "{busy}");
        child.kill().unwrap();
        child.wait().unwrap();
        wait_until("the program is gone", || programs().is_empty());
        filter().attach(index, AttachMode::Driver).unwrap();
    });
}

/// The child: holds the program until it is killed.
fn sit_on(index: u32) {
    let mut filter = filter();
    filter.attach(index, AttachMode::Driver).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn an_interface_is_described() {
    in_namespace("an_interface_is_described", || {
        let index = veth();
        ip("link set wpf0 address 02:00:00:00:00:07 mtu 1400");
        ip("addr add 10.0.0.3/24 dev wpf0");
        ip("addr add fd00::3/64 dev wpf0 nodad");
        let found = Interface::named("wpf0").unwrap();
        assert_eq!(found, Interface::numbered(index).unwrap());
        assert_eq!((found.index, found.name.as_str()), (index, "wpf0"));
        assert_eq!((found.mtu, found.up, found.rx_queues), (1400, true, 2));
        assert_eq!(found.mac, Some([2, 0, 0, 0, 0, 7]));
        for want in [(addr("10.0.0.3"), 24), (addr("fd00::3"), 64)] {
            assert!(found.addrs.contains(&want), "{found:?}");
        }
        let lo = Interface::named("lo").unwrap();
        assert!(!lo.up && lo.addrs.is_empty(), "{lo:?}");
        ip("link set wpf0 down");
        assert!(!Interface::named("wpf0").unwrap().up);
    });
}
