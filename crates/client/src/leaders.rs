//! Which node decides about which agent, as the nodes have said.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Agents whose node is remembered; one more, and the one that was learnt first is forgotten.
pub(crate) const LEADERS_MAX: usize = 1_024;

/// What was learnt, by the agent's address as the caller writes it. A wrong entry costs a detour and no more.
#[derive(Debug, Default)]
pub(crate) struct Leaders {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Numbers of endpoints.
    by_agent: HashMap<Arc<str>, usize>,
    /// The same agents, oldest first.
    order: VecDeque<Arc<str>>,
}

impl Leaders {
    pub(crate) fn of(&self, agent: &str) -> Option<usize> {
        self.lock().by_agent.get(agent).copied()
    }

    pub(crate) fn learn(&self, agent: &str, endpoint: usize) {
        let mut known = self.lock();
        if let Some(entry) = known.by_agent.get_mut(agent) {
            *entry = endpoint;
            return;
        }
        if known.order.len() >= LEADERS_MAX
            && let Some(oldest) = known.order.pop_front()
        {
            known.by_agent.remove(&oldest);
        }
        let agent: Arc<str> = agent.into();
        known.order.push_back(Arc::clone(&agent));
        known.by_agent.insert(agent, endpoint);
    }

    pub(crate) fn forget(&self, agent: &str) {
        let mut known = self.lock();
        if known.by_agent.remove(agent).is_some() {
            known.order.retain(|other| **other != *agent);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_remembered_and_no_more() {
        let leaders = Leaders::default();
        let name = |n: usize| format!("agent-{n}");
        for n in 0..LEADERS_MAX {
            leaders.learn(&name(n), n);
        }
        leaders.learn(&name(0), 7);
        leaders.forget(&name(1));
        leaders.forget("nobody");
        leaders.learn(&name(LEADERS_MAX), 1);
        assert_eq!(leaders.of(&name(0)), Some(7), "there was room");
        leaders.learn(&name(LEADERS_MAX + 1), 2);
        for (n, expected) in [
            (0, None),
            (1, None),
            (2, Some(2)),
            (LEADERS_MAX, Some(1)),
            (LEADERS_MAX + 1, Some(2)),
        ] {
            assert_eq!(leaders.of(&name(n)), expected, "{n}");
        }
        let known = leaders.lock();
        assert_eq!(
            (known.by_agent.len(), known.order.len()),
            (LEADERS_MAX, LEADERS_MAX)
        );
    }
}
