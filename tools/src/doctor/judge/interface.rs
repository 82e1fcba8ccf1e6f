//! The link, the driver and its XDP, what else holds the interface.

use super::drivers;
use super::{Case, Finding, Mend, script};
use crate::doctor::facts::{Mode, Program};
use crate::doctor::plan::{Attach, Bind};
use crate::doctor::shell::quoted;

pub fn judge(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = vec![link_layer(case), link_up(case), driver(case)];
    findings.extend(zero_copy(case));
    findings.extend(program(case));
    findings.extend(master(case));
    findings.extend(vlan_parent(case));
    findings.extend(bond(case));
    findings
}

fn link_layer(case: &Case<'_>) -> Finding {
    match &case.interface.link.mac {
        Some(mac) => Finding::ok("link-layer", format!("Ethernet, {mac}")),
        None => Finding::problem("link-layer", "not an Ethernet interface")
            .why("the server's stack speaks Ethernet, with ARP and neighbour discovery")
            .mend(Mend::advice(
                "name another interface; `ip -br link` lists them",
            )),
    }
}

fn link_up(case: &Case<'_>) -> Finding {
    let link = &case.interface.link;
    let name = case.name();
    if !link.is_up {
        return Finding::problem("link", "the interface is down")
            .why("a socket cannot be bound to it (ENETDOWN)")
            .mend(
                Mend::change(
                    &format!("ip link set dev {name} up"),
                    &format!("ip link set dev {name} down"),
                )
                .remark("not run by --fix: it joins the machine to a network"),
            );
    }
    if !link.has_carrier {
        return Finding::warning("link", "up, without carrier")
            .why("nothing arrives and nothing leaves until the other side of the cable is up")
            .mend(Mend::advice(
                "bring up the other side, or look at the cable and the switch's port (`ethtool \
                 IFACE`)",
            ));
    }
    Finding::ok("link", "up, with carrier")
}

fn driver(case: &Case<'_>) -> Finding {
    let Some(driver) = &case.interface.driver else {
        return Finding::note("driver", "the driver does not show")
            .why("what is known of drivers' limits could not be judged");
    };
    let version = match &case.interface.driver_version {
        Some(version) => format!(" {version} (not the kernel's own, or one that states a version)"),
        None => String::new(),
    };
    Finding::ok("driver", format!("{driver}{version}"))
}

/// Whether the driver runs programs, as far as is known.
pub fn driver_runs_programs(case: &Case<'_>) -> Option<bool> {
    match case.interface.xdp {
        Some(xdp) => Some(xdp.basic && xdp.redirect),
        None => drivers::has_native_xdp(case.driver()),
    }
}

pub fn native(case: &Case<'_>) -> Option<Finding> {
    let driver = case.driver();
    match driver_runs_programs(case) {
        Some(true) if drivers::resets_on_attach(driver) && case.plan.attach != Attach::Generic => {
            let found = format!("{driver} runs programs in the driver");
            Some(Finding::note("native", found).why(
                "it resets its rings when a program is attached or leaves: for a moment the \
                 kernel's own traffic on the interface stops too",
            ))
        }
        Some(true) => Some(Finding::ok(
            "native",
            format!("{driver} runs programs in the driver"),
        )),
        Some(false) => Some(no_native(case)),
        None => Some(
            Finding::note("native", "whether the driver runs programs does not show")
                .why("the kernel tells since Linux 6.3; --attach auto tries, and says what it got"),
        ),
    }
}

/// Features that make some drivers take their XDP back while they are on.
const AGAINST_XDP: [&str; 2] = ["rx-lro", "rx-gro-hw"];

fn no_native(case: &Case<'_>) -> Finding {
    let driver = case.driver();
    let found = format!("{driver} does not offer to run programs in the driver now");
    let turned_off = AGAINST_XDP
        .into_iter()
        .find(|name| case.feature_is_on(name));
    let finding = Finding::new("native", case.without_driver_mode(), found).why(
        "generic mode works on every interface, but by then the kernel has made a packet of its \
         own of each frame: much slower, and no zero-copy",
    );
    match turned_off {
        Some(feature) => finding.mend(
            Mend::change(
                &format!("ethtool -K {} {feature} off", case.name()),
                &format!("ethtool -K {} {feature} on", case.name()),
            )
            .remark(format!(
                "some drivers (mlx5_core) take XDP back while {feature} is on"
            )),
        ),
        None if driver == "ena" => finding.mend(Mend::advice(
            "ena offers XDP while at most half of its channels are in use: see ena-channels",
        )),
        None => finding.mend(Mend::advice(
            "use --attach generic, or a NIC whose driver has XDP",
        )),
    }
}

fn zero_copy(case: &Case<'_>) -> Option<Finding> {
    let asked = case.plan.bind == Bind::ZeroCopy;
    if case.plan.attach == Attach::Generic {
        return asked.then(zero_copy_in_generic_mode);
    }
    let xdp = case.interface.xdp?;
    let driver = case.driver();
    if xdp.zero_copy {
        return Some(offered(case));
    }
    if !asked {
        let found = format!("{driver} copies each frame: it has no zero-copy");
        let why = "the kernel copies each frame between its memory and the server's";
        // Without XDP there is no telling: the driver then offers nothing.
        return xdp
            .basic
            .then(|| Finding::note("zero-copy", found).why(why));
    }
    let now = if xdp.basic { "" } else { " now" };
    Some(
        Finding::problem(
            "zero-copy",
            format!("{driver} does not offer zero-copy{now}"),
        )
        .why("--bind zerocopy is refused (EOPNOTSUPP)")
        .mend(Mend::advice("use --bind copy, or auto")),
    )
}

fn zero_copy_in_generic_mode() -> Finding {
    Finding::problem("zero-copy", "zero-copy is asked for in generic mode")
        .why("only a program in the driver can hand the NIC's own buffers over (EOPNOTSUPP)")
        .mend(Mend::advice("use --attach driver, or --bind copy"))
}

fn offered(case: &Case<'_>) -> Finding {
    let driver = case.driver();
    let found = format!("{driver} offers zero-copy");
    if driver == "virtio_net" && case.plan.bind != Bind::Copy {
        return Finding::note("zero-copy", found).why(
            "the device must also be able to reset one queue (VIRTIO_F_RING_RESET, which recent \
             versions of QEMU offer): EOPNOTSUPP otherwise, and --bind auto copies",
        );
    }
    Finding::ok("zero-copy", found)
}

fn text_of(program: &Program) -> String {
    let mode = match program.mode {
        Mode::Driver => "driver",
        Mode::Generic => "generic",
        Mode::Hardware => "hardware",
    };
    format!("program {} ({mode} mode)", program.id)
}

fn programs_text(programs: &[Program]) -> String {
    let texts: Vec<_> = programs.iter().map(text_of).collect();
    texts.join(", ")
}

fn program(case: &Case<'_>) -> Option<Finding> {
    let programs = &case.interface.link.programs;
    let Some(first) = programs.first() else {
        return Some(Finding::ok("program", "no XDP program is attached"));
    };
    let name = case.name();
    let found = format!("attached already: {}", programs_text(programs));
    let off = match first.mode {
        Mode::Driver => "xdpdrv",
        Mode::Generic => "xdpgeneric",
        Mode::Hardware => "xdpoffload",
    };
    Some(Finding::problem("program", found)
        .why("an interface has one program, and wirepath never replaces another's (EBUSY)")
        .mend(
            Mend::command(&format!("bpftool prog show id {}", first.id))
                .remark("shows what it is and which process holds it; then end that process. If \
                    it is wirepath itself, the interface is in use"),
        )
        .mend(
            Mend::command(&format!("ip link set dev {name} {off} off")).remark(
                "if no process holds it: this cannot be undone, and is refused while a link holds \
                 it (`bpftool link show`)",
            ),
        ))
}

fn master(case: &Case<'_>) -> Option<Finding> {
    let master = case.interface.master.as_ref()?;
    let kind = master.kind.as_deref().unwrap_or("device");
    let found = format!("part of the {kind} {}", master.name);
    if !master.programs.is_empty() {
        let with = programs_text(&master.programs);
        return Some(
            Finding::problem("master", format!("{found}, which has {with}"))
                .why("a program cannot be attached below one that an upper device has (EEXIST)")
                .mend(Mend::advice(format!(
                    "end who attached it to {}",
                    master.name
                ))),
        );
    }
    let why = match kind {
        "bond" => {
            "only what arrives on this member is taken, and what the server sends leaves by it: \
             when the bond moves the traffic to another member, the server is cut off"
        }
        "bridge" => {
            "what comes for the server by other ports of the bridge is not taken here, and what \
             it sends does not pass the bridge"
        }
        _ => "what the upper device would do to frames does not happen to the server's",
    };
    Some(
        Finding::warning("master", found)
            .why(why)
            .mend(Mend::advice(match kind {
                "bond" => {
                    "serve on the bond itself in generic mode (--attach generic), or on a NIC \
                     that is in no bond"
                }
                "bridge" => {
                    "serve on one end of a veth pair whose other end is a port of the bridge \
                     (see docs/af-xdp.md), or on a NIC that is in no bridge"
                }
                _ => "serve on an interface that is part of no other",
            })),
    )
}

/// A bond's own frames are its members': a socket of the bond does not get
/// what a program in a member's driver redirects (xsk_rcv_check in
/// net/xdp/xsk.c compares the devices).
fn bond(case: &Case<'_>) -> Option<Finding> {
    let is_bond = case.interface.link.kind.as_deref() == Some("bond");
    if !is_bond || case.plan.attach == Attach::Generic {
        return None;
    }
    Some(
        Finding::warning("bond", "a bond")
            .why(
                "in the driver the program runs on each member, whose frames a socket of the \
                 bond does not get: nothing arrives",
            )
            .mend(Mend::advice(
                "use --attach generic, which runs on the bond itself; or serve on one member",
            )),
    )
}

fn vlan_parent(case: &Case<'_>) -> Option<Finding> {
    if case.interface.link.kind.as_deref() != Some("vlan") {
        return None;
    }
    Some(Finding::note("vlan-interface", "a VLAN interface").why(
        "generic mode only: the program runs when the kernel has taken the tag off. On the \
         interface below, tagged frames stay the kernel's",
    ))
}

pub fn virtual_functions(case: &Case<'_>) -> Option<Finding> {
    let vfs = case.interface.virtual_functions.filter(|n| *n > 0)?;
    let found = format!("{vfs} virtual functions (SR-IOV) are on");
    let path = format!("/sys/class/net/{}/device/sriov_numvfs", case.name());
    let off = format!("echo 0 > {}", quoted(&path));
    if case.driver() != "ixgbe" {
        return Some(Finding::ok("sr-iov", found));
    }
    Some(
        Finding::new("sr-iov", case.without_driver_mode(), found)
            .why("ixgbe refuses programs while SR-IOV is on (EINVAL)")
            .mend(
                Mend::steps([(script(off), Vec::new())])
                    .remark("takes the virtual functions away from whoever uses them"),
            ),
    )
}
