//! Putting the program on an interface, and taking it off.

use std::os::fd::AsFd;

use super::lab::{addr, in_namespace, ip, may, veth, with_socket};
use crate::xdp::filter::sys::{self, Action};
use crate::xdp::filter::{AttachMode, Fate, Filter, Mode, Rules};
use crate::xdp::interface::Interface;

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
