//! Receives frames from queue 0 of an interface and drops them, or sends each
//! back to the station that it came from, until it is told to stop: the ceiling
//! of what a server on that queue could do. `benches/forward` runs it.

use std::collections::VecDeque;
use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGINT, SIGTERM};
use wirepath_driver::xdp::{AttachMode, BusyPoll, Rules, Xdp, XdpOptions, XdpQueue};
use wirepath_driver::{Frame, Queue, clock};

#[derive(Parser)]
struct Options {
    /// The interface.
    interface: String,
    /// What to do with what comes in.
    action: Action,
    /// The address whose frames are taken.
    #[arg(long, default_value = "10.0.0.2")]
    addr: IpAddr,
    /// Where the program is to run.
    #[arg(long, default_value = "auto")]
    attach: Attach,
    /// Polls busily, up to this many microseconds a call and frames a poll.
    #[arg(long, value_name = "USECS[:BUDGET]", value_parser = parse_busy_poll)]
    busy_poll: Option<BusyPoll>,
    /// Looks at the ring for so many microseconds before it sleeps, which saves
    /// whoever sends the wake-ups.
    #[arg(long, value_name = "USECS", default_value_t = 0)]
    linger: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Action {
    Drop,
    Send,
}

#[derive(Clone, Copy, ValueEnum)]
enum Attach {
    Auto,
    Driver,
    Generic,
}

fn parse_busy_poll(text: &str) -> Result<BusyPoll, std::num::ParseIntError> {
    let (usecs, budget) = text.split_once(':').unwrap_or((text, "64"));
    Ok(BusyPoll {
        usecs: usecs.parse()?,
        budget: budget.parse()?,
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let mut wanted = XdpOptions::new(&options.interface, Rules::own([options.addr]));
    wanted.busy_poll = options.busy_poll;
    wanted.attach = match options.attach {
        Attach::Auto => AttachMode::Auto,
        Attach::Driver => AttachMode::Driver,
        Attach::Generic => AttachMode::Generic,
    };
    let xdp = Xdp::open(&wanted)?;
    println!(
        "listening on {}, {} mode",
        options.interface,
        xdp.info().attached.mode
    );
    let monitor = xdp.monitor();
    let mut queue = xdp.into_queues().pop().ok_or("no queue")?;
    run(&mut queue, &options, &stop)?;
    let stats = queue.stats();
    println!("received {}\nsent {}", stats.rx_frames, stats.tx_frames);
    println!("{:?}", monitor.read().queues[0].kernel);
    Ok(())
}

fn run(queue: &mut XdpQueue, options: &Options, stop: &AtomicBool) -> Result<(), Box<dyn Error>> {
    let (mut burst, mut to_send) = (Vec::new(), VecDeque::new());
    let mut last_frame_at = clock::now();
    while !stop.load(Ordering::Relaxed) {
        let now = clock::now();
        queue.reclaim(now);
        let taken = queue.rx_burst(now, &mut burst)?;
        match options.action {
            Action::Drop => queue.give_back(burst.drain(..)),
            Action::Send => {
                burst.iter_mut().for_each(turn_round);
                to_send.extend(burst.drain(..));
                queue.tx_burst(now, &mut to_send)?;
                queue.kick(now)?;
            }
        }
        if taken > 0 || !to_send.is_empty() {
            last_frame_at = now;
        } else if options.busy_poll.is_none()
            && now >= last_frame_at + Duration::from_micros(options.linger)
        {
            sleep(queue)?;
        }
    }
    Ok(())
}

/// Swaps the stations.
fn turn_round(frame: &mut Frame) {
    let (to, rest) = frame.split_at_mut(6);
    to.swap_with_slice(&mut rest[..6]);
}

/// Waits for frames, up to a tenth of a second.
fn sleep(queue: &mut XdpQueue) -> Result<(), Box<dyn Error>> {
    if !queue.arm() {
        let fd = queue.wakeup().ok_or("no socket")?;
        let most = Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&most)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
