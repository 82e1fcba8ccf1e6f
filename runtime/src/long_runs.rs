//! Goroutines that keep their M for long, and so hold others up.
//!
//! sysmon sees that the same run goes on from one of its looks to the next, 10
//! ms later. Only sysmon writes here, and what it keeps is bounded: the worst by
//! the place where the goroutines were started.

use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Places kept; the one whose longest run is the shortest makes room.
const MOST_SITES: usize = if cfg!(test) { 4 } else { 64 };

/// Goroutines started at one place that kept their M for more than 10 ms at a
/// time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LongRun {
    /// Where they were started.
    pub site: &'static Location<'static>,
    /// The name of the one that ran longest, if it has one.
    pub name: Option<Arc<str>>,
    /// Its number.
    pub goroutine: u64,
    /// Such runs so far.
    pub runs: u64,
    /// Those of them in which the thread was seen asleep: it did not compute.
    pub off_cpu: u64,
    /// The longest run, right to about 10 ms, and on the short side.
    pub longest: Duration,
    /// The most goroutines, bound to the same thread and ready, that were seen
    /// to wait behind one run.
    pub most_waiting: usize,
}

/// What sysmon sees of a run that goes on.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) goroutine: u64,
    pub(crate) site: &'static Location<'static>,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) lasted: Duration,
    pub(crate) waiting: usize,
    /// This look is the first at the run.
    pub(crate) is_new: bool,
    /// This look is the first that found the thread asleep in it.
    pub(crate) fell_asleep: bool,
}

#[derive(Default)]
struct Table {
    sites: Vec<LongRun>,
    total: u64,
    off_cpu: u64,
}

/// The table.
#[derive(Default)]
pub(crate) struct LongRuns(Mutex<Table>);

impl Table {
    fn entry(&mut self, seen: &Seen) -> &mut LongRun {
        let same = |run: &LongRun| std::ptr::eq(run.site, seen.site) || run.site == seen.site;
        let at = self.sites.iter().position(same).unwrap_or_else(|| {
            self.make_room();
            self.sites.push(LongRun {
                site: seen.site,
                name: seen.name.clone(),
                goroutine: seen.goroutine,
                runs: 0,
                off_cpu: 0,
                longest: Duration::ZERO,
                most_waiting: 0,
            });
            self.sites.len() - 1
        });
        &mut self.sites[at]
    }

    fn make_room(&mut self) {
        if self.sites.len() < MOST_SITES {
            return;
        }
        let sites = self.sites.iter().enumerate();
        let least = sites.min_by_key(|(_, run)| run.longest);
        if let Some(at) = least.map(|(at, _)| at) {
            self.sites.swap_remove(at);
        }
    }
}

impl LongRuns {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what sysmon saw.
    pub(crate) fn note(&self, seen: &Seen) {
        let mut table = self.lock();
        table.total += u64::from(seen.is_new);
        table.off_cpu += u64::from(seen.fell_asleep);
        let run = table.entry(seen);
        run.runs += u64::from(seen.is_new);
        run.off_cpu += u64::from(seen.fell_asleep);
        run.most_waiting = run.most_waiting.max(seen.waiting);
        if seen.lasted > run.longest {
            run.longest = seen.lasted;
            run.name = seen.name.clone();
            run.goroutine = seen.goroutine;
        }
    }

    /// Runs that were too long, so far.
    pub(crate) fn total(&self) -> u64 {
        self.lock().total
    }

    /// Those of them in which the thread was seen asleep.
    pub(crate) fn total_off_cpu(&self) -> u64 {
        self.lock().off_cpu
    }

    /// The table, the longest first.
    pub(crate) fn list(&self) -> Vec<LongRun> {
        let mut sites = self.lock().sites.clone();
        sites.sort_by_key(|run| std::cmp::Reverse(run.longest));
        sites
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn seen(site: &'static Location<'static>, ms: u64, is_new: bool) -> Seen {
        Seen {
            goroutine: ms,
            site,
            name: Some(format!("for {ms}").into()),
            lasted: Duration::from_millis(ms),
            waiting: 2,
            is_new,
            fell_asleep: false,
        }
    }

    #[test]
    fn runs_are_kept_by_site_with_the_worst() {
        let table = LongRuns::default();
        let here = Location::caller();
        table.note(&seen(here, 10, true));
        table.note(&seen(here, 20, false));
        table.note(&seen(here, 15, true));
        let all = table.list();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].runs, all[0].most_waiting), (2, 2));
        assert_eq!(all[0].longest, Duration::from_millis(20));
        assert_eq!(all[0].name.as_deref(), Some("for 20"));
        assert_eq!(table.total(), 2);
    }

    #[test]
    fn the_mildest_site_makes_room() {
        #[track_caller]
        fn caller() -> &'static Location<'static> {
            Location::caller()
        }
        let table = LongRuns::default();
        table.note(&seen(caller(), 500, true));
        let mildest = caller();
        table.note(&seen(mildest, 1, true));
        let others = [caller(), caller(), caller()];
        assert_eq!(others.len() + 1, MOST_SITES);
        for site in others {
            table.note(&seen(site, 10, true));
        }
        let all = table.list();
        assert_eq!(all.len(), MOST_SITES);
        assert_eq!(all[0].longest, Duration::from_millis(500));
        assert!(all.iter().all(|run| run.site != mildest));
        assert_eq!(table.total(), 5);
    }
}
