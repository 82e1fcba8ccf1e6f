//! `--pcap` and what goes with it, of every command that opens a device.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};
use wirepath_driver::capture::CaptureOptions;

use super::Prepared;
use super::files::{Destination, Rotation};
use super::filter::Filter;
use super::sift::TraceSift;
use crate::failure::Failure;

/// The largest snap length: Wireshark takes no longer frames.
const MOST_SNAP_LEN: u64 = 262_144;

/// Options of a capture.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Capture (see docs/capture.md)")]
pub struct CaptureArgs {
    /// Write the frames that cross the device to this file (pcapng), to a named
    /// pipe, or with `-` to stdout, for `| wireshark -k -i -`.
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,
    /// Begin another file after so many bytes: 100M, 1G. Names get a number and
    /// a time.
    #[arg(long, value_name = "BYTES", requires = "pcap", value_parser = parse_bytes)]
    pub pcap_size: Option<u64>,
    /// Begin another file after so long: 60s, 10m, 1h.
    #[arg(long, value_name = "TIME", requires = "pcap", value_parser = parse_time)]
    pub pcap_time: Option<Duration>,
    /// Keep so many files, the last ones; with --pcap-size or --pcap-time.
    #[arg(long, value_name = "N", requires = "pcap", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub pcap_files: Option<u32>,
    #[command(flatten)]
    pub what: WhatArgs,
}

/// What of the frames is captured.
#[derive(Args, Clone, Debug, Default)]
pub struct WhatArgs {
    /// Bytes of each frame to keep.
    #[arg(long, value_name = "BYTES", value_parser = parse_snap_len)]
    pub snaplen: Option<u64>,
    /// Which frames to keep, as `port 80 and not status 2xx`: host, net, port,
    /// flow, fd, route, status, in, out, tcp, udp, icmp, arp, and, or, not.
    #[arg(long, value_name = "EXPR")]
    pub pcap_filter: Option<Filter>,
    /// Whether each frame has a comment with the stack's view of it: descriptor,
    /// goroutine, request, queueing times [default: on].
    #[arg(long, value_name = "on|off", value_parser = parse_switch, action = ArgAction::Set)]
    pub pcap_comments: Option<bool>,
}

impl WhatArgs {
    /// The filter as it was written; empty for none.
    pub fn filter_text(&self) -> &str {
        self.pcap_filter.as_ref().map_or("", Filter::text)
    }

    /// Sets the filter.
    pub fn set_filter(&mut self, filter: Filter) {
        self.pcap_filter = Some(filter);
    }

    /// Its sift, where there is something to sift.
    pub fn sift(&self) -> Option<(TraceSift, std::sync::Arc<super::sift::Notes>)> {
        TraceSift::new(self.pcap_filter.clone(), self.pcap_comments.unwrap_or(true))
    }

    /// What the driver is to keep.
    pub fn options(&self) -> CaptureOptions {
        let mut options = CaptureOptions::default();
        if let Some(len) = self.snaplen {
            options.snap_len = usize::try_from(len).unwrap_or(usize::MAX);
        }
        options
    }
}

impl CaptureArgs {
    /// What the capture goes to, if there is one, with how people are told of
    /// it.
    ///
    /// # Errors
    /// As [`CaptureArgs::prepare`].
    pub fn open(&self) -> Result<Option<(Destination, String)>, Failure> {
        let prepared = self.prepare()?;
        Ok(prepared.map(|prepared| {
            let shown = prepared.destination.shown();
            (prepared.destination, shown)
        }))
    }

    /// Opens what it is written to, if anything is.
    ///
    /// # Errors
    /// It cannot be written, or options that make no sense together.
    pub fn prepare(&self) -> Result<Option<Prepared>, Failure> {
        let Some(path) = &self.pcap else {
            return Ok(None);
        };
        let is_on = self.pcap_size.is_some() || self.pcap_time.is_some();
        if self.pcap_files.is_some() && !is_on {
            return Err(Failure::refused(
                "--pcap-files keeps the last of several files; say when the next begins with \
                 --pcap-size 100M or --pcap-time 60s",
            ));
        }
        let rotation = Rotation {
            is_on,
            keep: self.pcap_files,
        };
        let mut options = self.what.options();
        options.file_bytes = self.pcap_size;
        options.file_age = self.pcap_time;
        Ok(Some(Prepared {
            destination: Destination::open(path, rotation)?,
            options,
            what: self.what.clone(),
        }))
    }
}

/// A number and its unit, of which each is so much.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    let number: u64 = number.parse().ok()?;
    number.checked_mul(factor).filter(|n| *n > 0)
}

/// `100M`, of 1024 times 1024 bytes each.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let units = [
        ("", 1),
        ("k", 1 << 10),
        ("K", 1 << 10),
        ("M", 1 << 20),
        ("G", 1 << 30),
        ("T", 1 << 40),
    ];
    with_unit(text, &units).ok_or_else(|| "write bytes as 500k, 100M or 1G".into())
}

/// `60s`.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let units = [
        ("ms", 1),
        ("", 1000),
        ("s", 1000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
    ];
    let millis = with_unit(text, &units);
    millis
        .map(Duration::from_millis)
        .ok_or_else(|| "write a time as 500ms, 60s, 10m or 1h".into())
}

fn parse_snap_len(text: &str) -> Result<u64, String> {
    let len = text.parse().ok();
    len.filter(|len| (14..=MOST_SNAP_LEN).contains(len))
        .ok_or_else(|| format!("write bytes from 14, an Ethernet header, to {MOST_SNAP_LEN}"))
}

fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("write on or off".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        capture: CaptureArgs,
    }

    fn parse(line: &str) -> Result<CaptureArgs, String> {
        let words = ["x"].into_iter().chain(line.split(' '));
        Command::try_parse_from(words)
            .map(|c| c.capture)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn sizes_and_times_have_units() {
        assert_eq!(parse_bytes("100M"), Ok(100 << 20));
        assert_eq!(parse_bytes("7"), Ok(7));
        assert_eq!(parse_time("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(parse_time("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "M", "0", "1X", "-1", "99999999999999999999G", "1.5M"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_line_is_understood_and_nonsense_is_not() {
        let args = parse(
            "--pcap x.pcapng --pcap-size 1M --pcap-time 60s --pcap-files 10 --snaplen 96 \
             --pcap-comments off",
        )
        .unwrap();
        assert_eq!(args.pcap_size, Some(1 << 20));
        assert_eq!(args.what.options().snap_len, 96);
        assert!(args.what.sift().is_none());
        for (line, culprit) in [
            ("--pcap-size 1M", "--pcap"),
            ("--pcap x --snaplen 5", "--snaplen"),
            ("--pcap x --pcap-files 0", "--pcap-files"),
            ("--pcap x --pcap-comments maybe", "--pcap-comments"),
            ("--pcap x --pcap-filter prot", "column 1"),
        ] {
            let said = parse(line).unwrap_err();
            assert!(said.contains(culprit), "{line}: {said}");
        }
        let files = parse("--pcap x --pcap-files 3").unwrap();
        let Err(refused) = files.prepare() else {
            panic!("it was taken");
        };
        assert!(refused.to_string().contains("--pcap-size 100M"));
    }
}
