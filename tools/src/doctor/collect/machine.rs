//! The machine and this process, from /proc, /sys and a socket.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Resource, getrlimit};

use super::Seen;
use super::device::{parse_cpus, read};
use crate::doctor::facts::{HugePages, Machine, Process, SocketTrial};

/// Looks at the machine.
pub fn look(seen: &mut Seen) -> Machine {
    let has_btf = Path::new("/sys/kernel").exists();
    Machine {
        kernel: read("/proc/sys/kernel/osrelease"),
        socket: try_socket(seen),
        has_btf: has_btf.then(|| Path::new("/sys/kernel/btf/vmlinux").exists()),
        bpf_jit: seen.number("net.core.bpf_jit_enable"),
        unprivileged_bpf_disabled: seen.number("kernel.unprivileged_bpf_disabled"),
        process: process(),
        cpus: cpus(),
        nodes: nodes(),
        huge_pages: huge_pages(),
        memory_available: memory_available(),
        irqbalance_runs: runs("irqbalance"),
    }
}

fn try_socket(seen: &mut Seen) -> Option<SocketTrial> {
    match rustix::net::socket(AddressFamily::XDP, SocketType::RAW, None) {
        Ok(_) => Some(SocketTrial::Works),
        Err(Errno::AFNOSUPPORT) => Some(SocketTrial::NotInKernel),
        Err(Errno::PERM | Errno::ACCESS) => Some(SocketTrial::Refused),
        Err(err) => {
            seen.not("whether AF_XDP sockets can be made", err);
            None
        }
    }
}

fn process() -> Process {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(|line| line.trim_start_matches(':').trim().to_owned())
    };
    let capabilities = field("CapEff").and_then(|set| u64::from_str_radix(&set, 16).ok());
    Process {
        user: Some(rustix::process::geteuid().as_raw()),
        capabilities,
        memlock: getrlimit(Resource::Memlock).current,
        in_first_user_namespace: read("/proc/self/uid_map").map(|map| maps_all(&map)),
        is_filtered: field("Seccomp").map(|mode| mode != "0"),
        container: container(),
    }
}

/// Whether a map of users is the one of the first user namespace
/// (user_namespaces(7)): every user, as itself.
fn maps_all(map: &str) -> bool {
    let numbers: Vec<_> = map.split_whitespace().collect();
    numbers == ["0", "0", "4294967295"]
}

/// What container managers leave for those inside: systemd's Container
/// Interface, Docker's and Podman's files.
fn container() -> Option<String> {
    read("/run/systemd/container")
        .or_else(|| {
            fs::exists("/run/.containerenv")
                .ok()?
                .then(|| "podman".into())
        })
        .or_else(|| fs::exists("/.dockerenv").ok()?.then(|| "docker".into()))
}

fn cpus() -> Vec<u32> {
    let online = read("/sys/devices/system/cpu/online");
    online.map(|list| parse_cpus(&list)).unwrap_or_default()
}

fn nodes() -> BTreeMap<u32, Vec<u32>> {
    let dir = Path::new("/sys/devices/system/node");
    let online = read(dir.join("online")).unwrap_or_default();
    let cpus = |node: u32| read(dir.join(format!("node{node}/cpulist")));
    parse_cpus(&online)
        .into_iter()
        .filter_map(|node| Some((node, parse_cpus(&cpus(node)?))))
        .collect()
}

fn huge_pages() -> Option<HugePages> {
    let dir = Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB");
    let number = |file: &str| read(dir.join(file))?.parse().ok();
    Some(HugePages {
        total: number("nr_hugepages")?,
        free: number("free_hugepages")?,
    })
}

fn memory_available() -> Option<u64> {
    let text = read("/proc/meminfo")?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// Whether a process of this name runs, as far as /proc shows others'.
fn runs(name: &str) -> Option<bool> {
    let processes = fs::read_dir("/proc").ok()?;
    let mut names = processes
        .flatten()
        .filter_map(|process| read(process.path().join("comm")));
    Some(names.any(|comm| comm == name))
}
