//! What time does to items, and what the leader does when it has missed something.

use super::Engine;
use super::worker::{Stage, Start, WorkerKey};
use baton_protocol::IntentId;
use baton_protocol::proto::internal::WorkerStop;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// How late a lapsed lease may be noticed.
pub(in crate::work) const SWEEP: Duration = Duration::from_millis(100);

impl Engine {
    /// Whether time changes anything.
    pub(in crate::work) fn watches_time(&self) -> bool {
        self.quiet_until.is_some() || !self.workers.is_empty() || !self.held.is_empty()
    }

    /// Looks at everything that waits for a moment. Called about every [`SWEEP`].
    pub(in crate::work) fn sweep(&mut self, now: Instant) {
        if self.quiet_until.is_some_and(|until| until <= now) {
            self.quiet_until = None;
            let all: Vec<_> = self.agents.keys().cloned().collect();
            all.iter().for_each(|name| self.look_at(name));
        }
        let gone: HashSet<WorkerKey> = self
            .workers
            .iter()
            .filter(|(_, w)| w.orphan_until.is_some_and(|until| until <= now))
            .map(|(key, _)| *key)
            .collect();
        for key in gone {
            self.dismiss(key);
        }
        let due: Vec<(IntentId, Stage)> = self
            .held
            .iter()
            .filter(|(_, held)| held.due <= now && matches!(held.stage, Stage::Written | Stage::FailAgain))
            .map(|(id, held)| (*id, held.stage))
            .collect();
        for (id, stage) in due {
            if stage == Stage::FailAgain {
                // The worker knows already: by its receipt, or as lost.
                self.fail_again(id);
            } else {
                self.fail(id, None);
            }
        }
        for (id, held) in &mut self.held {
            if held.start == Start::Wanted && matches!(held.stage, Stage::Written | Stage::Finishing(_)) {
                held.start = Start::Told;
                self.out.proposals.push(super::Proposal::start(*id, held.cursor));
            }
        }
        self.delays.retain(|_, due| *due > now);
        let mut woken = Vec::new();
        for (name, agent) in &mut self.agents {
            if agent.wake_delayed(now) {
                woken.push(Arc::clone(name));
            }
        }
        woken.iter().for_each(|name| self.look_at(name));
    }

    fn fail_again(&mut self, id: IntentId) {
        if let Some(held) = self.held.get_mut(&id) {
            held.stage = Stage::Failing;
            let cursor = held.cursor;
            self.out.proposals.push(super::Proposal::fail(id, cursor, None));
        }
    }

    /// A worker wants no more, or is gone.
    pub(in crate::work) fn stop(&mut self, session: u64, request: &WorkerStop) {
        let key = WorkerKey {
            session,
            worker: request.worker,
        };
        self.stop_taking(key);
        if request.gone {
            self.dismiss(key);
            if let Some(session) = self.sessions.get_mut(&session) {
                session.workers = session.workers.saturating_sub(1);
            }
        } else {
            for id in self.items_of(key, |stage| stage == Stage::Sent) {
                self.release(id);
            }
        }
    }

    /// Ends a worker: what it never saw goes back, what it had has failed.
    fn dismiss(&mut self, key: WorkerKey) {
        for id in self.items_of(key, |stage| stage == Stage::Sent) {
            self.release(id);
        }
        for id in self.items_of(key, |stage| stage == Stage::Written) {
            self.fail(id, None);
        }
        self.workers.remove(&key);
    }

    fn items_of(&self, key: WorkerKey, wanted: impl Fn(Stage) -> bool) -> Vec<IntentId> {
        let Some(worker) = self.workers.get(&key) else {
            return Vec::new();
        };
        let mut items: Vec<IntentId> = worker
            .items
            .iter()
            .copied()
            .filter(|id| self.held.get(id).is_some_and(|held| wanted(held.stage)))
            .collect();
        // By cursor, so that they are offered again in their order.
        items.sort_unstable_by_key(|id| self.held.get(id).map(|held| held.cursor));
        items
    }

    /// Applied entries were missed: compares what is held with the tables and reads every mailbox again.
    pub(in crate::work) fn resync(&mut self) {
        let held: Vec<IntentId> = self.held.keys().copied().collect();
        for id in held {
            let open = match self.header(id) {
                Ok(intent) => intent.map_or(0, |intent| intent.mailbox_cursor),
                Err(error) => {
                    warn!(group_id = self.led.group_id().0, %error, "cannot read an intent");
                    continue;
                }
            };
            if let Some(held) = self.held.get(&id)
                && held.cursor != open
            {
                let (name, cursor) = (Arc::clone(&held.agent), held.cursor);
                self.withdraw(&name, cursor, id);
            }
        }
        let all: Vec<_> = self.agents.keys().cloned().collect();
        for name in all {
            if let Some(agent) = self.agents.get_mut(&name) {
                agent.reread();
            }
            self.look_at(&name);
        }
    }
}
