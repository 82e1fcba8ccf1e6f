//! Offloads that change frames before the server sees them.

use std::collections::BTreeMap;

use super::{Case, Finding, Mend, Severity};
use crate::doctor::facts::{Feature, Peer};
use crate::doctor::plan::Attach;

pub fn judge(case: &Case<'_>, is_generic: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(merging(case));
    if is_generic {
        findings.extend(virtio_checksums(case));
    }
    findings.extend(fcs(case));
    findings.extend(vlan(case));
    findings.extend(peer(case));
    if findings
        .iter()
        .all(|finding| finding.severity == Severity::Ok)
        && case.interface.features.is_some()
    {
        findings.push(Finding::ok(
            "offloads",
            "no offload is on that changes what arrives",
        ));
    }
    findings
}

fn turn(case: &Case<'_>, feature: &str) -> Mend {
    let name = case.name();
    Mend::change(
        &format!("ethtool -K {name} {feature} off"),
        &format!("ethtool -K {name} {feature} on"),
    )
}

/// Features by which a NIC makes one frame of several, with the names of what
/// is found about them.
const MERGING: [(&str, &str); 2] = [("lro", "rx-lro"), ("gro-hw", "rx-gro-hw")];

const MERGING_WHY: &str = "the NIC makes one large frame of several: it does not fit into a slot";

/// Drivers that refuse a program while the NIC merges frames; others turn it
/// off themselves, or not at all.
fn refuses_merging(driver: &str) -> bool {
    matches!(driver, "mlx5_core" | "ixgbe")
}

fn merges<'a>(case: &'a Case<'_>) -> impl Iterator<Item = (&'static str, &'static str)> + 'a {
    let on = |(_, feature): &(&str, &str)| case.feature_is_on(feature);
    MERGING
        .into_iter()
        .filter(on)
        .filter(|_| case.driver() != "virtio_net")
}

/// As [`merging`], where the driver then refuses a program.
pub fn refused_merging(case: &Case<'_>) -> Option<Finding> {
    let driver = case.driver();
    let (id, feature) = merges(case).next().filter(|_| refuses_merging(driver))?;
    Some(
        Finding::new(id, case.without_driver_mode(), format!("{feature} is on"))
            .why(format!(
                "{MERGING_WHY}; {driver} refuses a program while it is on (EINVAL)"
            ))
            .mend(turn_off_merging(case, feature)),
    )
}

/// With a generic program the kernel does without LRO and GRO of all kinds by
/// itself (`generic_xdp_install` and `netif_elide_gro` in net/core).
fn merging(case: &Case<'_>) -> Vec<Finding> {
    if refuses_merging(case.driver()) || case.plan.attach == Attach::Generic {
        return Vec::new();
    }
    let found = merges(case).map(|(id, feature)| {
        Finding::warning(id, format!("{feature} is on"))
            .why(format!(
                "{MERGING_WHY}; in generic mode the kernel turns it off by itself, a driver may not"
            ))
            .mend(turn_off_merging(case, feature))
    });
    found.collect()
}

fn turn_off_merging(case: &Case<'_>, feature: &str) -> Mend {
    turn(case, feature).remark("hardware drivers may reset the NIC: its traffic stops for a moment")
}

/// Large frames that the host of a virtual machine hands over.
pub fn virtio_merging(case: &Case<'_>) -> Option<Finding> {
    let feature = "rx-gro-hw";
    if case.driver() != "virtio_net" || !case.feature_is_on(feature) {
        return None;
    }
    if !case.feature_is_fixed(feature) {
        return Some(
            Finding::note("gro-hw", format!("{feature} is on"))
                .why(
                    "the host hands over large frames; the kernel turns this off itself while a \
                     program is in the driver",
                )
                .mend(turn(case, feature).remark("no reset: the device is told by a command")),
        );
    }
    let found = format!("{feature} is on, and cannot be changed");
    Some(
        Finding::new("gro-hw", case.without_driver_mode(), found)
            .why(
                "the host hands over large frames and cannot be told to stop (no \
                 VIRTIO_NET_F_CTRL_GUEST_OFFLOADS): virtio_net refuses a program (EOPNOTSUPP)",
            )
            .mend(Mend::advice(
                "on the host, give the device these properties (QEMU): \
                 guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,guest_csum=off",
            ))
            .mend(Mend::advice(
                "use --attach generic: large frames are lost, and come again in parts",
            )),
    )
}

fn fcs(case: &Case<'_>) -> Option<Finding> {
    if !case.feature_is_on("rx-fcs") {
        return None;
    }
    Some(
        Finding::warning("rx-fcs", "rx-fcs is on")
            .why(
                "each frame carries its checksum of 4 bytes at its end: some drivers refuse a \
                 program, and slots hold 4 bytes less",
            )
            .mend(turn(case, "rx-fcs")),
    )
}

fn vlan(case: &Case<'_>) -> Option<Finding> {
    let vlans = &case.interface.vlans;
    if !case.feature_is_on("rx-vlan-hw-parse")
        || case.interface.link.kind.as_deref() == Some("veth")
    {
        return None;
    }
    if vlans.is_empty() {
        return Some(
            Finding::note(
                "rx-vlan",
                "the NIC takes VLAN tags off frames (rx-vlan-hw-parse)",
            )
            .why(
                "the program does not see these tags: a tagged frame for the server's \
                 address looks untagged. No VLAN is set up on this interface",
            )
            .mend(
                turn(case, "rx-vlan-hw-parse")
                    .remark("if tagged frames arrive; some drivers reset the NIC"),
            ),
        );
    }
    let list = vlans.join(", ");
    Some(
        Finding::warning(
            "rx-vlan",
            format!(
                "the NIC takes VLAN tags off frames \
                 (rx-vlan-hw-parse), and there are VLANs: {list}"
            ),
        )
        .why(
            "the program does not see the tags: frames of every VLAN for the server's \
             address are taken, and answered untagged",
        )
        .mend(turn(case, "rx-vlan-hw-parse").remark("some drivers reset the NIC")),
    )
}

/// Features that are on, of those a test chooses.
fn on(features: &BTreeMap<String, Feature>, is_it: impl Fn(&str) -> bool) -> Vec<&str> {
    let on = features
        .iter()
        .filter(|(_, feature)| feature.on && !feature.fixed);
    on.map(|(name, _)| name.as_str())
        .filter(|name| is_it(name))
        .collect()
}

const CHECKSUM_WHY: &str = "a veth carries frames whose TCP and UDP checksum is left to hardware \
    that is not there: the field holds part of the sum only, so every segment looks corrupt to \
    the server and is dropped, from the first SYN on";

fn peer(case: &Case<'_>) -> Option<Finding> {
    let peer = case.interface.peer.as_ref()?;
    let name = peer.name.as_deref().unwrap_or("PEER");
    let Some(features) = &peer.features else {
        return Some(unseen_peer(peer, name));
    };
    let checksums = on(features, |name| name.starts_with("tx-checksum-"));
    if checksums.is_empty() {
        return Some(Finding::ok(
            "peer-checksum",
            format!("the peer {name} completes its checksums"),
        ));
    }
    let found = format!(
        "the peer {name} leaves checksums incomplete ({})",
        checksums.join(", ")
    );
    let back: Vec<_> = checksums
        .iter()
        .map(|checksum| format!("{checksum} on"))
        .collect();
    let enter = match &peer.namespace {
        Some(namespace) => format!("ip netns exec {namespace} "),
        None => String::new(),
    };
    let off = format!("{enter}ethtool -K {name} tx off");
    let back = format!("{enter}ethtool -K {name} {}", back.join(" "));
    Some(
        Finding::problem("peer-checksum", found)
            .why(format!(
                "{CHECKSUM_WHY}. Segmentation (TSO) goes with it, which makes frames \
                 larger than a slot"
            ))
            .mend(
                Mend::change(&off, &back)
                    .remark(
                        "the peer's kernel then sums and cuts itself: more processor time \
                         there, nothing is interrupted",
                    )
                    .safe(),
            ),
    )
}

fn unseen_peer(peer: &Peer, name: &str) -> Finding {
    let place = match &peer.namespace {
        Some(namespace) => format!("in the network namespace {namespace}"),
        None => "in another network namespace, or a container or machine of its own".into(),
    };
    Finding::warning(
        "peer-checksum",
        format!("the offloads of the peer do not show: it is {place}"),
    )
    .why(CHECKSUM_WHY)
    .mend(
        Mend::change(
            &format!("ethtool -K {name} tx off"),
            &format!("ethtool -K {name} tx on"),
        )
        .remark("there, as root: for a container `nsenter -t PID -n ethtool -K eth0 tx off`"),
    )
}

/// Frames of the same host's other guests.
fn virtio_checksums(case: &Case<'_>) -> Option<Finding> {
    if case.driver() != "virtio_net" || !case.feature_is_on("rx-checksum") {
        return None;
    }
    let finding = Finding::warning("rx-checksum", "rx-checksum is on, in generic mode").why(
        "the host and its other guests may hand over frames with incomplete checksums, which \
         the server drops",
    );
    if !case.feature_is_fixed("rx-checksum") {
        return Some(finding.mend(turn(case, "rx-checksum")));
    }
    let finding = if case.plan.attach == Attach::Generic {
        finding.mend(Mend::advice(
            "use --attach driver: the kernel then turns it off",
        ))
    } else {
        finding
    };
    Some(finding.mend(Mend::advice(
        "on the host, give the device guest_csum=off (QEMU)",
    )))
}
