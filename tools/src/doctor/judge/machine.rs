//! The kernel, the rights and limits of this process, memory.

use super::{Finding, Mend, Severity, bytes};
use crate::doctor::facts::{Facts, Machine, Process, SocketTrial};
use crate::doctor::plan::Plan;

/// Capabilities that `serve --xdp` needs, by their numbers in
/// include/uapi/linux/capability.h.
const NEEDED: [(u32, &str, &str); 4] = [
    (12, "CAP_NET_ADMIN", "to attach the program"),
    (13, "CAP_NET_RAW", "to make the sockets"),
    (CAP_BPF, "CAP_BPF", "to load the program"),
    (
        CAP_PERFMON,
        "CAP_PERFMON",
        "for the kernel's verifier to take it",
    ),
];
/// What sharing the host's addresses takes, where a port is below 1024.
const TO_BIND: (u32, &str, &str) = (10, "CAP_NET_BIND_SERVICE", "to reserve ports below 1024");
const CAP_BPF: u32 = 39;
const CAP_PERFMON: u32 = 38;
/// Whoever has it may do what CAP_BPF and CAP_PERFMON are for.
const CAP_SYS_ADMIN: u32 = 21;
/// It lifts the limit of locked memory.
const CAP_IPC_LOCK: u32 = 14;

/// A huge page, bytes.
const HUGE_PAGE: u64 = 2 << 20;

pub fn judge(facts: &Facts, plan: &Plan, memory: u64) -> Vec<Finding> {
    let machine = &facts.machine;
    let mut findings = vec![build(facts)];
    findings.extend(kernel(machine));
    findings.extend(socket(machine));
    findings.extend(btf(machine));
    findings.extend(jit(machine));
    findings.extend(unprivileged_bpf(machine));
    findings.extend(capabilities(&machine.process, plan));
    findings.extend(user_namespace(&machine.process));
    findings.extend(container(machine, plan));
    findings.extend(memlock(machine, memory));
    findings.extend(huge_pages(machine, plan, memory));
    findings.push(Finding::ok(
        "bpffs",
        "a mounted bpffs is not needed: nothing is pinned",
    ));
    findings
}

fn build(facts: &Facts) -> Finding {
    let version = &facts.build.version;
    if facts.build.has_xdp {
        return Finding::ok("build", format!("wirepath {version}, with AF_XDP"));
    }
    Finding::problem("build", format!("wirepath {version}, built without AF_XDP"))
        .why(
            "`serve --xdp` is not in this build: its C library needs clang and headers, so it is \
             not in the default one",
        )
        .mend(Mend::advice(
            "in wirepath's source: make deps && cargo install --path tools --features xdp",
        ))
}

/// The first two numbers of a kernel's release.
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Linux 5.9 brought the link that attaches an XDP program (`bpf_link`), which
/// the kernel drops with the process.
const OLDEST: (u32, u32) = (5, 9);
/// Linux 5.11 brought busy polling that AF_XDP prefers, and took BPF maps off
/// the limit of locked memory.
const GOOD: (u32, u32) = (5, 11);

fn kernel(machine: &Machine) -> Option<Finding> {
    let release = machine.kernel.as_deref()?;
    let found = format!("Linux {release}");
    let upgrade = Mend::advice("install a newer kernel; 6.6 or later is best");
    Some(match version(release)? {
        old if old < OLDEST => Finding::problem("kernel", found)
            .why(
                "before Linux 5.9 a program cannot be attached so that it goes when the process \
                 dies",
            )
            .mend(upgrade),
        old if old < GOOD => Finding::warning("kernel", found)
            .why(
                "before Linux 5.11 AF_XDP cannot prefer busy polling, and maps count as locked \
                 memory",
            )
            .mend(upgrade),
        _ => Finding::ok("kernel", found),
    })
}

fn socket(machine: &Machine) -> Option<Finding> {
    Some(match machine.socket? {
        SocketTrial::Works => Finding::ok("af-xdp", "AF_XDP sockets can be made"),
        SocketTrial::NotInKernel => Finding::problem("af-xdp", "the kernel has no AF_XDP sockets")
            .why("they are the only way to the NIC's queues here")
            .mend(Mend::advice(
                "run a kernel with CONFIG_XDP_SOCKETS=y, as all large distributions' are",
            )),
        SocketTrial::Refused => {
            Finding::problem("af-xdp", "this process may not make AF_XDP sockets")
                .why(
                    "socket(AF_XDP) wants CAP_NET_RAW in the network namespace, and no filter of \
                     system calls against it",
                )
                .mend(rights())
        }
    })
}

/// How to get the rights.
fn rights() -> Mend {
    Mend::advice(
        "run it as root (it drops what it does not need), or from the systemd unit in \
         docs/af-xdp.md, which gives a plain user the capabilities",
    )
}

fn btf(machine: &Machine) -> Option<Finding> {
    Some(if machine.has_btf? {
        Finding::ok("btf", "the kernel describes its types (BTF)")
    } else {
        Finding::note(
            "btf",
            "the kernel does not describe its types (no /sys/kernel/btf/vmlinux)",
        )
        .why("wirepath's program needs no BTF; other XDP tools on this machine may")
    })
}

fn jit(machine: &Machine) -> Option<Finding> {
    Some(match machine.bpf_jit? {
        0 => Finding::warning(
            "jit",
            "BPF programs are interpreted (net.core.bpf_jit_enable is 0)",
        )
        .why(
            "the program runs for each frame of the interface, the kernel's too: \
             interpreted, it takes several times as long",
        )
        .mend(
            Mend::change(
                "sysctl -w net.core.bpf_jit_enable=1",
                "sysctl -w net.core.bpf_jit_enable=0",
            )
            .remark("programs that are loaded from then on are compiled")
            .safe(),
        ),
        _ => Finding::ok("jit", "BPF programs are compiled (net.core.bpf_jit_enable)"),
    })
}

fn unprivileged_bpf(machine: &Machine) -> Option<Finding> {
    Some(match machine.unprivileged_bpf_disabled? {
        0 => Finding::note(
            "unprivileged-bpf",
            "users without rights may load BPF programs (kernel.unprivileged_bpf_disabled is 0)",
        )
        .why("wirepath does not need it, and it has let users attack kernels")
        .mend(
            Mend::change(
                "sysctl -w kernel.unprivileged_bpf_disabled=2",
                "sysctl -w kernel.unprivileged_bpf_disabled=0",
            )
            .remark("not run by --fix: other programs may rely on it"),
        ),
        n => Finding::ok(
            "unprivileged-bpf",
            format!(
                "only those with CAP_BPF load programs (kernel.unprivileged_bpf_disabled is {n})"
            ),
        ),
    })
}

fn has(process: &Process, capability: u32) -> bool {
    let set = process.capabilities.unwrap_or(0);
    set >> capability & 1 == 1
}

/// The capabilities that it needs and lacks.
fn missing(process: &Process, plan: &Plan) -> Vec<(u32, &'static str, &'static str)> {
    let lacks = |number: u32| {
        let by_admin = matches!(number, CAP_BPF | CAP_PERFMON) && has(process, CAP_SYS_ADMIN);
        !has(process, number) && !by_admin
    };
    let binds_low = plan.share_host && plan.ports.iter().any(|port| *port < 1024);
    let needed = NEEDED.into_iter().chain(binds_low.then_some(TO_BIND));
    needed.filter(|(number, ..)| lacks(*number)).collect()
}

fn capabilities(process: &Process, plan: &Plan) -> Option<Finding> {
    process.capabilities?;
    let missing = missing(process, plan);
    if missing.is_empty() {
        let names = NEEDED.map(|(_, name, _)| name).join(", ");
        return Some(Finding::ok(
            "capabilities",
            format!("this process has {names}"),
        ));
    }
    let named: Vec<_> = missing
        .iter()
        .map(|(_, name, what)| format!("{name} ({what})"))
        .collect();
    let found = format!("this process lacks {}", named.join(", "));
    Some(
        Finding::problem("capabilities", found)
            .why("`serve --xdp` needs them while it starts, and drops them before it serves")
            .mend(rights()),
    )
}

fn user_namespace(process: &Process) -> Option<Finding> {
    if process.in_first_user_namespace? {
        return None;
    }
    Some(
        Finding::problem(
            "user-namespace",
            "this process is in a user namespace of its own",
        )
        .why(
            "bpf(2) asks for capabilities in the machine's first user namespace: root of another \
             one cannot load the program",
        )
        .mend(Mend::advice(
            "run it outside (a rootless container cannot run it), or in a container that keeps \
             the machine's users: `--userns=host --cap-add NET_ADMIN,NET_RAW,BPF,PERFMON`",
        )),
    )
}

fn container(machine: &Machine, plan: &Plan) -> Option<Finding> {
    let process = &machine.process;
    let kind = process.container.as_deref();
    let filtered = process.is_filtered == Some(true);
    let found = match (kind, filtered) {
        (None, false) => return None,
        (Some(kind), true) => format!("in a container ({kind}) with a filter of system calls"),
        (Some(kind), false) => format!("in a container ({kind})"),
        (None, true) => "under a filter of system calls (seccomp)".into(),
    };
    if machine.socket == Some(SocketTrial::Works) && missing(process, plan).is_empty() {
        let found = format!("{found}, which leaves this process what it needs");
        return Some(Finding::ok("container", found));
    }
    Some(Finding::note("container", found)
        .why("the container's network namespace, capabilities and seccomp profile bound what can \
            be done: bpf(2) and socket(AF_XDP) must be allowed, and the NIC must be inside or the \
            network the host's")
        .mend(Mend::advice(
            "with Docker or Podman: `--cap-add BPF --cap-add PERFMON --cap-add NET_ADMIN --cap-add \
             NET_RAW --network host --ulimit memlock=-1`; their default seccomp profiles allow \
             bpf(2) to those with CAP_BPF",
        )))
}

fn memlock(machine: &Machine, memory: u64) -> Option<Finding> {
    let process = &machine.process;
    process.capabilities?;
    if has(process, CAP_IPC_LOCK) {
        let found = "the limit of locked memory does not bind: this process has CAP_IPC_LOCK";
        return Some(Finding::ok("memlock", found));
    }
    let Some(limit) = process.memlock else {
        return Some(Finding::ok("memlock", "locked memory is not limited"));
    };
    let need = bytes(memory);
    if limit >= memory {
        let found = format!("locked memory up to {} is enough for {need}", bytes(limit));
        return Some(Finding::ok("memlock", found));
    }
    let found = format!(
        "locked memory is limited to {}, and the frames take {need}",
        bytes(limit)
    );
    let release = machine.kernel.as_deref().unwrap_or_default();
    let maps = match version(release) {
        Some(old) if old < GOOD => ", and on this kernel BPF maps too",
        _ => "; BPF maps do not count since Linux 5.11",
    };
    Some(
        Finding::problem("memlock", found)
            .why(format!(
                "the memory of AF_XDP frames counts as locked memory (ENOBUFS otherwise){maps}"
            ))
            .mend(Mend::advice(
                "as root, in the shell that starts it: ulimit -l unlimited",
            ))
            .mend(Mend::advice(
                "in a systemd unit: LimitMEMLOCK=infinity; in a container: --ulimit memlock=-1",
            )),
    )
}

fn huge_pages(machine: &Machine, plan: &Plan, memory: u64) -> Option<Finding> {
    let pages = machine.huge_pages?;
    let need = memory.div_ceil(HUGE_PAGE);
    if !plan.huge_pages {
        let found = format!(
            "{} huge pages, {} free; not asked for",
            pages.total, pages.free
        );
        return Some(Finding::ok("huge-pages", found));
    }
    let found = format!(
        "{} of {} huge pages are free, {need} are needed",
        pages.free, pages.total
    );
    if pages.free >= need {
        return Some(Finding::ok("huge-pages", found));
    }
    let total = pages.total + need - pages.free;
    let extra = (need - pages.free) * HUGE_PAGE;
    let available = machine.memory_available.unwrap_or(0);
    let mut mend = Mend::change(
        &format!("sysctl -w vm.nr_hugepages={total}"),
        &format!("sysctl -w vm.nr_hugepages={}", pages.total),
    )
    .remark(format!(
        "takes {} from the rest of the machine",
        bytes(extra)
    ));
    // A quarter of what is free leaves nobody short.
    if extra <= available / 4 {
        mend = mend.safe();
    }
    Some(Finding::new("huge-pages", Severity::Problem, found)
        .why("mmap of huge pages is refused (ENOMEM) where there are too few, and --huge-pages is \
            taken or refused, never ignored")
        .mend(mend))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        for (release, want) in [
            ("6.18.44-generic", Some((6, 18))),
            ("5.9", Some((5, 9))),
            ("6.1-rc3", Some((6, 1))),
            ("six", None),
            ("6", None),
            ("", None),
        ] {
            assert_eq!(version(release), want, "{release:?}");
        }
    }
}
