//! What a capture keeps at which rate: a ladder of paced rates over an in-memory
//! cable, each into a file.
//!
//! ```text
//! cargo run --release -p wirepath-driver --example capture_ladder -- --file /tmp/x.pcapng
//! ```
//!
//! First the rate is found at which frames cross the captured queue with nobody
//! pacing them (the peak). Then shares of it are offered, a second each. A row
//! that does not add up (frames that are neither in the file nor counted as left
//! out), or a loss at half of the peak or below, ends it with exit code 1.

use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use wirepath_driver::capture::CaptureSummary;
use wirepath_driver::{
    BURST_FRAMES, CableOptions, CaptureFile, CaptureOptions, Frame, Queue, cable, clock,
};

#[derive(Parser)]
struct Options {
    /// Where to capture to; written anew for each rate.
    #[arg(long)]
    file: PathBuf,
    /// Bytes of each frame.
    #[arg(long, default_value_t = 128)]
    len: usize,
    /// How long each rate is offered, milliseconds.
    #[arg(long, default_value_t = 1000)]
    ms: u64,
}

/// Shares of the peak that are offered, percent.
const LADDER: [u64; 8] = [10, 25, 40, 50, 60, 75, 90, 100];

/// The share up to which nothing may be lost.
const LOSSLESS: u64 = 50;

/// How long the sender rests when it is ahead of its rate.
const PAUSE: Duration = Duration::from_micros(50);

/// What became of the frames of one rate.
struct Run {
    sent: u64,
    took: Duration,
    summary: CaptureSummary,
}

impl Run {
    fn per_second(&self) -> f64 {
        self.sent as f64 / self.took.as_secs_f64()
    }

    fn adds_up(&self) -> bool {
        self.summary.written + self.summary.left_out == self.sent
    }
}

/// Offers `per_second` frames for some time, or as many as cross.
fn offer(options: &Options, per_second: Option<f64>) -> Result<Run, Box<dyn std::error::Error>> {
    let file = CaptureFile::start(File::create(&options.file)?, CaptureOptions::default())?;
    let (near, mut far) = cable(CableOptions::default())?;
    let mut near = file.wrap(near);
    let mut received = Vec::with_capacity(BURST_FRAMES);
    let mut frames: VecDeque<Frame> = VecDeque::with_capacity(BURST_FRAMES);
    let begun = Instant::now();
    let end = Duration::from_millis(options.ms);
    let mut sent = 0;
    while begun.elapsed() < end {
        let due = match per_second {
            Some(rate) => (begun.elapsed().as_secs_f64() * rate) as u64,
            None => u64::MAX,
        };
        if sent >= due {
            // As a server that has nothing to do.
            std::thread::sleep(PAUSE);
            continue;
        }
        for _ in 0..(due - sent).min(BURST_FRAMES as u64) {
            let Some(mut frame) = near.pool().take_tx() else {
                break;
            };
            frame.set_bounds(0, options.len);
            frame.fill_with(|| 0);
            frames.push_back(frame);
        }
        let now = clock::now();
        sent += near.tx_burst(now, &mut frames)? as u64;
        frames.clear();
        near.kick(now)?;
        far.rx_burst(now, &mut received)?;
        received.clear();
        near.reclaim(now);
    }
    let took = begun.elapsed();
    let summary = file.finish()?;
    Ok(Run {
        sent,
        took,
        summary,
    })
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("capture_ladder: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<bool, Box<dyn std::error::Error>> {
    let peak = offer(options, None)?;
    println!(
        "frames of {} bytes into {}",
        options.len,
        options.file.display()
    );
    println!("  share   offered/s      sent   written  left out  adds up");
    let mut is_well = row("peak", &peak);
    for share in LADDER {
        let rate = peak.per_second() * share as f64 / 100.0;
        let run = offer(options, Some(rate))?;
        is_well &= row(&format!("{share} %"), &run);
        is_well &= share > LOSSLESS || run.summary.left_out == 0;
    }
    println!("{}", if is_well { "well" } else { "NOT WELL" });
    Ok(is_well)
}

fn row(name: &str, run: &Run) -> bool {
    let summary = &run.summary;
    println!(
        "  {name:>5} {:>11.0} {:>9} {:>9} {:>9}  {}",
        run.per_second(),
        run.sent,
        summary.written,
        summary.left_out,
        if run.adds_up() { "yes" } else { "NO" }
    );
    run.adds_up()
}
