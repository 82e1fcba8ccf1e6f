//! The MTU against the slots of the server's memory and the driver's buffers.

use super::drivers;
use super::interface::driver_runs_programs;
use super::{Case, Finding, Mend, Severity};
use crate::doctor::plan::{Attach, Plan};

pub fn judge(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = vec![fits(case)];
    findings.extend(multi_buffer(case));
    findings
}

fn set_mtu(case: &Case<'_>, name: &str, to: u32, from: u32) -> Mend {
    Mend::change(
        &format!("ip link set dev {name} mtu {to}"),
        &format!("ip link set dev {name} mtu {from}"),
    )
    .remark(if name == case.name() {
        "for the kernel's traffic on this interface, too; a link's two ends should have the same"
    } else {
        "on the peer"
    })
}

fn fits(case: &Case<'_>) -> Finding {
    let mtu = case.interface.link.mtu;
    let frame_len = case.plan.frame_len(mtu);
    let largest = Plan::largest_mtu(frame_len);
    if mtu <= largest {
        let found = format!("frames of MTU {mtu} fit into {frame_len} bytes (up to MTU {largest})");
        return Finding::ok("mtu", found);
    }
    let found =
        format!("frames of MTU {mtu} do not fit into {frame_len} bytes (up to MTU {largest})");
    let finding = Finding::problem("mtu", found).why(
        "256 bytes of each slot are the kernel's, and a frame must fit into one (frames of several \
         buffers are not taken): the server refuses to start",
    );
    let finding = if mtu <= Plan::largest_mtu(4096) {
        finding.mend(Mend::advice("use --frame-len 4096"))
    } else {
        finding
    };
    finding.mend(set_mtu(case, case.name(), 1500, mtu))
}

pub fn native_limit(case: &Case<'_>) -> Option<Finding> {
    if case.plan.attach == Attach::Generic || driver_runs_programs(case) == Some(false) {
        return None;
    }
    let driver = case.driver();
    let flags = case.interface.private_flags.as_ref();
    let legacy = flags.is_some_and(|flags| flags.get("legacy-rx") == Some(&true));
    let limit = drivers::native_mtu(driver, legacy)?;
    // What veth looks at is what the peer may send.
    let peer = case.interface.peer.as_ref();
    let (whose, mtu) = match peer.and_then(|peer| peer.mtu) {
        Some(mtu) => ("the peer's MTU", mtu),
        None => ("MTU", case.interface.link.mtu),
    };
    let found = format!("{whose} {mtu}, {driver} attaches programs up to {limit}");
    if mtu <= limit {
        return Some(Finding::ok("native-mtu", found));
    }
    let name = peer
        .and_then(|peer| peer.name.as_deref())
        .unwrap_or(case.name());
    Some(
        Finding::new("native-mtu", case.without_driver_mode(), found)
            .why(
                "the driver gives each frame one buffer and refuses a program that does not take \
                 several (EINVAL, ERANGE or EOPNOTSUPP); --attach auto falls to generic mode",
            )
            .mend(set_mtu(case, name, limit.min(1500), mtu)),
    )
}

fn multi_buffer(case: &Case<'_>) -> Option<Finding> {
    let xdp = case.interface.xdp?;
    let found = if xdp.rx_sg {
        "the driver could take frames of several buffers"
    } else {
        "the driver takes frames of one buffer"
    };
    Some(Finding::new(
        "multi-buffer",
        Severity::Ok,
        format!("{found}; wirepath uses one"),
    ))
}
