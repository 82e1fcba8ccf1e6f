//! Those who wait for one thing, first come first served: at a mutex, a
//! condition, a semaphore. (Channels have a list of their own.)
//!
//! A linked list through a vector whose places are reused: waiting allocates
//! nothing once there were as many waiters before, and one that gives up
//! leaves in constant time. Whoever uses it does so under the lock of what is
//! waited for.

use crate::model::Parker;

const NONE: usize = usize::MAX;

struct Node<T> {
    /// `None` when the waiter is out of the list: completed, or no waiter.
    parker: Option<Parker>,
    /// What it brings, or was given.
    value: Option<T>,
    prev: usize,
    /// In a free place: the next free one.
    next: usize,
}

pub(crate) struct Waiters<T> {
    nodes: Vec<Node<T>>,
    free: usize,
    head: usize,
    tail: usize,
}

/// What a waiter finds after its park.
pub(crate) enum Settled<T> {
    /// It still waits: woken without cause.
    Waits,
    /// Another took it out of the list, and left this value.
    Completed(Option<T>),
    /// It gave up; the value that it brought.
    Withdrawn(Option<T>),
}

impl<T> Waiters<T> {
    pub(crate) const fn new() -> Waiters<T> {
        Waiters {
            nodes: Vec::new(),
            free: NONE,
            head: NONE,
            tail: NONE,
        }
    }

    /// Enters the last waiter. What is returned is for [`Waiters::settle`],
    /// which must follow.
    pub(crate) fn push(&mut self, parker: Parker, value: Option<T>) -> usize {
        let (prev, next) = (self.tail, NONE);
        let at = self.place(Node {
            parker: Some(parker),
            value,
            prev,
            next,
        });
        match self.tail {
            NONE => self.head = at,
            tail => self.nodes[tail].next = at,
        }
        self.tail = at;
        at
    }

    /// Enters one that goes before all others: it was in the list before.
    pub(crate) fn push_first(&mut self, parker: Parker, value: Option<T>) -> usize {
        let (prev, next) = (NONE, self.head);
        let at = self.place(Node {
            parker: Some(parker),
            value,
            prev,
            next,
        });
        match self.head {
            NONE => self.tail = at,
            head => self.nodes[head].prev = at,
        }
        self.head = at;
        at
    }

    fn place(&mut self, node: Node<T>) -> usize {
        if self.free == NONE {
            self.nodes.push(node);
            return self.nodes.len() - 1;
        }
        let at = self.free;
        self.free = self.nodes[at].next;
        self.nodes[at] = node;
        at
    }

    /// Takes the first waiter out. What is done to its value is what it finds;
    /// it is to be woken after the lock is released.
    pub(crate) fn pop(&mut self) -> Option<(Parker, &mut Option<T>)> {
        let at = self.head;
        if at == NONE {
            return None;
        }
        let parker = self.unlink(at);
        Some((parker, &mut self.nodes[at].value))
    }

    /// What became of the waiter at `at`. Its place is free afterwards, unless
    /// it waits on. `gives_up`: it does not wait on.
    pub(crate) fn settle(&mut self, at: usize, gives_up: bool) -> Settled<T> {
        let waits = self.nodes[at].parker.is_some();
        if waits && !gives_up {
            return Settled::Waits;
        }
        if waits {
            self.unlink(at);
        }
        let value = self.nodes[at].value.take();
        self.nodes[at].next = self.free;
        self.free = at;
        if waits {
            Settled::Withdrawn(value)
        } else {
            Settled::Completed(value)
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head == NONE
    }

    /// The value of the first.
    pub(crate) fn first(&self) -> Option<&T> {
        self.nodes.get(self.head)?.value.as_ref()
    }

    fn unlink(&mut self, at: usize) -> Parker {
        let node = &mut self.nodes[at];
        let parker = node.parker.take();
        let (prev, next) = (node.prev, node.next);
        match prev {
            NONE => self.head = next,
            prev => self.nodes[prev].next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => self.nodes[next].prev = prev,
        }
        parker.expect("who is in the list waits")
    }
}
