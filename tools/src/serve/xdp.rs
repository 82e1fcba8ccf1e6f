//! The device of `serve --xdp`: opening it, and what it tells.

use std::ops::RangeInclusive;

use serde_json::{Value, json};
use wirepath_driver::Queue;
use wirepath_driver::xdp::{
    AttachMode, BindMode, BusyPoll, Deployment, Interface, Monitor, QueueStats, Rules, Xdp,
    XdpInfo, XdpOptions,
};
use wirepath_stack::{Config, MacAddr, Stats};

use super::ledger::Entry;
use super::options::{Attach, Bind, Options};
use super::plan::Plan;
use crate::device::{Opened, object};
use crate::failure::Failure;

/// That this build has AF_XDP.
pub fn available(_interface: &str) -> Result<(), Failure> {
    Ok(())
}

/// Opens the interface's queues for `plan`.
pub fn open(options: &Options, interface: &str, plan: &Plan) -> Result<(Opened, Card), Failure> {
    let found = Interface::named(interface).map_err(|e| Failure::setup(&e))?;
    let queues = match &options.queues {
        Some(queues) => queues.0.clone(),
        None => 0..=found.rx_queues - 1,
    };
    let mac = own_mac(options, &found)?;
    let xdp =
        Xdp::open(&wanted(options, interface, queues, plan)).map_err(|e| Failure::setup(&e))?;
    let card = Card {
        info: xdp.info().clone(),
        monitor: xdp.monitor(),
    };
    let mut config = Config::new(mac, plan.addrs.clone());
    config.shared_addrs = plan.shared;
    config.gateways = options.gateways.clone();
    let queues = xdp.into_queues().into_iter();
    let queues = queues.map(|queue| Box::new(queue) as Box<dyn Queue>);
    let opened = Opened::new(queues.collect(), config, &options.capture)?;
    Ok((opened, card))
}

fn own_mac(options: &Options, found: &Interface) -> Result<MacAddr, Failure> {
    let theirs = found.mac.map(MacAddr);
    options.mac.or(theirs).ok_or_else(|| {
        Failure::refused(format!(
            "{} is not Ethernet, and AF_XDP serves Ethernet alone; give the interface of a network \
             card or a veth",
            found.name
        ))
    })
}

fn wanted(
    options: &Options,
    interface: &str,
    queues: RangeInclusive<u32>,
    plan: &Plan,
) -> XdpOptions {
    let mut wanted = XdpOptions::new(interface, rules(plan));
    wanted.queues = queues;
    wanted.attach = match options.xdp.attach {
        Attach::Auto => AttachMode::Auto,
        Attach::Driver => AttachMode::Driver,
        Attach::Generic => AttachMode::Generic,
    };
    wanted.bind = match options.xdp.bind {
        Bind::Auto => BindMode::Auto,
        Bind::Copy => BindMode::Copy,
        Bind::ZeroCopy => BindMode::ZeroCopy,
    };
    wanted.frames = options.xdp.frames;
    wanted.frame_len = options.xdp.frame_len;
    wanted.ring_len_frames = options.xdp.ring_len;
    wanted.busy_poll = options.xdp.busy_poll.map(|poll| BusyPoll {
        usecs: poll.usecs,
        budget: poll.budget,
    });
    wanted.huge_pages = options.xdp.huge_pages;
    wanted.mac = options.mac.map(|mac| mac.0);
    wanted
}

fn rules(plan: &Plan) -> Rules {
    let ports = plan.ports.clone();
    let deploy = if plan.shared {
        Deployment::Shared {
            ports: ports.unwrap_or_default(),
        }
    } else {
        Deployment::Own { ports }
    };
    Rules {
        addrs: plan.addrs.iter().map(|cidr| cidr.addr).collect(),
        deploy,
    }
}

/// Queues of a card, as they were opened, and their counters.
#[derive(Clone)]
pub struct Card {
    info: XdpInfo,
    monitor: Monitor,
}

impl Card {
    /// What the kernel gave, in a line.
    pub fn given(&self) -> String {
        let info = &self.info;
        let (first, last) = (info.queues.start(), info.queues.end());
        let queues = if first == last {
            format!("queue {first}")
        } else {
            format!("queues {first}-{last}")
        };
        let refused = match &info.attached.driver_refused {
            Some(reason) => format!(" (in the driver it was refused: {reason})"),
            None => String::new(),
        };
        format!(
            "AF_XDP on {} {queues}: {} mode{refused}, {}",
            info.interface.name,
            info.attached.mode,
            self.bind()
        )
    }

    fn bind(&self) -> String {
        let zero_copy = &self.info.zero_copy;
        match zero_copy.iter().filter(|zero| !**zero).count() {
            0 => "zero-copy".to_owned(),
            all if all == zero_copy.len() => "copy".to_owned(),
            some => format!(
                "copy on {some} of {} queues, zero-copy on the rest",
                zero_copy.len()
            ),
        }
    }

    /// Modes, the kernel's counters of each queue, its rings, and the program's
    /// verdicts.
    pub fn json(&self) -> Value {
        let stats = self.monitor.read();
        let each = stats.queues.iter().zip(&self.info.zero_copy);
        let queues = each.map(|(queue, zero_copy)| {
            let mut all = object(|put| queue.each(put));
            all["queue"] = queue.queue.into();
            all["zero_copy"] = (*zero_copy).into();
            all["rings"] = object(|put| queue.occupancy.each(put));
            all["ring_len_frames"] = queue.ring_len_frames.into();
            all
        });
        json!({
            "interface": self.info.interface.name,
            "attach": self.info.attached.mode.to_string(),
            "driver_refused": self.info.attached.driver_refused,
            "queues": queues.collect::<Value>(),
            "verdicts": object(|put| stats.verdicts.each(put)),
        })
    }

    /// The counters that are not 0, a line for each queue.
    pub fn lines(&self) -> Vec<String> {
        let stats = self.monitor.read();
        let line = |queue: &QueueStats| {
            let mut text = format!("queue {}:", queue.queue);
            queue.each(|name, value| {
                if value > 0 {
                    text += &format!(" {value} {name}");
                }
            });
            text
        };
        stats.queues.iter().map(line).collect()
    }

    /// From the frames that came to the program to those that the driver took,
    /// and what the driver gave to the card.
    pub fn ledger(&self, stack: &Stats) -> Vec<Entry> {
        let stats = self.monitor.read();
        let sum = |of: fn(&QueueStats) -> u64| stats.queues.iter().map(of).sum();
        let handed: u64 = stack.shards.iter().map(|s| s.ring.rx_frames).sum();
        let bad_len: u64 = stack.shards.iter().map(|s| s.ring.rx_bad_len).sum();
        let mut verdicts = Vec::new();
        stats
            .verdicts
            .each(|name, frames| verdicts.push((name, frames)));
        vec![
            Entry {
                stage: "program",
                frames: stats.verdicts.frames(),
                went: verdicts,
            },
            Entry {
                stage: "socket.rx",
                frames: stats.verdicts.redirected(),
                went: vec![
                    ("received", sum(|q| q.received)),
                    ("in_ring", sum(|q| q.occupancy.rx.into())),
                    ("dropped", sum(|q| q.kernel.rx_dropped)),
                    ("ring_full", sum(|q| q.kernel.rx_ring_full)),
                ],
            },
            Entry {
                stage: "card.rx",
                frames: sum(|q| q.received),
                went: vec![("to_driver", handed), ("bad_len", bad_len)],
            },
            Entry {
                stage: "card.tx",
                frames: stack.shards.iter().map(|s| s.ledger.to_ring).sum(),
                went: vec![
                    ("completed", sum(|q| q.completed)),
                    ("in_flight", sum(QueueStats::in_flight)),
                    ("invalid", sum(|q| q.kernel.tx_invalid_descs)),
                ],
            },
        ]
    }
}
