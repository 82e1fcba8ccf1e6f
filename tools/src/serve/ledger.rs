//! The ledger: where each frame went, stage by stage, so that the sums show
//! whether one is missing.
//!
//! An entry is a stage that frames came to and the places that they went to
//! from there; what is left over is `unaccounted`, 0 but for frames that moved
//! while the counters were read one after the other.

use serde_json::{Value, json};
use wirepath::see::state::LedgerRow;
use wirepath_stack::{ShardStats, Stats};

use crate::device::named;

/// One stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub stage: &'static str,
    /// Frames that came to it.
    pub frames: u64,
    /// Where they went.
    pub went: Vec<(&'static str, u64)>,
}

impl Entry {
    /// Frames that came and went nowhere.
    pub fn unaccounted(&self) -> i64 {
        let went: u64 = self.went.iter().map(|(_, frames)| frames).sum();
        self.frames.cast_signed() - went.cast_signed()
    }

    /// As JSON, every place named.
    pub fn json(&self) -> Value {
        json!({
            "stage": self.stage,
            "frames": self.frames,
            "went": named(self.went.clone()),
            "unaccounted": self.unaccounted(),
        })
    }

    /// The counters, as `STAGE` and `STAGE_PLACE`; or, not `counted`, the places
    /// that frames stay in for a while, whose numbers fall again.
    pub fn numbers(&self, counted: bool) -> impl Iterator<Item = (String, u64)> {
        let stays = |place: &str| ["waiting", "in_ring", "in_flight"].contains(&place);
        let all = counted.then(|| (self.stage.to_owned(), self.frames));
        let places = self.went.iter();
        let places = places.filter(move |(place, _)| stays(place) != counted);
        all.into_iter()
            .chain(places.map(|(place, frames)| (format!("{}_{place}", self.stage), *frames)))
    }

    /// As all tools share it.
    pub fn row(&self) -> LedgerRow {
        LedgerRow {
            place: self.stage.to_owned(),
            total: self.frames,
            parts: self
                .went
                .iter()
                .map(|(name, frames)| ((*name).to_owned(), *frames))
                .collect(),
            unaccounted: self.unaccounted(),
        }
    }

    /// As a line, of the places where frames went.
    pub fn line(&self) -> String {
        let places = self.went.iter().filter(|(_, frames)| *frames > 0);
        let mut places: Vec<_> = places
            .map(|(name, frames)| format!("{frames} {name}"))
            .collect();
        if self.unaccounted() != 0 {
            places.push(format!("{} unaccounted", self.unaccounted()));
        }
        let sum = if places.is_empty() { "" } else { " = " };
        format!(
            "{:<16}{}{sum}{}",
            self.stage,
            self.frames,
            places.join(" + ")
        )
    }
}

/// What the queues of a stack were given and handed up, whatever the device.
pub fn of_queues(stats: &Stats) -> Vec<Entry> {
    let sum = |of: fn(&ShardStats) -> u64| stats.shards.iter().map(of).sum();
    vec![
        Entry {
            stage: "driver.rx",
            frames: sum(|s| s.ring.rx_frames + s.ring.rx_bad_len + s.ring.rx_impaired),
            went: vec![
                ("to_stack", sum(|s| s.ledger.from_ring)),
                ("bad_len", sum(|s| s.ring.rx_bad_len)),
                ("impaired", sum(|s| s.ring.rx_impaired)),
            ],
        },
        Entry {
            stage: "stack.rx",
            frames: sum(|s| s.ledger.from_ring + s.ledger.from_other_shards),
            went: fates(stats),
        },
        Entry {
            stage: "stack.tx",
            frames: sum(|s| s.ledger.made),
            went: vec![
                ("to_ring", sum(|s| s.ledger.to_ring)),
                ("waiting", sum(|s| s.ledger.waiting)),
                ("lost_with_device", sum(|s| s.ledger.lost_with_device)),
            ],
        },
    ]
}

/// Where the stack's frames went, over all shards.
fn fates(stats: &Stats) -> Vec<(&'static str, u64)> {
    let mut sums: Vec<(&'static str, u64)> = Vec::new();
    for shard in &stats.shards {
        let dropped = [("dropped", shard.ledger.dropped)];
        for (name, frames) in shard.ledger.fates.iter().chain(&dropped) {
            match sums.iter_mut().find(|(known, _)| known == name) {
                Some((_, sum)) => *sum += frames,
                None => sums.push((name, *frames)),
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_shows() {
        let mut entry = Entry {
            stage: "stack.rx",
            frames: 5,
            went: vec![("to_arp", 2), ("to_ndp", 0), ("dropped", 3)],
        };
        assert_eq!(entry.unaccounted(), 0);
        assert_eq!(entry.line(), "stack.rx        5 = 2 to_arp + 3 dropped");
        entry.frames = 6;
        assert_eq!(
            entry.line(),
            "stack.rx        6 = 2 to_arp + 3 dropped + 1 unaccounted"
        );
        assert_eq!(entry.json()["unaccounted"], 1);
        assert_eq!(entry.json()["went"]["to_ndp"], 0);
        entry.went.push(("waiting", 1));
        let numbers = |counted| -> Vec<_> { entry.numbers(counted).collect() };
        let counters = [("", 6), ("_to_arp", 2), ("_to_ndp", 0), ("_dropped", 3)];
        assert_eq!(
            numbers(true),
            counters.map(|(place, n)| (format!("stack.rx{place}"), n))
        );
        assert_eq!(numbers(false), [("stack.rx_waiting".to_owned(), 1)]);
    }

    #[test]
    fn shards_are_summed() {
        let mut shard = ShardStats::default();
        shard.ledger.from_ring = 3;
        shard.ledger.fates = vec![("to_arp", 1)];
        shard.ledger.dropped = 2;
        shard.ring.rx_frames = 3;
        let mut stats = Stats::default();
        stats.shards = vec![shard.clone(), shard];
        let entries = of_queues(&stats);
        let rx = entries.iter().find(|e| e.stage == "stack.rx").unwrap();
        assert_eq!((rx.frames, rx.unaccounted()), (6, 0));
        assert_eq!(rx.went, [("to_arp", 2), ("dropped", 4)]);
    }
}
