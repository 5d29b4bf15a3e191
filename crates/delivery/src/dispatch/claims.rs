//! Deliveries that belong to workers: listeners of the same address pass over them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

#[derive(Debug, Default)]
struct AgentClaims {
    /// Some worker has credit: nothing of this agent is broadcast.
    credit: bool,
    /// Cursors that a worker holds.
    held: HashSet<u64>,
    /// Of these, the ones that a listener's position has moved past.
    passed: HashSet<u64>,
    /// Cursors that are under way to the agent's endpoint.
    posted: HashSet<u64>,
}

/// What workers have of the deliveries of a group.
#[derive(Debug, Default)]
pub(super) struct Claims {
    agents: HashMap<Arc<str>, AgentClaims>,
}

impl Claims {
    pub(super) fn hold(&mut self, agent: &Arc<str>, cursor: u64) {
        let claims = self.agents.entry(Arc::clone(agent)).or_default();
        claims.held.insert(cursor);
    }

    /// Whether a listener has passed over it meanwhile, and would not see it under this cursor any more.
    pub(super) fn release(&mut self, agent: &str, cursor: u64) -> bool {
        let Some(claims) = self.agents.get_mut(agent) else {
            return false;
        };
        claims.held.remove(&cursor);
        let passed = claims.passed.remove(&cursor);
        self.forget_idle(agent);
        passed
    }

    pub(super) fn set_credit(&mut self, agent: &Arc<str>, credit: bool) {
        let claims = self.agents.entry(Arc::clone(agent)).or_default();
        claims.credit = credit;
        self.forget_idle(agent);
    }

    pub(super) fn has_credit(&self, agent: &str) -> bool {
        self.agents.get(agent).is_some_and(|claims| claims.credit)
    }

    pub(super) fn post(&mut self, agent: &Arc<str>, cursor: u64) {
        let claims = self.agents.entry(Arc::clone(agent)).or_default();
        claims.posted.insert(cursor);
    }

    pub(super) fn posted(&mut self, agent: &str, cursor: u64) {
        if let Some(claims) = self.agents.get_mut(agent) {
            claims.posted.remove(&cursor);
            self.forget_idle(agent);
        }
    }

    pub(super) fn is_posted(&self, agent: &str, cursor: u64) -> bool {
        self.agents
            .get(agent)
            .is_some_and(|claims| claims.posted.contains(&cursor))
    }

    pub(super) fn holds(&self, agent: &str, cursor: u64) -> bool {
        self.agents
            .get(agent)
            .is_some_and(|claims| claims.held.contains(&cursor))
    }

    /// Whether a listener must pass over this delivery; remembers that it did.
    pub(super) fn pass_over(&mut self, agent: &str, cursor: u64) -> bool {
        let Some(claims) = self.agents.get_mut(agent) else {
            return false;
        };
        let held = claims.held.contains(&cursor);
        if held {
            claims.passed.insert(cursor);
        }
        held
    }

    fn forget_idle(&mut self, agent: &str) {
        if self
            .agents
            .get(agent)
            .is_some_and(|claims| !claims.credit && claims.held.is_empty() && claims.posted.is_empty())
        {
            self.agents.remove(agent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_holds_is_passed_over_and_remembered() {
        let agent: Arc<str> = Arc::from("worker");
        let mut claims = Claims::default();
        claims.hold(&agent, 4);
        claims.hold(&agent, 6);
        assert!(claims.pass_over("worker", 4) && !claims.pass_over("worker", 8));
        assert!(claims.release("worker", 4), "a listener is past it");
        assert!(!claims.release("worker", 6), "no listener has come that far");
        assert!(!claims.holds("worker", 4) && claims.agents.is_empty());
    }

    #[test]
    fn credit_keeps_an_agent_in_mind() {
        let agent: Arc<str> = Arc::from("worker");
        let mut claims = Claims::default();
        claims.set_credit(&agent, true);
        claims.hold(&agent, 4);
        claims.release("worker", 4);
        assert!(claims.has_credit("worker"));
        claims.set_credit(&agent, false);
        assert!(!claims.has_credit("worker") && claims.agents.is_empty());
    }
}
