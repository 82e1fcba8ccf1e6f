//! Channels, how flows are spread over them, rings.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::{Case, Finding, Mend, ranges};
use crate::doctor::plan::{Attach, Bind};

pub fn judge(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = vec![channels(case)];
    findings.extend(taken(case));
    findings.extend(spread(case));
    findings.extend(rings(case));
    findings.extend(frames_for_rings(case));
    findings
}

fn channels(case: &Case<'_>) -> Finding {
    let there = case.rx_queues();
    let most = case
        .interface
        .channels
        .map(|c| c.combined_max.max(c.rx_max));
    let most = most.filter(|most| *most > there);
    let queues = if there == 1 { "queue" } else { "queues" };
    let found = match most {
        Some(most) => format!("{there} receive {queues} of at most {most}"),
        None => format!("{there} receive {queues}"),
    };
    let Some(asked) = case
        .plan
        .queues
        .as_ref()
        .filter(|asked| *asked.end() >= there)
    else {
        return Finding::ok("channels", found);
    };
    let name = case.name();
    let need = asked.end() + 1;
    let last = there - 1;
    let finding = Finding::problem(
        "channels",
        format!("{found}, but --queues names {}", asked.end()),
    )
    .why("a socket cannot be bound to a queue that is not there (EINVAL)");
    let finding = match most.filter(|most| *most >= need) {
        Some(_) => finding.mend(
            Mend::change(
                &format!("ethtool -L {name} combined {need}"),
                &format!("ethtool -L {name} combined {there}"),
            )
            .remark("most drivers reset the NIC: its traffic stops for a moment"),
        ),
        None => finding,
    };
    finding.mend(Mend::advice(format!("use --queues 0-{last}")))
}

pub fn ena_channels(case: &Case<'_>) -> Option<Finding> {
    let channels = case.interface.channels?;
    if case.driver() != "ena" || case.plan.attach == Attach::Generic {
        return None;
    }
    let half = channels.combined_max / 2;
    let found = format!(
        "{} channels of at most {} are in use",
        channels.combined, channels.combined_max
    );
    if channels.combined <= half {
        return Some(Finding::ok("ena-channels", found));
    }
    let (name, now) = (case.name(), channels.combined);
    Some(
        Finding::new("ena-channels", case.without_driver_mode(), found)
            .why(
                "ena gives each channel a second transmit queue for XDP: at most half of its \
                 channels may be in use (EINVAL otherwise)",
            )
            .mend(
                Mend::change(
                    &format!("ethtool -L {name} combined {half}"),
                    &format!("ethtool -L {name} combined {now}"),
                )
                .remark("the NIC is reset: its traffic stops for a moment"),
            ),
    )
}

pub fn veth_queues(case: &Case<'_>) -> Option<Finding> {
    let peer = case.interface.peer.as_ref()?;
    let sends = peer.tx_queues?;
    let receives = case.rx_queues();
    if sends <= receives || case.plan.attach == Attach::Generic {
        return None;
    }
    let found = format!("the peer sends on {sends} queues, this end receives on {receives}");
    Some(
        Finding::new("veth-queues", case.without_driver_mode(), found)
            .why(
                "veth refuses a program in the driver where the peer has more transmit queues \
                 than this end has receive queues (ENOSPC)",
            )
            .mend(
                Mend::change(
                    &format!("ethtool -L {} rx {sends}", case.name()),
                    &format!("ethtool -L {} rx {receives}", case.name()),
                )
                .remark(
                    "if the pair was made with so many; otherwise make it anew with `numrxqueues`",
                ),
            ),
    )
}

fn taken(case: &Case<'_>) -> Option<Finding> {
    let queues = case.interface.rx_queues.as_ref()?;
    let taken: Vec<_> = queues
        .iter()
        .filter(|queue| queue.has_xsk && case.serves(queue.id))
        .map(|queue| queue.id)
        .collect();
    if taken.is_empty() {
        return None;
    }
    let found = format!("queues {} have an AF_XDP socket already", ranges(&taken));
    Some(
        Finding::problem("queue-taken", found)
            .why("a queue has one socket (EBUSY)")
            .mend(
                Mend::command("ss --xdp -e -p")
                    .remark("shows who has it; then end that process or choose other --queues"),
            ),
    )
}

/// The queues that flows are spread over.
fn spread_over(case: &Case<'_>) -> BTreeSet<u32> {
    let table = case.interface.rss_table.iter().flatten().copied();
    let table: BTreeSet<_> = table.collect();
    if table.is_empty() {
        return (0..case.rx_queues()).collect();
    }
    table
}

fn spread(case: &Case<'_>) -> Option<Finding> {
    let over = spread_over(case);
    let shown = ranges(&over.iter().copied().collect::<Vec<_>>());
    let there = |asked: &&RangeInclusive<u32>| *asked.end() < case.rx_queues();
    let Some(asked) = case.plan.queues.as_ref().filter(there) else {
        let found = match over.len() {
            1 => format!("all flows come on queue {shown}"),
            _ => format!("flows are spread over queues {shown}"),
        };
        return Some(Finding::ok("rss", found));
    };
    let left: Vec<_> = over
        .iter()
        .copied()
        .filter(|queue| !asked.contains(queue))
        .collect();
    if left.is_empty() {
        let unused: Vec<_> = asked
            .clone()
            .filter(|queue| !over.contains(queue))
            .collect();
        return Some(if unused.is_empty() {
            Finding::ok("rss", format!("flows are spread over queues {shown}"))
        } else {
            Finding::note(
                "rss",
                format!("no flows are spread to queues {}", ranges(&unused)),
            )
            .why("these get work only from rules of their own (`ethtool -N`)")
        });
    }
    let found = format!(
        "flows are spread to queues {} too, which --queues leaves out",
        ranges(&left)
    );
    let name = case.name();
    let (start, count) = (asked.start(), case.served_queues());
    let last = case.rx_queues() - 1;
    let finding = Finding::warning("rss", found).why(
        "what arrives there goes to the kernel, which has no server at that address: those \
         connections fail, unless rules (`ethtool -N`) steer the server's flows to its queues",
    );
    let finding = if case
        .interface
        .rss_table
        .as_ref()
        .is_some_and(|table| !table.is_empty())
    {
        finding.mend(
            Mend::change(
                &format!("ethtool -X {name} start {start} equal {count}"),
                &format!("ethtool -X {name} default"),
            )
            .remark("the kernel's traffic on this interface then uses these queues alone, too"),
        )
    } else {
        finding
    };
    Some(finding.mend(Mend::advice(format!("use --queues 0-{last}"))))
}

fn rings(case: &Case<'_>) -> Option<Finding> {
    let rings = case.interface.rings?;
    let found = format!(
        "rings of {} frames to receive (at most {}), {} to send (at most {})",
        rings.rx, rings.rx_max, rings.tx, rings.tx_max
    );
    if rings.rx >= 512 || rings.rx >= rings.rx_max {
        return Some(Finding::ok("rings", found));
    }
    let (name, better) = (case.name(), rings.rx_max.min(2048));
    Some(
        Finding::note("rings", found)
            .why("a burst that is longer than the receive ring is lost before anyone sees it")
            .mend(
                Mend::change(
                    &format!("ethtool -G {name} rx {better}"),
                    &format!("ethtool -G {name} rx {}", rings.rx),
                )
                .remark("most drivers reset the NIC: its traffic stops for a moment"),
            ),
    )
}

/// With zero-copy the NIC's ring is filled from the server's frames.
fn frames_for_rings(case: &Case<'_>) -> Option<Finding> {
    let rings = case.interface.rings?;
    let offers = case.interface.xdp.is_some_and(|xdp| xdp.zero_copy);
    let wanted = case.plan.bind != Bind::Copy && case.plan.attach != Attach::Generic;
    let frames = case.plan.frames;
    if !offers || !wanted || frames >= 2 * rings.rx {
        return None;
    }
    let name = case.name();
    let found = format!("{frames} frames for a receive ring of {}", rings.rx);
    Some(
        Finding::warning("frames", found)
            .why(
                "with zero-copy the NIC holds as many of the server's frames as its ring has \
                 places: what is left must do for all that is in flight and buffered",
            )
            .mend(Mend::advice(format!("use --frames {}", 4 * rings.rx)))
            .mend(
                Mend::change(
                    &format!("ethtool -G {name} rx {}", frames / 4),
                    &format!("ethtool -G {name} rx {}", rings.rx),
                )
                .remark("most drivers reset the NIC: its traffic stops for a moment"),
            ),
    )
}
