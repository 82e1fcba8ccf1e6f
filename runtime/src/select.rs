//! Waiting for the first of several channel operations, as Go's `select`.
//!
//! [`select!`](crate::select!) is for cases that are known when the program is
//! written, [`Select`] for a number of them that is not.
//!
//! * If several cases are ready, one is taken pseudo-randomly, so none starves.
//! * Without `default` it waits; with it, it is taken if no case is ready.
//!   `default(duration)` is taken if none became ready within that time: what
//!   Go writes as a case on `time.After`, without a timer that is left over.
//! * A closed channel's receive is ready, and gives an error. So is a send to
//!   a closed channel (or one without receivers), which panics in Go: here it
//!   is told by the result of `send(tx, value) -> result`; where that is not
//!   asked for it panics too, since a loop would spin otherwise.
//! * A receiver or sender that is an `Option` and `None` is never ready, as a
//!   nil channel in Go.
//! * Without cases (or with none that can ever be ready) it waits for ever.
//! * Channel and value expressions are evaluated once, in the order written,
//!   when the select begins. The values of cases that were not taken are dropped
//!   before the body runs.
//!
//! A goroutine whose runtime shuts down while it waits ends, by unwinding.
//!
//! # How it works
//!
//! First each case is tried once, in random order. Then the select enters its
//! waiter into the lists of all channels, one after another, each under its own
//! lock, where it tries once more. Whoever comes to one of the channels later
//! wins the select's word (`claim.rs`) and completes that case; the select then
//! leaves the other lists. A value is moved only by whoever has won the word,
//! so none is lost or sent twice, also if time is up at the same moment.
//!
//! Go tries all cases under all locks. Here they are tried one after another,
//! so `default` means that each case was not ready when it was looked at, not
//! that all were at one moment. What is waited for is not missed in either.

#[cfg(test)]
mod tests;

#[cfg(not(loom))]
use std::cell::Cell;
use std::time::Duration;

use wirepath_driver::Nanos;

use crate::chan::{RecvError, SendError};
use crate::claim::GAVE_UP;
#[cfg(not(loom))]
use crate::m;
use crate::model::{Parker, WaitReason, Wake, park};

pub use crate::chan::{ReceiveFrom, SendTo};
#[doc(hidden)]
pub use crate::chan::{RecvCase, SendCase};

/// One operation among those of a select.
#[doc(hidden)]
pub trait Case {
    /// Does it if that needs no wait.
    fn poll(&self) -> bool;
    /// Does it, for the select of `who`, or waits.
    fn enter(&self, who: Who<'_>, case: usize) -> Entered;
    /// Waits no more. `won`: this is the case that was taken.
    fn leave(&self, won: bool);
}

/// Whose select it is.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Who<'a>(pub(crate) &'a Parker);

/// What became of a case that was entered.
#[doc(hidden)]
pub enum Entered {
    /// It waits.
    Waits,
    /// It can never be ready.
    Never,
    /// It was done, and the word won for it.
    Done,
    /// Another case was taken already.
    Gone,
}

/// How long a select waits.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// Not at all: there is a `default`.
    Now,
    /// This long.
    After(Duration),
    /// Until a case is ready.
    Never,
}

/// Does one of the cases, which tells so itself. False: none within the limit.
#[doc(hidden)]
pub fn run(cases: &mut [&dyn Case], limit: Limit) -> bool {
    shuffle(cases);
    if cases.iter().any(|case| case.poll()) {
        return true;
    }
    match limit {
        Limit::Now => false,
        Limit::After(time) => wait(cases, Some(crate::time::now() + time)),
        Limit::Never => wait(cases, None),
    }
}

fn wait(cases: &[&dyn Case], deadline: Option<Nanos>) -> bool {
    let me = Parker::current();
    let claim = me.claim();
    claim.open();
    let (mut entered, mut any, mut done) = (0, false, false);
    for (i, case) in cases.iter().enumerate() {
        match case.enter(Who(&me), i) {
            Entered::Waits => any = true,
            Entered::Never => {}
            Entered::Done => done = true,
            Entered::Gone => break,
        }
        entered = i + 1;
        if done {
            break;
        }
    }
    let mut cancelled = false;
    let won = loop {
        if let Some(won) = claim.won() {
            break won;
        }
        let reason = if any {
            WaitReason::Select
        } else {
            WaitReason::SelectNoCases
        };
        let woken = park(reason, deadline);
        cancelled = woken == Wake::Cancelled;
        if woken != Wake::Notified {
            let _ = claim.win(GAVE_UP);
        }
    };
    for (i, case) in cases[..entered].iter().enumerate() {
        case.leave(i == won);
    }
    if won == GAVE_UP && cancelled {
        crate::spawn::unwind_cancelled();
    }
    won != GAVE_UP
}

/// A number to begin with, different each time.
#[cfg(not(loom))]
fn random() -> usize {
    thread_local!(static STATE: Cell<u64> = const { Cell::new(0x9e37_79b9_7f4a_7c15) });
    m::with_local(|local| match local {
        Some(local) => local.random(),
        None => {
            let mut x = STATE.get();
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            STATE.set(x);
            (x >> 33) as usize
        }
    })
}

/// Puts the cases into a random order (Fisher and Yates).
#[cfg(not(loom))]
fn shuffle(cases: &mut [&dyn Case]) {
    for i in (1..cases.len()).rev() {
        cases.swap(i, random() % (i + 1));
    }
}

/// The model goes through every interleaving of one order.
#[cfg(loom)]
fn shuffle(_cases: &mut [&dyn Case]) {}

/// Waits for ever: a select without cases.
#[doc(hidden)]
pub fn forever() -> ! {
    run(&mut [], Limit::Never);
    unreachable!("a select without cases ends by unwinding only")
}

/// What a send's result says where nobody asks for it: as in Go.
#[doc(hidden)]
#[track_caller]
pub fn expect_sent<T>(sent: &Result<(), SendError<T>>) {
    assert!(
        sent.is_ok(),
        "send on a closed channel in a select; ask with `send(..) -> result` to be told"
    );
}

/// Waits for the first of several channel operations; see the
/// [module](mod@crate::select) for what it promises.
///
/// ```
/// # use std::time::Duration;
/// # use wirepath_runtime::{chan::channel, select};
/// # let (tx, rx) = channel::<u32>(1);
/// # let (results, _keep) = channel::<u32>(1);
/// # let sum = 7;
/// select! {
///     recv(rx) -> value => println!("received {value:?}"),
///     send(results, sum) -> sent => sent.expect("somebody receives"),
///     default(Duration::from_millis(10)) => println!("nothing happened"),
/// }
/// ```
///
/// A case is `recv(receiver) -> pattern => body` (`Result<T, RecvError>`),
/// `recv(receiver) => body`, `send(sender, value) -> pattern => body`
/// (`Result<(), SendError<T>>`) or `send(sender, value) => body`; then at most
/// one `default => body` or `default(duration) => body`. All bodies have one
/// type, which is the select's. `select! {}` waits for ever.
///
/// # Panics
/// When `send(sender, value) => body`, which does not ask for the result, finds
/// the channel closed.
#[macro_export]
macro_rules! select {
    () => { $crate::select::forever() };
    ($($cases:tt)+) => {
        $crate::__select!(@parse [] $crate::select::Limit::Never, { ::core::unreachable!() }; $($cases)+)
    };
}

// Each case is read into `[kind name (channel) (value) (pattern) {body}]`;
// `name` comes from its own step of the macro, so each has another. Then the
// channels and values are evaluated in nested matches, whose temporaries live
// as long as the select, and at last it is run.
#[doc(hidden)]
#[macro_export]
macro_rules! __select {
    (@parse [$($done:tt)*] $limit:expr, $else:block; ) => {
        $crate::__select!(@open [$($done)*] [$($done)*] $limit, $else)
    };

    (@parse [$($done:tt)*] $limit:expr, $else:block; recv($rx:expr) -> $p:pat => $body:block , $($rest:tt)*) => {
        $crate::__select!(@parse [$($done)* [recv case ($rx) () ($p) $body]] $limit, $else; $($rest)*)
    };
    (@parse [$($done:tt)*] $limit:expr, $else:block; recv($rx:expr) -> $p:pat => $body:block $($rest:tt)*) => {
        $crate::__select!(@parse [$($done)* [recv case ($rx) () ($p) $body]] $limit, $else; $($rest)*)
    };
    (@parse [$($done:tt)*] $limit:expr, $else:block; recv($rx:expr) -> $p:pat => $body:expr $(, $($rest:tt)*)?) => {
        $crate::__select!(@parse [$($done)* [recv case ($rx) () ($p) { $body }]] $limit, $else; $($($rest)*)?)
    };
    (@parse [$($done:tt)*] $limit:expr, $else:block; recv($rx:expr) => $($rest:tt)+) => {
        $crate::__select!(@parse [$($done)*] $limit, $else; recv($rx) -> _ => $($rest)+)
    };

    (@parse [$($done:tt)*] $limit:expr, $else:block; send($tx:expr, $value:expr) -> $p:pat => $body:block , $($rest:tt)*) => {
        $crate::__select!(@parse [$($done)* [send case ($tx) ($value) ($p) $body]] $limit, $else; $($rest)*)
    };
    (@parse [$($done:tt)*] $limit:expr, $else:block; send($tx:expr, $value:expr) -> $p:pat => $body:block $($rest:tt)*) => {
        $crate::__select!(@parse [$($done)* [send case ($tx) ($value) ($p) $body]] $limit, $else; $($rest)*)
    };
    (@parse [$($done:tt)*] $limit:expr, $else:block; send($tx:expr, $value:expr) -> $p:pat => $body:expr $(, $($rest:tt)*)?) => {
        $crate::__select!(@parse [$($done)* [send case ($tx) ($value) ($p) { $body }]] $limit, $else; $($($rest)*)?)
    };
    (@parse [$($done:tt)*] $limit:expr, $else:block; send($tx:expr, $value:expr) => $body:block , $($rest:tt)*) => {
        $crate::__select!(@parse [$($done)* [sure case ($tx) ($value) () $body]] $limit, $else; $($rest)*)
    };
    (@parse [$($done:tt)*] $limit:expr, $else:block; send($tx:expr, $value:expr) => $body:block $($rest:tt)*) => {
        $crate::__select!(@parse [$($done)* [sure case ($tx) ($value) () $body]] $limit, $else; $($rest)*)
    };
    (@parse [$($done:tt)*] $limit:expr, $else:block; send($tx:expr, $value:expr) => $body:expr $(, $($rest:tt)*)?) => {
        $crate::__select!(@parse [$($done)* [sure case ($tx) ($value) () { $body }]] $limit, $else; $($($rest)*)?)
    };

    (@parse [$($done:tt)*] $limit:expr, $else:block; default => $body:block $(,)?) => {
        $crate::__select!(@parse [$($done)*] $crate::select::Limit::Now, $body; )
    };
    (@parse [$($done:tt)*] $limit:expr, $else:block; default => $body:expr $(,)?) => {
        $crate::__select!(@parse [$($done)*] $crate::select::Limit::Now, { $body }; )
    };
    (@parse [$($done:tt)*] $limit:expr, $else:block; default($time:expr) => $body:block $(,)?) => {
        $crate::__select!(@parse [$($done)*] $crate::select::Limit::After($time), $body; )
    };
    (@parse [$($done:tt)*] $limit:expr, $else:block; default($time:expr) => $body:expr $(,)?) => {
        $crate::__select!(@parse [$($done)*] $crate::select::Limit::After($time), { $body }; )
    };
    (@parse [$($done:tt)*] $limit:expr, $else:block; default $($rest:tt)*) => {
        ::core::compile_error!("`default` is the last case of a select")
    };

    (@open [[recv $case:ident ($rx:expr) $($x:tt)*] $($more:tt)*] $all:tt $limit:expr, $else:block) => {
        match &$rx {
            from => {
                let $case = $crate::select::RecvCase::new(from);
                $crate::__select!(@open [$($more)*] $all $limit, $else)
            }
        }
    };
    (@open [[$kind:ident $case:ident ($tx:expr) ($value:expr) $($x:tt)*] $($more:tt)*] $all:tt $limit:expr, $else:block) => {
        match &$tx {
            to => {
                let $case = $crate::select::SendCase::new(to, $value);
                $crate::__select!(@open [$($more)*] $all $limit, $else)
            }
        }
    };
    (@open [] [$([$kind:ident $case:ident $rx:tt $value:tt $p:tt $body:block])*] $limit:expr, $else:block) => {{
        $crate::select::run(&mut [$(&$case),*], $limit);
        $(let $case = $case.finish();)*
        $crate::__select!(@close [$([$kind $case $p $body])*] $else)
    }};

    (@close [[sure $case:ident () $body:block] $($more:tt)*] $else:block) => {
        if let ::core::option::Option::Some(sent) = $case {
            $crate::select::expect_sent(&sent);
            $body
        } else {
            $crate::__select!(@close [$($more)*] $else)
        }
    };
    (@close [[$kind:ident $case:ident ($p:pat) $body:block] $($more:tt)*] $else:block) => {
        if let ::core::option::Option::Some(result) = $case {
            let $p = result;
            $body
        } else {
            $crate::__select!(@close [$($more)*] $else)
        }
    };
    (@close [] $else:block) => { $else };
}

/// A select whose cases are put together while the program runs.
///
/// Each case says what is made of its result; all give the same type.
///
/// ```
/// # use wirepath_runtime::{chan::channel, select::Select};
/// let channels: Vec<_> = (0..3).map(|_| channel::<u32>(1)).collect();
/// channels[1].0.send(7).expect("there is a receiver");
/// let mut select = Select::new();
/// for (i, (_, receiver)) in channels.iter().enumerate() {
///     select.recv(receiver, move |value| (i, value));
/// }
/// assert_eq!(select.wait(), (1, Ok(7)));
/// ```
#[must_use = "it does nothing until it waits"]
pub struct Select<'a, R> {
    cases: Vec<Box<dyn DynCase<R> + 'a>>,
}

trait DynCase<R> {
    fn case(&self) -> &dyn Case;
    /// What the case gives, if it was taken.
    fn finish(self: Box<Self>) -> Option<R>;
}

struct DynRecv<'a, T, F> {
    case: RecvCase<'a, T>,
    then: F,
}

impl<T, R, F: FnOnce(Result<T, RecvError>) -> R> DynCase<R> for DynRecv<'_, T, F> {
    fn case(&self) -> &dyn Case {
        &self.case
    }

    fn finish(self: Box<Self>) -> Option<R> {
        self.case.finish().map(self.then)
    }
}

struct DynSend<'a, T, F> {
    case: SendCase<'a, T>,
    then: F,
}

impl<T, R, F: FnOnce(Result<(), SendError<T>>) -> R> DynCase<R> for DynSend<'_, T, F> {
    fn case(&self) -> &dyn Case {
        &self.case
    }

    fn finish(self: Box<Self>) -> Option<R> {
        self.case.finish().map(self.then)
    }
}

impl<'a, R> Select<'a, R> {
    /// Without cases.
    pub fn new() -> Select<'a, R> {
        Select { cases: Vec::new() }
    }

    /// A receive; `then` makes the select's result of what it gives.
    pub fn recv<T: 'a>(
        &mut self,
        from: &'a (impl ReceiveFrom<Item = T> + ?Sized),
        then: impl FnOnce(Result<T, RecvError>) -> R + 'a,
    ) -> &mut Self {
        let case = RecvCase::new(from);
        self.cases.push(Box::new(DynRecv { case, then }));
        self
    }

    /// A send; `then` makes the select's result of how it ended.
    pub fn send<T: 'a>(
        &mut self,
        to: &'a (impl SendTo<Item = T> + ?Sized),
        value: T,
        then: impl FnOnce(Result<(), SendError<T>>) -> R + 'a,
    ) -> &mut Self {
        let case = SendCase::new(to, value);
        self.cases.push(Box::new(DynSend { case, then }));
        self
    }

    /// Waits for the first case that is ready; for ever without any.
    pub fn wait(self) -> R {
        self.run(Limit::Never).expect("it waits until one is ready")
    }

    /// Takes a case that is ready now.
    pub fn poll(self) -> Option<R> {
        self.run(Limit::Now)
    }

    /// Waits for the first case that is ready; `None` after `timeout`.
    pub fn wait_timeout(self, timeout: Duration) -> Option<R> {
        self.run(Limit::After(timeout))
    }

    fn run(self, limit: Limit) -> Option<R> {
        let mut cases: Vec<&dyn Case> = self.cases.iter().map(|c| c.case()).collect();
        run(&mut cases, limit);
        let mut taken = None;
        // All others, with their values, are dropped before what follows runs.
        for case in self.cases {
            taken = taken.or(case.finish());
        }
        taken
    }
}

impl<R> Default for Select<'_, R> {
    fn default() -> Self {
        Select::new()
    }
}

impl<R> std::fmt::Debug for Select<'_, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Select")
            .field("cases", &self.cases.len())
            .finish()
    }
}
