//! Handing a program to the kernel, and what it says to a wrong one.

use std::io;

use super::lab::{addr, may, with_capabilities};
use crate::xdp::filter::asm::{Asm, Reg};
use crate::xdp::filter::{Filter, FilterError, LOADS_MAX, Rules, last_lines, load, uninterrupted};

#[test]
fn the_end_of_a_log_is_what_is_quoted() {
    let text: String = (0..100).map(|n| format!("line {n}\n\n")).collect();
    let mut log = text.into_bytes();
    log.resize(4096, 0);
    let quoted = last_lines(&log);
    assert!(quoted.starts_with("line 88\n") && quoted.ends_with("\nline 99"));
    assert_eq!(last_lines(&[0; 16]), "");
    assert_eq!(last_lines(b"cut"), "cut");
}

#[test]
fn a_refused_program_comes_with_the_verifiers_reason() {
    if !may("a_refused_program_comes_with_the_verifiers_reason") {
        return;
    }
    let mut asm = Asm::default();
    asm.mov(Reg::R1, Reg::R7);
    asm.exit();
    let error = load(&asm.finish().unwrap()).unwrap_err();
    assert!(matches!(error, FilterError::Verifier { .. }), "{error}");
    assert!(error.to_string().contains("R7 !read_ok"), "{error}");
}

#[test]
fn signals_are_sat_out_up_to_a_limit() {
    let again = || io::Error::from_raw_os_error(libc::EAGAIN);
    let mut left = 5;
    let result = uninterrupted(|| {
        left -= 1;
        if left > 0 { Err(again()) } else { Ok(left) }
    });
    assert_eq!(result.unwrap(), 0);
    let mut tries = 0;
    let result = uninterrupted(|| -> io::Result<()> {
        tries += 1;
        Err(again())
    });
    assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EAGAIN));
    assert_eq!(tries, LOADS_MAX);
}

#[test]
fn three_capabilities_load_and_two_are_told_of_the_third() {
    const NET_ADMIN: u32 = 12;
    const PERFMON: u32 = 38;
    const BPF: u32 = 39;
    if !may("three_capabilities_load_and_two_are_told_of_the_third") {
        return;
    }
    let load = || Filter::load(&Rules::own([addr("10.0.0.2"), addr("fd00::2")]), 1);
    with_capabilities(&[NET_ADMIN, PERFMON, BPF], || load().unwrap());
    let refused = with_capabilities(&[NET_ADMIN, BPF], || load().unwrap_err());
    assert!(
        matches!(refused, FilterError::Permission { .. }),
        "{refused}"
    );
    assert!(refused.to_string().contains("cap_perfmon"), "{refused}");
}
