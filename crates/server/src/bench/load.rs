//! The intents of a run: recipients, payloads, keys, numbers.

use super::mode::Idempotency;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Type of every intent.
pub(super) const INTENT_TYPE: &str = "bench.load.v1";

/// Who an intent is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Somebody listens and completes.
    Agent,
    /// Posted to an endpoint, which completes.
    Pushed,
    /// Nobody listens: the intent stays open.
    Sink,
    /// Observers look on; the submitter ends the intent.
    Watched,
}

/// One intent to submit.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// Unique in the run; comes back in the result of a cycle.
    pub(super) number: u64,
    pub(super) to: String,
    pub(super) idempotency: Idempotency,
    run: Arc<str>,
    filler: Arc<str>,
    payload_bytes: usize,
}

impl Job {
    /// The payload, for clients that build JSON.
    pub(super) fn payload(&self) -> Value {
        json!({"filler": self.filler(), "number": self.number})
    }

    /// The same payload as text.
    pub(super) fn payload_text(&self) -> String {
        frame(self.filler(), self.number)
    }

    /// The idempotency key, if the run wants one.
    pub(super) fn key(&self) -> Option<String> {
        (self.idempotency != Idempotency::None).then(|| format!("{}-{}", self.run, self.number))
    }

    fn filler(&self) -> &str {
        let frame_bytes = frame("", self.number).len();
        &self.filler[..self.payload_bytes.saturating_sub(frame_bytes)]
    }
}

fn frame(filler: &str, number: u64) -> String {
    format!("{{\"filler\":\"{filler}\",\"number\":{number}}}")
}

/// The load of one run over one protocol.
#[derive(Debug, Clone)]
pub(super) struct Load {
    run: Arc<str>,
    agents: usize,
    filler: Arc<str>,
    payload_bytes: usize,
    idempotency: Idempotency,
    next: Arc<AtomicU64>,
    stored: Arc<AtomicU64>,
}

impl Load {
    /// `run` must be new for each run; `payload_bytes` is the whole JSON text, as far as number and braces fit in it.
    pub(super) fn new(run: &str, agents: usize, payload_bytes: usize, idempotency: Idempotency) -> Self {
        Self {
            run: run.into(),
            agents,
            filler: "x".repeat(payload_bytes).into(),
            payload_bytes,
            idempotency,
            next: Arc::new(AtomicU64::new(0)),
            stored: Arc::new(AtomicU64::new(0)),
        }
    }

    /// Names of the agents that listen.
    pub(super) fn agents(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.agents as u64).map(|n| self.recipient(Role::Agent, n))
    }

    /// The `n`th recipient in a role.
    pub(super) fn recipient(&self, role: Role, n: u64) -> String {
        let role = match role {
            Role::Agent => "agent",
            Role::Pushed => "pushed",
            Role::Sink => "sink",
            Role::Watched => "watched",
        };
        format!("bench-{}-{role}-{}", self.run, n % self.agents as u64)
    }

    /// The next intent for one of the recipients in turn.
    pub(super) fn job(&self, role: Role) -> Job {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let to = self.recipient(role, number);
        self.numbered(to, number)
    }

    /// The next intent for this recipient.
    pub(super) fn job_to(&self, to: &str) -> Job {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.numbered(to.to_owned(), number)
    }

    fn numbered(&self, to: String, number: u64) -> Job {
        Job {
            number,
            to,
            idempotency: self.idempotency,
            run: Arc::clone(&self.run),
            filler: Arc::clone(&self.filler),
            payload_bytes: self.payload_bytes,
        }
    }

    /// One more intent is stored and stays open.
    pub(super) fn left_open(&self) {
        self.stored.fetch_add(1, Ordering::Relaxed);
    }

    /// Intents of this run that are stored and open.
    pub(super) fn stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_the_size_that_was_asked_for_and_reads_back() {
        for bytes in [0, 40, 256, 1000] {
            let load = Load::new("r", 2, bytes, Idempotency::Caller);
            for _ in 0..12 {
                let job = load.job(Role::Sink);
                let text = job.payload_text();
                assert_eq!(text.len(), bytes.max(frame("", job.number).len()));
                assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), job.payload());
                assert_eq!(job.payload()["number"], job.number);
            }
        }
    }

    #[test]
    fn numbers_and_keys_are_unique_and_recipients_take_turns() {
        let load = Load::new("r", 2, 0, Idempotency::Recipient);
        let jobs: Vec<Job> = (0..4).map(|_| load.job(Role::Agent)).collect();
        let keys: std::collections::HashSet<_> = jobs.iter().map(|job| job.key().unwrap()).collect();
        assert_eq!(keys.len(), 4);
        assert_eq!(jobs[0].to, jobs[2].to);
        assert_ne!(jobs[0].to, jobs[1].to);
        assert!(load.agents().any(|name| name == jobs[0].to));
        assert!(
            Load::new("r", 1, 0, Idempotency::None)
                .job(Role::Sink)
                .key()
                .is_none()
        );
    }
}
