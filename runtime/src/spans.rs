//! `tracing` spans across a switch.
//!
//! Which spans code is in, a `tracing` subscriber keeps for each thread; here a
//! thread runs other goroutines while one waits. So a goroutine that is about
//! to switch away exits every span that it is in, the innermost first, and
//! enters them again, the outermost first, when it goes on. That is all of what
//! the subscriber has for the thread: an M enters no spans of its own. It does
//! so for whatever waits, a connection's request span and spans that a handler
//! entered alike.
//!
//! What was left is kept on the goroutine's own stack, which stays with its
//! thread while it has code on it; a goroutine between two steps has none, and
//! a guard of an entered span cannot be in its state, since it is not `Send`.
//! So a goroutine needs no field for it, and a switch costs one look at the
//! greatest level that anybody listens to, which is none without a subscriber.
//!
//! A subscriber is another's code, and may wait: in here the goroutine counts
//! as its thread, since its token belongs to the wait that it is about to begin
//! or has just ended.
//!
//! Rejected: a hook in each goroutine that exits the one span that a server put
//! there. It takes a field, a branch and a door for each goroutine, and leaves
//! spans that the user's code entered on the thread.
//!
//! A scoped default subscriber (`tracing::subscriber::set_default`) is the
//! thread's, and no runtime can move it.

use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, dispatcher, span};

use crate::m;

/// Spans that one goroutine is in at once and that are left at a switch. A
/// subscriber that never runs out of them does not keep it from switching.
const MOST_SPANS: usize = 1024;

/// The spans that a goroutine left, the innermost first.
pub(crate) struct Left(Option<Box<Spans>>);

struct Spans {
    dispatch: Dispatch,
    ids: Vec<span::Id>,
}

/// Exits the spans that the caller is in, if anybody could have entered any.
#[inline(always)]
pub(crate) fn leave() -> Left {
    if LevelFilter::current() == LevelFilter::OFF {
        return Left(None);
    }
    Left(exit_all())
}

impl Left {
    /// Enters them again.
    #[inline(always)]
    pub(crate) fn enter(self) {
        if let Some(spans) = self.0 {
            enter_all(&spans);
        }
    }
}

/// Never inlined, so that no thread-local of the subscriber is looked up once
/// for both sides of a switch.
#[inline(never)]
fn exit_all() -> Option<Box<Spans>> {
    dispatcher::get_default(|dispatch| {
        let first = current(dispatch)?;
        Some(m::as_thread(|| exit_from(dispatch.clone(), first)))
    })
}

#[cold]
fn exit_from(dispatch: Dispatch, first: span::Id) -> Box<Spans> {
    let mut ids = Vec::with_capacity(4);
    let mut innermost = Some(first);
    while let Some(id) = innermost {
        // Who entered it by number alone may hold no count of it.
        let held = dispatch.clone_span(&id);
        dispatch.exit(&id);
        ids.push(held);
        innermost = current(&dispatch).filter(|_| ids.len() < MOST_SPANS);
    }
    Box::new(Spans { dispatch, ids })
}

fn current(dispatch: &Dispatch) -> Option<span::Id> {
    dispatch.current_span().id().cloned()
}

#[cold]
#[inline(never)]
fn enter_all(spans: &Spans) {
    m::as_thread(|| {
        for id in spans.ids.iter().rev() {
            spans.dispatch.enter(id);
        }
        for id in &spans.ids {
            spans.dispatch.try_close(id.clone());
        }
    });
}
