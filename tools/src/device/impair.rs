//! `--impair`: a network that loses, delays and reorders, on purpose.

use std::str::FromStr;
use std::time::Duration;

use wirepath_driver::Queue;
use wirepath_driver::impair::{Impair, ImpairOptions, Impairment};

use crate::serve::recorder::parse_duration;

/// The seed, unless one is given: the same frames are lost each time.
const SEED: u64 = 1;
/// Frames held at most, each way.
const MAX_HOLD_FRAMES: usize = 4096;

/// What to do to frames, as `loss=1%,delay=5ms,tx.reorder=1%,seed=7`.
#[derive(Clone, Debug)]
pub struct ImpairSpec {
    options: ImpairOptions,
    seed: u64,
    text: String,
}

impl ImpairSpec {
    /// Impairs a queue; `number` is its number, so that queues differ.
    pub fn wrap(&self, queue: Box<dyn Queue>, number: usize) -> Box<dyn Queue> {
        let seed = self.seed.wrapping_add(number as u64);
        Box::new(Impair::wrap(queue, self.options.clone(), seed))
    }

    /// As it was given.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl FromStr for ImpairSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<ImpairSpec, String> {
        let mut spec = ImpairSpec {
            options: ImpairOptions::default(),
            seed: SEED,
            text: text.to_owned(),
        };
        for part in text.split(',').map(str::trim) {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| format!("«{part}» is no NAME=VALUE, as loss=1%"))?;
            spec.set(name, value)
                .map_err(|why| format!("{part}: {why}"))?;
        }
        Ok(spec)
    }
}

impl ImpairSpec {
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let options = &mut self.options;
        match name.split_once('.') {
            None if name == "seed" => {
                self.seed = value
                    .parse()
                    .map_err(|_| "a seed is a whole number".to_string())?;
                Ok(())
            }
            None => {
                set(&mut options.rx, name, value).and_then(|()| set(&mut options.tx, name, value))
            }
            Some(("rx", name)) => set(&mut options.rx, name, value),
            Some(("tx", name)) => set(&mut options.tx, name, value),
            Some(_) => Err("the ways are rx. and tx., from the server's side".into()),
        }
    }
}

fn set(way: &mut Impairment, name: &str, value: &str) -> Result<(), String> {
    match name {
        "loss" => way.loss = chance(value)?,
        "duplicate" => way.duplication = chance(value)?,
        "reorder" => way.reordering = chance(value)?,
        "corrupt" => way.corruption = chance(value)?,
        "reorder-by" => way.reorder_by = time(value)?,
        "delay" => way.delay = time(value)?,
        "jitter" => way.jitter = time(value)?,
        "rate" => way.rate_bits_per_s = Some(rate(value)?),
        "hold" => way.hold_frames = hold(value)?,
        _ => {
            return Err("the names are loss, duplicate, reorder, reorder-by, corrupt, delay, jitter, rate, hold and seed, with rx. or tx. before them for one way only".into());
        }
    }
    Ok(())
}

/// `1%`, or `0.01`.
fn chance(text: &str) -> Result<f64, String> {
    let (number, unit) = match text.strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (text, 1.0),
    };
    let chance = number.trim().parse::<f64>().map(|number| number / unit);
    match chance {
        Ok(chance) if (0.0..=1.0).contains(&chance) => Ok(chance),
        _ => Err("a chance is from 0% to 100%".into()),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    parse_duration(text)
}

/// Bits a second: `10mbit`, `500kbit`, `1gbit`.
fn rate(text: &str) -> Result<u64, String> {
    let units = [
        ("kbit", 1_000),
        ("mbit", 1_000_000),
        ("gbit", 1_000_000_000),
    ];
    let bits = units.iter().find_map(|&(name, unit)| {
        let number: f64 = text.strip_suffix(name)?.trim().parse().ok()?;
        (number > 0.0 && number < 1e6).then_some((number * f64::from(unit)) as u64)
    });
    bits.filter(|&bits| bits > 0)
        .ok_or_else(|| "a rate is as 10mbit, in kbit, mbit or gbit a second".into())
}

fn hold(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(frames @ 1..=MAX_HOLD_FRAMES) => Ok(frames),
        _ => Err(format!("from 1 to {MAX_HOLD_FRAMES} frames can be held")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_can_be_told() {
        let spec: ImpairSpec = "loss=1%, tx.loss=0.5,delay=5ms,reorder=2%,reorder-by=3ms,rate=10mbit,jitter=1ms,corrupt=0,duplicate=0.1%,hold=9,seed=7"
            .parse()
            .unwrap();
        let (rx, tx) = (&spec.options.rx, &spec.options.tx);
        assert_eq!((rx.loss, tx.loss, spec.seed), (0.01, 0.5, 7));
        assert_eq!(
            (rx.delay, tx.reorder_by),
            (Duration::from_millis(5), Duration::from_millis(3))
        );
        assert_eq!((rx.rate_bits_per_s, tx.hold_frames), (Some(10_000_000), 9));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, wanted) in [
            ("", "«» is no NAME=VALUE"),
            ("loss", "«loss» is no NAME=VALUE"),
            ("loss=2", "loss=2: a chance is from 0% to 100%"),
            ("loss=x%", "a chance is"),
            ("los=1%", "los=1%: the names are loss,"),
            ("up.loss=1%", "the ways are rx. and tx."),
            ("rate=10", "a rate is as 10mbit"),
            ("rate=-1mbit", "a rate is as 10mbit"),
            ("hold=0", "from 1 to 4096"),
            ("seed=x", "a seed is a whole number"),
        ] {
            let error = text.parse::<ImpairSpec>().unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
