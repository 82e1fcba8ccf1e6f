//! Receives frames from a queue and drops them, or sends each back to whom it
//! came from, and says how many it managed: the ceiling of what a server on that
//! queue could do.
//!
//! ```text
//! forward IFACE ADDR drop|back SECONDS [generic] [busy]
//! ```

use std::collections::VecDeque;
use std::error::Error;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wirepath_driver::xdp::{AttachMode, BusyPoll, Rules, Xdp, XdpOptions, XdpQueue};
use wirepath_driver::{Frame, Queue, clock};

const USAGE: &str = "usage: forward IFACE ADDR drop|back SECONDS [generic] [busy]";

/// How often the time is looked at while frames come in.
const BURSTS_PER_LOOK: u32 = 256;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [interface, addr, mode, seconds, rest @ ..] = &args[..] else {
        return Err(USAGE.into());
    };
    let send_back = match mode.as_str() {
        "drop" => false,
        "back" => true,
        _ => return Err(USAGE.into()),
    };
    let mut options = XdpOptions::new(interface, Rules::own([addr.parse()?]));
    for word in rest {
        match word.as_str() {
            "generic" => options.attach = AttachMode::Generic,
            "busy" => {
                options.busy_poll = Some(BusyPoll {
                    usecs: 20,
                    budget: 64,
                });
            }
            _ => return Err(USAGE.into()),
        }
    }
    let limit = Duration::from_secs_f64(seconds.parse()?);
    let xdp = Xdp::open(&options)?;
    let monitor = xdp.monitor();
    println!(
        "listening on {interface}, {} mode",
        xdp.info().attached.mode
    );
    let mut queue = xdp.into_queues().pop().ok_or("no queue")?;
    run(&mut queue, limit, send_back, options.busy_poll.is_some())?;
    let stats = queue.stats();
    println!("received {} sent {}", stats.rx_frames, stats.tx_frames);
    println!("{:?}", monitor.read().queues[0].kernel);
    Ok(())
}

fn run(
    queue: &mut XdpQueue,
    limit: Duration,
    send_back: bool,
    is_polling: bool,
) -> Result<(), Box<dyn Error>> {
    let end = Instant::now() + limit;
    let (mut burst, mut to_send) = (Vec::new(), VecDeque::new());
    while Instant::now() < end {
        for _ in 0..BURSTS_PER_LOOK {
            let now = clock::now();
            queue.reclaim(now);
            if queue.rx_burst(now, &mut burst)? == 0 && to_send.is_empty() && !is_polling {
                sleep(queue)?;
                break;
            }
            if send_back {
                burst.iter_mut().for_each(turn_round);
                to_send.extend(burst.drain(..));
                while queue.tx_burst(now, &mut to_send)? > 0 {}
                queue.kick(now)?;
            } else {
                queue.give_back(burst.drain(..));
            }
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
        poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&most))?;
    }
    Ok(())
}
