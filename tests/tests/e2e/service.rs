//! Serving as a service: without rights once it runs, and telling the manager.

use std::fs;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use wirepath_tests::wait::PATIENCE;
use wirepath_tests::{Lab, Serve, Server};

on_every_device! {
    no_thread_keeps_a_right,
    another_user_takes_over,
    the_manager_is_told_of_start_and_stop,
}

/// The ids of the user and group `nobody` on Linux (`overflowuid`).
const NOBODY: &str = "65534";

/// The lines of each thread's status that begin with `name`, without it.
pub fn of_every_thread(pid: u32, name: &str) -> Vec<String> {
    let tasks = Path::new("/proc").join(pid.to_string()).join("task");
    let line = |task: io::Result<fs::DirEntry>| {
        // A thread may end while we look.
        let status = fs::read_to_string(task.ok()?.path().join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let found: Vec<_> = fs::read_dir(tasks).unwrap().filter_map(line).collect();
    assert!(!found.is_empty(), "no thread of {pid} has {name}");
    found
}

/// Checks that no thread has a capability or can get one.
#[track_caller]
pub fn check_without_rights(pid: u32) {
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        for bits in of_every_thread(pid, set) {
            assert_eq!(bits, "0000000000000000", "{set}");
        }
    }
    for flag in of_every_thread(pid, "NoNewPrivs:") {
        assert_eq!(flag, "1");
    }
}

/// Runs all that a server does once it runs.
#[track_caller]
fn put_to_work(server: &Server<'_>) {
    server.check_alive();
    assert_eq!(server.get("/big").body.len(), 1 << 20);
    assert!(server.counter("requests") >= 2);
    assert_eq!(server.get("/debug/goroutines").status, 200);
}

fn no_thread_keeps_a_right(lab: &Lab) {
    let mut server = Serve::new(lab).start();
    put_to_work(&server);
    let pid = server.daemon().pid();
    // The capture's writer, those that wait for signals, an M at least.
    assert!(of_every_thread(pid, "Name:").len() > 3);
    check_without_rights(pid);
    for bits in of_every_thread(pid, "CapBnd:") {
        assert_eq!(bits, "0000000000000000", "the bounding set");
    }
    let (status, printed) = server.stop();
    assert_eq!(status.code(), Some(0), "{printed}");
    assert!(
        printed.contains("capture: "),
        "the file was kept: {printed}"
    );
}

fn another_user_takes_over(lab: &Lab) {
    let mut server = Serve::new(lab).args(&["--user", "nobody"]).start();
    put_to_work(&server);
    let pid = server.daemon().pid();
    check_without_rights(pid);
    // Real, effective, saved, and of files.
    let ids = [NOBODY; 4].join(" ");
    for name in ["Uid:", "Gid:"] {
        assert!(of_every_thread(pid, name).iter().all(|line| *line == ids));
    }
    for groups in of_every_thread(pid, "Groups:") {
        assert!(groups.is_empty() || groups == NOBODY, "{groups}");
    }
    let (status, printed) = server.stop();
    assert_eq!(status.code(), Some(0), "{printed}");
}

fn the_manager_is_told_of_start_and_stop(lab: &Lab) {
    let path = lab.dir().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let path = path.to_str().expect("a lab's folder has a plain name");
    let server = Serve::new(lab).env("NOTIFY_SOCKET", path).start();
    let ready = receive(&manager);
    assert!(ready.contains("READY=1\n"), "{ready}");
    assert!(
        ready.contains("STATUS=listening on http://10.0.0.2:8080/"),
        "{ready}"
    );
    server.check_alive();
    let (status, printed) = server.stop();
    assert_eq!(status.code(), Some(0), "{printed}");
    let stopping = receive(&manager);
    assert!(stopping.contains("STOPPING=1\n"), "{stopping}");
    assert!(stopping.contains("STATUS=stopping"), "{stopping}");
    manager
        .set_read_timeout(Some(Duration::from_millis(1)))
        .unwrap();
    assert!(manager.recv(&mut [0; 64]).is_err(), "and of nothing else");
}

fn receive(manager: &UnixDatagram) -> String {
    let mut buf = [0; 4096];
    let len = manager.recv(&mut buf).expect("the server tells");
    String::from_utf8_lossy(&buf[..len]).into_owned()
}
