//! Opening the device of `serve --xdp`.

use std::ops::RangeInclusive;

use wirepath_driver::Queue;
use wirepath_driver::xdp::{
    AttachMode, BindMode, BusyPoll, Deployment, Interface, Rules, Xdp, XdpInfo, XdpOptions,
};
use wirepath_stack::{Config, MacAddr};

use super::options::{Attach, Bind, Options};
use super::plan::Plan;
use crate::device::Opened;
use crate::failure::Failure;

/// That this build has AF_XDP.
pub fn available(_interface: &str) -> Result<(), Failure> {
    Ok(())
}

/// Opens the interface's queues for `plan`. The words say what the kernel gave,
/// and what a peer must do.
pub fn open(options: &Options, interface: &str, plan: &Plan) -> Result<(Opened, String), Failure> {
    let found = Interface::named(interface).map_err(|e| Failure::setup(&e))?;
    let queues = match &options.queues {
        Some(queues) => queues.0.clone(),
        None => 0..=found.rx_queues - 1,
    };
    let mac = own_mac(options, &found)?;
    let xdp =
        Xdp::open(&wanted(options, interface, queues, plan)).map_err(|e| Failure::setup(&e))?;
    let words = given(xdp.info());
    let mut config = Config::new(mac, plan.addrs.clone());
    config.gateways = options.gateways.clone();
    let queues = xdp.into_queues().into_iter();
    let queues = queues.map(|queue| Box::new(queue) as Box<dyn Queue>);
    let opened = Opened::new(queues.collect(), config, options.pcap.as_deref())?;
    Ok((opened, words))
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

/// What the kernel gave, in a line.
fn given(info: &XdpInfo) -> String {
    let copies = info.zero_copy.iter().filter(|zero| !**zero).count();
    let bind = match copies {
        0 => "zero-copy".to_owned(),
        all if all == info.zero_copy.len() => "copy".to_owned(),
        some => format!(
            "copy on {some} of {} queues, zero-copy on the rest",
            info.zero_copy.len()
        ),
    };
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
        "AF_XDP on {} {queues}: {} mode{refused}, {bind}",
        info.interface.name, info.attached.mode
    )
}
