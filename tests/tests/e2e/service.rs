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

/// What a server on AF_XDP needs as a normal user, and no more. The limit of
/// locked memory is the memory of its frames, to the byte.
#[cfg(feature = "xdp")]
mod as_a_normal_user {
    use rustix::process::Signal;
    use wirepath_tests::http::Client;
    use wirepath_tests::nobody::Nobody;
    use wirepath_tests::process::{self, Daemon};
    use wirepath_tests::{Lab, Server};

    use super::{NOBODY, check_without_rights, of_every_thread};

    const CAPABILITIES: [&str; 4] = ["+net_raw", "+net_admin", "+bpf", "+perfmon"];
    const ADDR: [&str; 4] = ["--addr", "10.0.0.2/24", "--pcap", "server.pcapng"];
    /// Of 2048 bytes each.
    const FRAMES: u32 = 1024;

    on_xdp! {
        serves_with_four_capabilities_and_loses_them,
        every_one_of_them_is_needed,
    }

    /// A server of nobody's with these capabilities and that much memory locked.
    fn command(
        lab: &Lab,
        nobody: &Nobody,
        capabilities: &[&str],
        memlock: u32,
    ) -> std::process::Command {
        let mut command = lab.server_net().command("setpriv");
        command.args(["--pdeathsig", "KILL", "prlimit"]);
        command.arg(format!("--memlock={memlock}"));
        command.arg("setpriv");
        command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]);
        let list = ["-all"].iter().chain(capabilities);
        let list = list.copied().collect::<Vec<_>>().join(",");
        command.args(["--clear-groups", "--no-new-privs"]);
        command.arg(format!("--inh-caps={list}"));
        command.arg(format!("--ambient-caps={list}"));
        command.arg(nobody.program()).current_dir(nobody.dir());
        command.arg("serve");
        command.args(lab.device().serve_args(wirepath_tests::lab::SERVER_END));
        command.args(ADDR).args(["--frames", &FRAMES.to_string()]);
        command
    }

    fn serves_with_four_capabilities_and_loses_them(lab: &Lab) {
        let nobody = Nobody::new().unwrap();
        let memlock = FRAMES * 2048;
        let mut command = command(lab, &nobody, &CAPABILITIES, memlock);
        let mut daemon = Daemon::start(&mut command).unwrap();
        daemon.wait_for("listening on");
        check_without_rights(daemon.pid());
        let ids = [NOBODY; 4].join(" ");
        assert_eq!(of_every_thread(daemon.pid(), "Uid:")[0], ids);
        let to = Server::V4.parse().unwrap();
        let mut client = Client::new(lab.net().connect(to).unwrap());
        for path in ["/", "/big", "/debug/wirepath/counters", "/debug/goroutines"] {
            assert_eq!(client.get(path).status, 200, "{path}");
        }
        daemon.signal(Signal::TERM);
        let (status, printed) = daemon.wait();
        assert_eq!(status.code(), Some(0), "{printed}");
        assert!(printed.contains("capture: "), "{printed}");
    }

    fn every_one_of_them_is_needed(lab: &Lab) {
        let nobody = Nobody::new().unwrap();
        let enough = FRAMES * 2048;
        for (at, missing) in CAPABILITIES.iter().enumerate() {
            let mut others = CAPABILITIES.to_vec();
            others.remove(at);
            let finished = process::run(&mut command(lab, &nobody, &others, enough));
            assert_eq!(finished.status.code(), Some(2), "{missing}: {finished}");
            let name = missing.trim_start_matches('+').to_uppercase();
            let said = finished.stderr.to_uppercase();
            assert!(said.contains(&name), "{missing}: {finished}");
        }
        let short = command(lab, &nobody, &CAPABILITIES, enough - 4096);
        let finished = process::run(&mut { short });
        assert_eq!(finished.status.code(), Some(2), "{finished}");
        assert!(finished.stderr.contains("locked memory"), "{finished}");
    }
}
