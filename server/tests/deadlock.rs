//! The flight recorder's last recording: all goroutines wait for ever.

#![cfg(feature = "see")]

use std::process::Command;

use wirepath::see::Recording;

#[test]
fn a_deadlock_is_recorded_before_the_process_ends() {
    let tests = std::env::current_exe().unwrap();
    let built = tests.ancestors().nth(2).unwrap();
    // `cargo test` builds the examples beside the tests.
    let example = built.join("examples").join("recorded_deadlock");
    let dir = tempfile::tempdir().unwrap();
    // One that is not told would let the process wait for ever.
    let mut limited = Command::new("timeout");
    limited.arg("60").arg(example).arg(dir.path());
    let out = limited.output().unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.starts_with("fatal error: all goroutines are asleep - deadlock!\n"),
        "{stderr}"
    );
    let entries = std::fs::read_dir(dir.path()).unwrap();
    let files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    let [file] = &files[..] else {
        panic!("{files:?}");
    };
    let recording = Recording::read(std::fs::File::open(file).unwrap()).unwrap();
    assert_eq!(recording.meta.why, "deadlock");
    assert!(!recording.events.is_empty());
}
