//! Numbers of the commands that this node proposes to one group, and how far they are settled.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Draws 1, 2, 3 … and remembers what somebody still waits for.
#[derive(Debug, Default)]
pub(crate) struct Sequence(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: u64,
    waiting: BTreeSet<u64>,
}

/// One number. Dropping it settles the command: its caller has the answer or has given up.
#[derive(Debug)]
pub(crate) struct Ticket<'s> {
    owner: &'s Sequence,
    pub(crate) sequence: u64,
    /// Nobody waits for a lower number any more.
    pub(crate) settled_below: u64,
}

impl Sequence {
    pub(crate) fn take(&self) -> Ticket<'_> {
        let mut state = self.lock();
        state.last += 1;
        let sequence = state.last;
        state.waiting.insert(sequence);
        let settled_below = state.waiting.first().copied().unwrap_or(sequence);
        Ticket {
            owner: self,
            sequence,
            settled_below,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.owner.lock().waiting.remove(&self.sequence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_settled_above_what_somebody_waits_for() {
        let sequence = Sequence::default();
        let first = sequence.take();
        let second = sequence.take();
        assert_eq!((first.sequence, first.settled_below), (1, 1));
        assert_eq!((second.sequence, second.settled_below), (2, 1));
        drop(second);
        assert_eq!(sequence.take().settled_below, 1, "the first is not answered yet");
        drop(first);
        let next = sequence.take();
        assert_eq!((next.sequence, next.settled_below), (4, 4));
    }
}
