//! What listeners and workers of one address tell each other: a delivery belongs to one of the two sides.

use super::group::GroupDispatch;
use crate::ports::LedGroup;
use std::sync::Arc;

impl GroupDispatch {
    pub(crate) fn led(&self) -> &Arc<dyn LedGroup> {
        &self.led
    }

    /// Takes a delivery for a worker; `false` when a listener has it.
    pub(crate) fn claim(&self, agent: &Arc<str>, cursor: u64) -> bool {
        let mut board = self.lock();
        if board.ledger.is_out(agent, cursor) {
            return false;
        }
        board.claims.hold(agent, cursor);
        true
    }

    /// Takes a delivery for the worker that has had it since before this leadership.
    pub(crate) fn reclaim(&self, agent: &Arc<str>, cursor: u64) {
        let mut board = self.lock();
        board.ledger.withdraw(agent, cursor);
        board.claims.hold(agent, cursor);
    }

    /// No worker has it any more. Whether listeners have passed over it, so that they need a fresh cursor to see it.
    pub(crate) fn release(&self, agent: &Arc<str>, cursor: u64) -> bool {
        self.lock().claims.release(agent, cursor)
    }

    /// Whether a worker holds this delivery, so that it is not pushed; remembers that it was passed over.
    pub(crate) fn pass_over(&self, agent: &str, cursor: u64) -> bool {
        self.lock().claims.pass_over(agent, cursor)
    }

    /// Whether any worker of the agent has credit.
    pub(crate) fn set_credit(&self, agent: &Arc<str>, credit: bool) {
        let mut board = self.lock();
        board.claims.set_credit(agent, credit);
        if !credit {
            board.wake_agent(agent);
        }
    }
}
