//! The hand-over of P's, orders and the poller's place, for loom.
//!
//! [`super::idle`] works on threads, epoll and much besides, which loom cannot
//! model. Here its steps are told again, in its order and under its names, over
//! modelled locks; what decides whether to wake ([`Census`], [`Vigil`]) is the
//! real thing. An M that misses its wake sleeps for ever, which loom reports as
//! a deadlock. Each test is also there with one step in the wrong place, and
//! has to find it out.

use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
use loom::thread;

use wirepath_driver::Nanos;

use super::census::Census;
use super::vigil::Vigil;
use crate::sync_shim::{AtomicUsize, Ordering};

#[derive(Clone, Copy, PartialEq)]
enum Order {
    Run { spinning: bool },
    Poll,
    Exit,
}

const RUNNING: usize = 0;
const IDLE: usize = 1;
const BLOCKING: usize = 2;

#[derive(Default)]
struct M {
    status: AtomicUsize,
    note: Mutex<Option<Order>>,
    noted: Condvar,
    /// Bound goroutines that are ready.
    inbox: AtomicUsize,
}

/// `Idle`, of one P and M's by number.
struct Idle {
    ps: usize,
    ms: Vec<usize>,
    poller: Option<usize>,
    wanting: Vec<usize>,
}

/// A step that is in the wrong place.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// `enter_blocking` looks for work before it gives the P up.
    BlockingLooksFirst,
    /// `rest` looks into the inbox before others see that it is idle.
    RestLooksFirst,
    /// `order_run` makes the poller's place free before it has left epoll.
    PollerReplaced,
}

struct Model {
    fault: Fault,
    census: Census,
    vigil: Vigil,
    idle: Mutex<Idle>,
    ms: [M; 2],
    /// The eventfd, and epoll.
    event: Mutex<bool>,
    epoll: Condvar,
    /// Free goroutines in the global queue.
    work: AtomicUsize,
    exiting: AtomicUsize,
    /// Goroutines that are still to run; at none the model ends.
    left: AtomicUsize,
}

impl Model {
    /// The M's in `resting` sleep on their notes, without a P.
    fn new(fault: Fault, ps: usize, resting: &[usize], goroutines: usize) -> Arc<Model> {
        let model = Model {
            fault,
            census: Census::new(ps),
            vigil: Vigil::new(),
            idle: Mutex::new(Idle {
                ps,
                ms: resting.to_vec(),
                poller: None,
                wanting: Vec::new(),
            }),
            ms: Default::default(),
            event: Mutex::new(false),
            epoll: Condvar::new(),
            work: AtomicUsize::new(0),
            exiting: AtomicUsize::new(0),
            left: AtomicUsize::new(goroutines),
        };
        for m in resting {
            model.ms[*m].status.store(IDLE, Ordering::SeqCst);
        }
        Arc::new(model)
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap()
    }

    fn status(&self, m: usize) -> usize {
        self.ms[m].status.load(Ordering::SeqCst)
    }

    fn set_status(&self, m: usize, status: usize) {
        self.ms[m].status.store(status, Ordering::SeqCst);
    }

    fn has_bound(&self, m: usize) -> bool {
        self.ms[m].inbox.load(Ordering::SeqCst) > 0
    }

    fn any_work(&self) -> bool {
        self.work.load(Ordering::SeqCst) > 0
    }

    fn exiting(&self) -> bool {
        self.exiting.load(Ordering::SeqCst) > 0
    }

    fn wake(&self) {
        *self.event.lock().unwrap() = true;
        self.epoll.notify_one();
    }

    fn order(&self, m: usize, order: Order) {
        *self.ms[m].note.lock().unwrap() = Some(order);
        self.ms[m].noted.notify_one();
    }

    fn has_order(&self, m: usize) -> bool {
        self.ms[m].note.lock().unwrap().is_some()
    }

    fn wait_order(&self, m: usize) -> Order {
        let mut note = self.ms[m].note.lock().unwrap();
        loop {
            if let Some(order) = note.take() {
                return order;
            }
            note = self.ms[m].noted.wait(note).unwrap();
        }
    }

    fn take_p(&self, idle: &mut Idle) -> bool {
        let taken = idle.ps > 0;
        if taken {
            idle.ps -= 1;
            self.census.set_idle(idle.ps);
        }
        taken
    }

    fn put_p(&self, idle: &mut Idle) {
        idle.ps += 1;
        self.census.set_idle(idle.ps);
    }

    fn order_run(&self, idle: &mut Idle, m: usize, spinning: bool) {
        idle.ms.retain(|other| *other != m);
        idle.wanting.retain(|other| *other != m);
        self.set_status(m, RUNNING);
        self.order(m, Order::Run { spinning });
        if idle.poller == Some(m) {
            if self.fault == Fault::PollerReplaced {
                idle.poller = None;
            }
            self.wake();
        }
    }

    fn start_spinner(&self) {
        let mut idle = self.idle();
        let poller = idle.poller.filter(|m| self.status(*m) == IDLE);
        let m = idle.ms.last().copied().or(poller);
        if let Some(m) = m
            && self.take_p(&mut idle)
        {
            return self.order_run(&mut idle, m, true);
        }
        // The real one starts a thread: here there is one M for each P.
        self.census.unspin();
    }

    fn wake_p(&self) {
        if self.census.must_wake() {
            self.start_spinner();
        }
    }

    fn ensure_poller(&self) {
        let mut idle = self.idle();
        if idle.poller.is_some() || idle.ps == 0 || self.exiting() {
            return;
        }
        if let Some(m) = idle.ms.pop() {
            self.order(m, Order::Poll);
            idle.poller = Some(m);
        }
    }

    fn want_p(&self, m: usize) {
        let mut idle = self.idle();
        if self.status(m) != IDLE {
            return;
        }
        if self.exiting() {
            return self.order(m, Order::Exit);
        }
        if self.take_p(&mut idle) {
            self.order_run(&mut idle, m, false);
        } else if !idle.wanting.contains(&m) {
            idle.wanting.push(m);
        }
    }

    fn pass_on(&self, idle: &mut Idle) {
        match idle.wanting.first().copied() {
            Some(m) => self.order_run(idle, m, false),
            None => self.put_p(idle),
        }
    }

    fn exit(&self) {
        let idle = self.idle();
        self.exiting.store(1, Ordering::SeqCst);
        for m in idle.ms.iter().chain(&idle.poller).chain(&idle.wanting) {
            self.order(*m, Order::Exit);
        }
        self.wake();
    }

    /// A free goroutine is readied from outside.
    fn submit(&self) {
        self.work.fetch_add(1, Ordering::SeqCst);
        self.wake_p();
    }

    /// A goroutine bound to `m` is readied from outside.
    fn submit_bound(&self, m: usize) {
        self.ms[m].inbox.fetch_add(1, Ordering::SeqCst);
        if self.status(m) == IDLE {
            self.want_p(m);
        }
    }

    /// As `rest`, of an M with a P.
    fn rest(&self, m: usize, spinning: bool) -> bool {
        let looked = self.has_bound(m);
        let polls = {
            let mut idle = self.idle();
            if self.exiting() {
                return false;
            }
            self.pass_on(&mut idle);
            self.set_status(m, IDLE);
            let polls = idle.poller.is_none();
            if polls {
                idle.poller = Some(m);
            } else {
                idle.ms.push(m);
            }
            polls
        };
        if self.census.recheck(spinning, || self.any_work()) {
            self.start_spinner();
        }
        let bound = match self.fault {
            Fault::RestLooksFirst => looked,
            _ => self.has_bound(m),
        };
        if bound {
            self.want_p(m);
        }
        let order = if polls {
            Order::Poll
        } else {
            self.wait_order(m)
        };
        self.obey(m, order).is_some()
    }

    /// Whether it spins then. None: exit.
    fn obey(&self, m: usize, mut order: Order) -> Option<bool> {
        loop {
            match order {
                Order::Exit => return None,
                Order::Run { spinning } => {
                    let mut idle = self.idle();
                    if idle.poller == Some(m) {
                        idle.poller = None;
                    }
                    return Some(spinning);
                }
                Order::Poll => order = self.sleep_as_poller(m),
            }
        }
    }

    fn sleep_as_poller(&self, m: usize) -> Order {
        let until = self.vigil.begin(|| Nanos::MAX);
        if until.is_some() && !self.has_order(m) {
            let mut event = self.event.lock().unwrap();
            while !*event {
                event = self.epoll.wait(event).unwrap();
            }
            *event = false;
        }
        self.vigil.end();
        self.stop_polling(m)
    }

    fn stop_polling(&self, m: usize) -> Order {
        let mut idle = self.idle();
        idle.poller = None;
        let order = self.ms[m].note.lock().unwrap().take();
        if let Some(order) = order {
            return order;
        }
        if self.take_p(&mut idle) {
            self.census.spin();
            self.order_run(&mut idle, m, true);
        } else {
            idle.ms.push(m);
        }
        drop(idle);
        if self.has_bound(m) {
            self.want_p(m);
        }
        self.wait_order(m)
    }

    /// As `find` and what runs then, of an M with a P, until the model ends.
    fn work(&self, m: usize, mut spinning: bool) {
        loop {
            if self.exiting() {
                return;
            }
            let from = [&self.ms[m].inbox, &self.work];
            let found = from.into_iter().find(|n| n.load(Ordering::SeqCst) > 0);
            if let Some(queue) = found {
                queue.fetch_sub(1, Ordering::SeqCst);
                if std::mem::take(&mut spinning) && self.census.recheck(true, || self.any_work()) {
                    self.start_spinner();
                }
                if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
                    return self.exit();
                }
            } else if !self.rest(m, std::mem::take(&mut spinning)) {
                return;
            }
        }
    }

    /// The thread of an M that sleeps on its note.
    fn rested(&self, m: usize) {
        let order = self.wait_order(m);
        if let Some(spinning) = self.obey(m, order) {
            self.work(m, spinning);
        }
    }

    fn enter_blocking(&self, m: usize) {
        self.set_status(m, BLOCKING);
        let looked = self.fault == Fault::BlockingLooksFirst
            && self.census.recheck(false, || self.any_work());
        self.pass_on(&mut self.idle());
        let recheck = match self.fault {
            Fault::BlockingLooksFirst => looked,
            _ => self.census.recheck(false, || self.any_work()),
        };
        if recheck {
            self.start_spinner();
        }
        self.ensure_poller();
    }
}

/// The M with the P gives it up for `blocking`, which ends by itself when the
/// work is done; a free goroutine comes meanwhile.
fn blocks_while_work_comes(fault: Fault) {
    loom::model(move || {
        let model = Model::new(fault, 0, &[1], 1);
        let (blocks, rests) = (model.clone(), model.clone());
        let blocks = thread::spawn(move || blocks.enter_blocking(0));
        let rests = thread::spawn(move || rests.rested(1));
        model.submit();
        blocks.join().unwrap();
        rests.join().unwrap();
    });
}

/// A goroutine bound to the M that goes to sleep as the poller is readied.
fn rests_while_mail_comes(fault: Fault) {
    loom::model(move || {
        let model = Model::new(fault, 0, &[], 1);
        let rests = model.clone();
        let rests = thread::spawn(move || rests.work(0, false));
        model.submit_bound(0);
        rests.join().unwrap();
    });
}

/// The poller is ordered to run a bound goroutine, while another M, which is
/// done with its own, goes to sleep.
fn the_poller_is_wanted_while_another_rests(fault: Fault) {
    loom::model(move || {
        let model = Model::new(fault, 1, &[], 1);
        model.idle().poller = Some(0);
        model.set_status(0, IDLE);
        let (polls, rests) = (model.clone(), model.clone());
        let polls = thread::spawn(move || {
            let order = polls.sleep_as_poller(0);
            if let Some(spinning) = polls.obey(0, order) {
                polls.work(0, spinning);
            }
        });
        let rests = thread::spawn(move || rests.work(1, false));
        model.submit_bound(0);
        polls.join().unwrap();
        rests.join().unwrap();
    });
}

#[test]
fn loom_idle_work_that_comes_while_an_m_enters_blocking_is_run() {
    blocks_while_work_comes(Fault::None);
}

#[test]
fn loom_idle_mail_that_comes_while_an_m_goes_to_sleep_is_run() {
    rests_while_mail_comes(Fault::None);
}

#[test]
fn loom_idle_the_pollers_wake_is_its_own() {
    the_poller_is_wanted_while_another_rests(Fault::None);
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_idle_blocking_that_looks_before_it_gives_the_p_up_is_found_out() {
    blocks_while_work_comes(Fault::BlockingLooksFirst);
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_idle_rest_that_looks_before_it_is_seen_idle_is_found_out() {
    rests_while_mail_comes(Fault::RestLooksFirst);
}

#[test]
#[should_panic(expected = "deadlock")]
fn loom_idle_a_second_poller_that_takes_the_firsts_wake_is_found_out() {
    the_poller_is_wanted_while_another_rests(Fault::PollerReplaced);
}
