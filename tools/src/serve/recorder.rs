//! The flight recorder of `wirepath serve`: what the path did in the last
//! seconds, kept in memory, and in files when something went wrong.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use wirepath::runtime::{Handle, trace};
use wirepath::see::recorder::{self, Frames, Recorder};

use crate::failure::Failure;
use crate::signals;

/// Options of the recorder.
#[derive(Args)]
#[command(next_help_heading = "Flight recorder (see docs/seeing.md)")]
pub struct RecorderArgs {
    /// Keep the last events of the path in memory, for /debug/wirepath/, for
    /// `wirepath trace` and for --record-dir.
    #[arg(long, value_name = "WHETHER", default_value = "on")]
    pub recorder: Switch,
    /// Write a recording into this directory when a handler is slow or panics,
    /// when segments are sent again in a storm, and at SIGUSR2: ten at most, ten
    /// seconds apart.
    #[arg(long, value_name = "DIR")]
    pub record_dir: Option<PathBuf>,
    /// A handler that takes longer is slow: 250ms, 2s.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "record_dir")]
    pub slow: Option<Duration>,
    /// Keep the last frames in memory as well, as many as fit, and put them into
    /// each recording: 16MiB. `wirepath trace frames` takes them out again.
    #[arg(
        long,
        value_name = "SIZE",
        value_parser = parse_size,
        requires = "record_dir",
        conflicts_with = "kernel"
    )]
    pub record_frames: Option<usize>,
}

/// Whether something is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// `250ms`, `1.5s`, `2m`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let form = || "write a time with its unit, as 250ms, 1.5s or 2m".to_owned();
    let number_end = text.find(|c: char| c != '.' && !c.is_ascii_digit());
    let (number, unit) = text.split_at(number_end.ok_or_else(form)?);
    let seconds = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(form()),
    };
    let number: f64 = number.parse().map_err(|_| form())?;
    let time = Duration::try_from_secs_f64(number * seconds).map_err(|_| form())?;
    Some(time).filter(|time| !time.is_zero()).ok_or_else(form)
}

/// `64KiB`, `16MiB`, `1GiB`.
fn parse_size(text: &str) -> Result<usize, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let bytes = units.iter().find_map(|&(name, shift)| {
        let number: usize = text.strip_suffix(name)?.trim().parse().ok()?;
        number.checked_mul(1 << shift)
    });
    bytes
        .filter(|bytes| (1 << 16..=1 << 34).contains(bytes))
        .ok_or_else(|| "write a size with its unit, from 64KiB to 16GiB".into())
}

impl RecorderArgs {
    /// Switches the recorder on, before there are threads that write events.
    pub fn enable(&self) -> Result<(), Failure> {
        match (self.recorder, &self.record_dir) {
            (Switch::On, _) => trace::enable(recorder::EVENTS),
            (Switch::Off, None) => {}
            (Switch::Off, Some(_)) => {
                return Err(Failure::refused(
                    "--record-dir writes what the recorder holds, and --recorder off keeps \
                     nothing; leave out one of them",
                ));
            }
        }
        Ok(())
    }

    /// Begins to watch the runtime, if a directory was given.
    pub fn watch(
        &self,
        runtime: &Handle,
        frames: Option<Frames>,
    ) -> Result<Option<Recorder>, Failure> {
        let Some(dir) = &self.record_dir else {
            return Ok(None);
        };
        let options = recorder::Options {
            slow: self.slow,
            frames,
            ..recorder::Options::new(dir)
        };
        let started = Recorder::start(runtime.clone(), options).map_err(|e| {
            let dir = dir.display();
            Failure::refused(format!(
                "--record-dir {dir}: {e}; give a directory that this user may write to"
            ))
        })?;
        let trigger = started.trigger_handle();
        signals::on_usr2(move || trigger("signal"))
            .map_err(|e| Failure::running(format!("cannot wait for signals: {e}")))?;
        Ok(Some(started))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        for (text, want) in [
            ("250ms", Some(Duration::from_millis(250))),
            ("1.5s", Some(Duration::from_millis(1500))),
            ("2m", Some(Duration::from_secs(120))),
            ("10us", Some(Duration::from_micros(10))),
            ("0s", None),
            ("5", None),
            ("s", None),
            ("-1s", None),
            ("1e9s", None),
            ("99999999999999999999h", None),
            ("soon", None),
        ] {
            assert_eq!(parse_duration(text).ok(), want, "{text}");
        }
    }
}
