//! Reading events as they are written.

use std::sync::Arc;

use super::ticks::Anchor;
use super::{Ring, Snapshot, rings};

/// Moments that a reader keeps to make nanoseconds of counters: those of the
/// last reads.
const MOST_ANCHORS: usize = 64;

/// Gives each event once, as long as it is asked often enough: a ring goes on
/// being written whoever reads it. For whoever follows a server; what there is
/// at one moment is [`super::snapshot`].
#[derive(Default)]
pub struct Reader {
    /// Rings, each with the number of its next event.
    rings: Vec<(Arc<Ring>, u64)>,
    anchors: Vec<Anchor>,
}

impl Reader {
    /// A reader that begins with what the rings hold now.
    pub fn new() -> Reader {
        Reader::default()
    }

    /// The events since the last call, by time. One of another thread may be
    /// given by the next call though it is a little older than one given now.
    pub fn read(&mut self) -> Snapshot {
        self.meet();
        let mut snapshot = Snapshot::default();
        for (ring, next) in &mut self.rings {
            let (after, lost) = ring.read_from(*next, &mut snapshot.events, &mut self.anchors);
            *next = after;
            snapshot.lost += lost;
        }
        self.anchors.extend(Anchor::now());
        let surplus = self.anchors.len().saturating_sub(MOST_ANCHORS);
        snapshot.put_in_order(self.anchors.clone());
        self.anchors.drain(..surplus);
        snapshot
    }

    /// Takes up the rings of new threads.
    fn meet(&mut self) {
        let all = rings().all.clone();
        let known = self.rings.len();
        // Rings are added at the end, and none goes.
        self.rings
            .extend(all.into_iter().skip(known).map(|r| (r, 0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Nanos;
    use crate::trace::{Event, Kind};

    fn reader(ring: &Arc<Ring>) -> Reader {
        Reader {
            rings: vec![(ring.clone(), 0)],
            anchors: Vec::new(),
        }
    }

    fn read_own(reader: &mut Reader) -> (Vec<u64>, u64) {
        let (ring, next) = &mut reader.rings[0];
        let mut events = Vec::new();
        let (after, lost) = ring.read_from(*next, &mut events, &mut reader.anchors);
        *next = after;
        (events.iter().map(|e| e.at.0).collect(), lost)
    }

    #[test]
    fn each_event_is_given_once_and_those_that_are_gone_are_counted() {
        let ring = Arc::new(Ring::new(4));
        let write = |at| ring.push(Event::new(Nanos(at), Kind::ConnRead, 1).encode());
        let mut reader = reader(&ring);
        write(1);
        write(2);
        assert_eq!(read_own(&mut reader), (vec![1, 2], 0));
        assert_eq!(read_own(&mut reader), (vec![], 0));
        (3..=9).for_each(write);
        assert_eq!(read_own(&mut reader), (vec![6, 7, 8, 9], 3));
        assert_eq!(read_own(&mut reader), (vec![], 0));
    }
}
