//! Which open deliveries were written to whom, and until when: the leader's soft state.

use crate::settings::DeliverySettings;
use baton_protocol::IntentId;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tokio::time::Instant;

/// How far a delivery has come under this leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// On its way to a listener; nothing counts yet.
    Sent,
    /// A listener took it: without pick-up the attempt fails.
    Written,
    /// A listener says it has seen this cursor, and this leader does not know: sent again without an attempt.
    Inferred,
    /// Somebody works on it.
    PickedUp,
    /// Its timeout has passed and the log is being told.
    Expiring,
}

#[derive(Debug)]
struct OpenDelivery {
    intent_id: IntentId,
    attempt: u32,
    trace_parent: String,
    stage: Stage,
    due: Option<Instant>,
    credentials: Vec<Arc<str>>,
    /// Attempts may only take so long: the log is to be told when one begins.
    timed: bool,
}

/// An attempt that has begun, and whose time runs in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) agent: Arc<str>,
    pub(super) cursor: u64,
    pub(super) intent_id: IntentId,
}

/// A delivery whose time is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expiry {
    pub(super) agent: Arc<str>,
    pub(super) cursor: u64,
    pub(super) intent_id: IntentId,
    pub(super) attempt: u32,
    pub(super) trace_parent: String,
    /// Whether it consumes the attempt.
    pub(super) fails: bool,
}

/// One delivery as it goes to a listener.
#[derive(Debug, Clone)]
pub(super) struct Delivery<'a> {
    pub(super) agent: &'a Arc<str>,
    pub(super) cursor: u64,
    pub(super) intent_id: IntentId,
    pub(super) attempt: u32,
    /// W3C traceparent of the submit, or empty.
    pub(super) trace_parent: &'a str,
    /// Whether attempts may only take so long.
    pub(super) timed: bool,
}

type Open = BTreeMap<u64, OpenDelivery>;

/// Soft state of all agents of a group.
#[derive(Debug)]
pub(super) struct Ledger {
    settings: DeliverySettings,
    agents: HashMap<Arc<str>, Open>,
    by_intent: HashMap<IntentId, (Arc<str>, u64)>,
    timers: BTreeSet<(Instant, Arc<str>, u64)>,
    starts: Vec<Start>,
}

impl Ledger {
    pub(super) fn new(settings: DeliverySettings) -> Self {
        Self {
            settings,
            agents: HashMap::new(),
            by_intent: HashMap::new(),
            timers: BTreeSet::new(),
            starts: Vec::new(),
        }
    }

    /// Attempts that have begun since this was last asked.
    pub(super) fn take_starts(&mut self) -> Vec<Start> {
        std::mem::take(&mut self.starts)
    }

    /// The log could not be told of a start: it is told again, unless the attempt is over.
    pub(super) fn start_again(&mut self, start: Start) {
        if self.holds(&start.agent, start.cursor) {
            self.starts.push(start);
        }
    }

    /// Attempts at this delivery may only take so long from now on.
    pub(super) fn limit(&mut self, agent: &str, cursor: u64) {
        let Some(open) = self.find(agent, cursor) else {
            return;
        };
        open.timed = true;
        if matches!(open.stage, Stage::Written | Stage::PickedUp) {
            self.begun(&Arc::from(agent), cursor);
        }
    }

    fn begun(&mut self, agent: &Arc<str>, cursor: u64) {
        let Some(open) = self.find(agent, cursor).filter(|open| open.timed) else {
            return;
        };
        let start = Start {
            intent_id: open.intent_id,
            agent: Arc::clone(agent),
            cursor,
        };
        self.starts.push(start);
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _, _)| *due)
    }

    pub(super) fn knows_agent(&self, agent: &str) -> bool {
        self.agents.contains_key(agent)
    }

    /// The delivery goes out to a listener with `credential`.
    pub(super) fn sent(&mut self, delivery: &Delivery<'_>, credential: &Arc<str>) {
        self.open(delivery, credential, Stage::Sent);
    }

    /// A listener took the delivery. Whether it was the first one.
    pub(super) fn written(&mut self, agent: &Arc<str>, cursor: u64, now: Instant) -> bool {
        let Some(open) = self.find(agent, cursor) else {
            return false;
        };
        match open.stage {
            Stage::Sent | Stage::Inferred => {
                open.stage = Stage::Written;
                let due = now + self.settings.visibility_timeout();
                self.arm(agent, cursor, due);
                self.begun(agent, cursor);
                true
            }
            Stage::Written | Stage::PickedUp | Stage::Expiring => false,
        }
    }

    /// A listener has seen this cursor, and nothing is known about it. `started` when the intent shows that
    /// somebody works on it.
    pub(super) fn infer(
        &mut self,
        delivery: &Delivery<'_>,
        credential: &Arc<str>,
        started: bool,
        now: Instant,
    ) {
        self.open(delivery, credential, Stage::Sent);
        if started {
            self.pick_up(delivery.agent, delivery.cursor, now);
        } else {
            self.infer_one(delivery.agent, delivery.cursor, now);
        }
    }

    /// The same for deliveries that were sent to a listener which never confirmed.
    pub(super) fn infer_sent(&mut self, agent: &Arc<str>, up_to: u64, credential: &Arc<str>, now: Instant) {
        let Some(open) = self.agents.get_mut(agent) else {
            return;
        };
        let mut found = Vec::new();
        for (cursor, delivery) in open.range_mut(..=up_to) {
            if delivery.stage == Stage::Sent {
                remember(&mut delivery.credentials, credential);
                found.push(*cursor);
            }
        }
        for cursor in found {
            self.infer_one(agent, cursor, now);
        }
    }

    /// The intent was fetched by `credential`, or acted upon as the log shows (`None`). Whether this is news.
    pub(super) fn picked_up(&mut self, intent_id: IntentId, credential: Option<&str>, now: Instant) -> bool {
        let Some((agent, cursor)) = self.by_intent.get(&intent_id).cloned() else {
            return false;
        };
        let Some(open) = self.find(&agent, cursor) else {
            return false;
        };
        let known = credential.is_none_or(|c| open.credentials.iter().any(|known| known.as_ref() == c));
        let news = open.stage != Stage::PickedUp;
        // Somebody who only looks on must not keep a dead worker's delivery from being sent again.
        if known && (news || credential.is_none()) {
            self.pick_up(&agent, cursor, now);
        }
        known && news
    }

    /// The delivery is gone.
    pub(super) fn withdraw(&mut self, agent: &str, cursor: u64) {
        let Some(open) = self.agents.get_mut(agent) else {
            return;
        };
        if let Some(gone) = open.remove(&cursor) {
            if let Some(due) = gone.due {
                self.timers.remove(&(due, Arc::from(agent), cursor));
            }
            if self
                .by_intent
                .get(&gone.intent_id)
                .is_some_and(|(a, c)| a.as_ref() == agent && *c == cursor)
            {
                self.by_intent.remove(&gone.intent_id);
            }
        }
        if open.is_empty() {
            self.agents.remove(agent);
        }
    }

    /// Deliveries whose time is up, at most `limit`. Each is returned once; see [`Ledger::retry`].
    pub(super) fn expired(&mut self, now: Instant, limit: usize) -> Vec<Expiry> {
        let mut out = Vec::new();
        while out.len() < limit && self.next_due().is_some_and(|due| due <= now) {
            let Some((_, agent, cursor)) = self.timers.pop_first() else {
                break;
            };
            let Some(open) = self.find(&agent, cursor) else {
                continue;
            };
            let fails = open.stage == Stage::Written;
            open.due = None;
            open.stage = Stage::Expiring;
            let (intent_id, attempt) = (open.intent_id, open.attempt);
            let trace_parent = open.trace_parent.clone();
            out.push(Expiry {
                agent,
                cursor,
                intent_id,
                attempt,
                trace_parent,
                fails,
            });
        }
        out
    }

    /// The log could not be told; `expired` returns it again at `at`, unless it was picked up meanwhile.
    pub(super) fn retry(&mut self, expiry: &Expiry, at: Instant) {
        let Some(open) = self.find(&expiry.agent, expiry.cursor) else {
            return;
        };
        if open.stage == Stage::Expiring {
            open.stage = if expiry.fails {
                Stage::Written
            } else {
                Stage::Inferred
            };
            self.arm(&expiry.agent, expiry.cursor, at);
        }
    }

    /// Agents and cursors that are held, for a comparison with the tables.
    pub(super) fn held(&self) -> Vec<(Arc<str>, Vec<u64>)> {
        let held = |(agent, open): (&Arc<str>, &Open)| (Arc::clone(agent), open.keys().copied().collect());
        self.agents.iter().map(held).collect()
    }

    pub(super) fn holds(&self, agent: &str, cursor: u64) -> bool {
        self.agents
            .get(agent)
            .is_some_and(|open| open.contains_key(&cursor))
    }

    /// Whether a listener has taken the delivery, so that it is theirs until its time is up.
    pub(super) fn is_out(&self, agent: &str, cursor: u64) -> bool {
        let open = self.agents.get(agent).and_then(|open| open.get(&cursor));
        open.is_some_and(|delivery| delivery.stage != Stage::Sent)
    }

    fn find(&mut self, agent: &str, cursor: u64) -> Option<&mut OpenDelivery> {
        self.agents.get_mut(agent)?.get_mut(&cursor)
    }

    fn open(&mut self, delivery: &Delivery<'_>, credential: &Arc<str>, stage: Stage) {
        // An intent is in one mailbox once: an older entry was withdrawn unnoticed.
        if let Some((agent, cursor)) = self.by_intent.get(&delivery.intent_id).cloned()
            && (agent.as_ref(), cursor) != (delivery.agent.as_ref(), delivery.cursor)
        {
            self.withdraw(&agent, cursor);
        }
        let agent = Arc::clone(delivery.agent);
        self.by_intent
            .insert(delivery.intent_id, (Arc::clone(&agent), delivery.cursor));
        let open = self.agents.entry(agent).or_default();
        let open = open.entry(delivery.cursor).or_insert_with(|| OpenDelivery {
            intent_id: delivery.intent_id,
            attempt: delivery.attempt,
            trace_parent: delivery.trace_parent.to_owned(),
            stage,
            due: None,
            credentials: Vec::new(),
            timed: delivery.timed,
        });
        remember(&mut open.credentials, credential);
    }

    fn infer_one(&mut self, agent: &Arc<str>, cursor: u64, now: Instant) {
        let due = now + self.settings.visibility_timeout();
        if let Some(open) = self.find(agent, cursor)
            && open.stage == Stage::Sent
        {
            open.stage = Stage::Inferred;
            self.arm(agent, cursor, due);
        }
    }

    fn pick_up(&mut self, agent: &Arc<str>, cursor: u64, now: Instant) {
        let due = now + self.settings.pickup_timeout();
        if let Some(open) = self.find(agent, cursor) {
            let begins = open.stage != Stage::PickedUp;
            open.stage = Stage::PickedUp;
            self.arm(agent, cursor, due);
            if begins {
                self.begun(agent, cursor);
            }
        }
    }

    fn arm(&mut self, agent: &Arc<str>, cursor: u64, due: Instant) {
        let Some(open) = self.find(agent, cursor) else {
            return;
        };
        let before = open.due.replace(due);
        if let Some(before) = before {
            self.timers.remove(&(before, Arc::clone(agent), cursor));
        }
        self.timers.insert((due, Arc::clone(agent), cursor));
    }
}

/// Distinct credentials that may listen on one address and pick up one delivery.
const CREDENTIALS_MAX: usize = 256;

fn remember(credentials: &mut Vec<Arc<str>>, credential: &Arc<str>) {
    if credentials.len() < CREDENTIALS_MAX && !credentials.contains(credential) {
        credentials.push(Arc::clone(credential));
    }
}
