//! What listeners and workers of one address tell each other: a delivery belongs to one of the two sides.

use super::group::GroupDispatch;
use crate::ports::LedGroup;
use baton_protocol::proto::internal::Intent;
use std::sync::Arc;
use tokio::sync::watch;

impl GroupDispatch {
    pub(crate) fn led(&self) -> &Arc<dyn LedGroup> {
        &self.led
    }

    /// Takes a delivery for a worker; `false` when a listener has it, or it is posted.
    pub(crate) fn claim(&self, agent: &Arc<str>, cursor: u64) -> bool {
        let mut board = self.lock();
        if board.ledger.is_out(agent, cursor) || board.claims.is_posted(agent, cursor) {
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
            drop(board);
            self.credits.send_modify(|n| *n = n.wrapping_add(1));
        }
    }

    /// Whether workers take what comes, so that nothing new is posted.
    pub(crate) fn has_credit(&self, agent: &str) -> bool {
        self.lock().claims.has_credit(agent)
    }

    /// Says when an agent's workers have used up their credit.
    pub(crate) fn credits(&self) -> watch::Receiver<u64> {
        self.credits.subscribe()
    }

    /// This delivery is under way to the agent's endpoint.
    pub(crate) fn begin_post(&self, agent: &Arc<str>, cursor: u64) {
        self.lock().claims.post(agent, cursor);
    }

    /// The log knows what the post came to.
    pub(crate) fn end_post(&self, agent: &Arc<str>, cursor: u64) {
        self.lock().claims.posted(agent, cursor);
    }

    /// Whether the endpoint of a push agent has this delivery, or gets it again under another cursor.
    pub(crate) fn is_with_endpoint(&self, agent: &str, intent: &Intent) -> bool {
        let cursor = intent.mailbox_cursor;
        let covered = self.pushed.as_ref().is_some_and(|pushed| pushed.covers(agent));
        covered
            && intent
                .push
                .is_some_and(|push| push.taken_cursor == cursor || push.waiting_cursor == cursor)
    }

    /// Whether this agent's deliveries are posted.
    pub(crate) fn is_pushed(&self, agent: &str) -> bool {
        self.pushed.as_ref().is_some_and(|pushed| pushed.covers(agent))
    }
}
