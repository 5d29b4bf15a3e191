//! What the nodes share.

use baton_protocol::proto::v1;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Longest any condition of a test may take to come true.
const PATIENCE: Duration = Duration::from_secs(20);

/// An item that was handed to a worker.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) fence: v1::Fence,
    /// Reports that were accepted for it, in order, by their names.
    pub(crate) reports: Vec<&'static str>,
    pub(crate) over: bool,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) intents: BTreeMap<String, v1::Intent>,
    pub(crate) events: HashMap<String, Vec<v1::Event>>,
    pub(crate) keys: HashMap<(String, String), String>,
    /// What each submit carried, repetitions included.
    pub(crate) submitted: Vec<v1::IntentSpec>,
    /// Answers to the next unary calls or stream items, instead of the true ones.
    pub(crate) trouble: VecDeque<Status>,
    /// Calls are taken and never answered.
    pub(crate) mute: bool,
    /// Items of submit streams are taken and not answered.
    pub(crate) hold: bool,
    /// The key of each registration, repetitions included.
    pub(crate) registered: Vec<String>,
    pub(crate) calls: u32,
    /// Addresses of the nodes that lead agents.
    pub(crate) leaders: HashMap<String, String>,
    /// A node that refuses every submit of a stream, and how.
    pub(crate) cut_off: Option<(String, Status)>,
    /// The node of each submit and work stream.
    pub(crate) asked: Vec<String>,
    /// Metadata of the last call.
    pub(crate) metadata: MetadataMap,
    /// A watch stream ends after this many events; 0 = never.
    pub(crate) watch_events_max: usize,
    /// `since_seq` of each watch that was opened.
    pub(crate) watches: Vec<u32>,
    pub(crate) work: VecDeque<v1::Intent>,
    pub(crate) given: BTreeMap<String, Given>,
    pub(crate) lease_ms: u32,
    pub(crate) drains: u32,
    pub(crate) work_streams: u32,
}

/// Shared by all nodes of a test.
pub(crate) struct World {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

impl World {
    pub(crate) fn new() -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self {
            state: Mutex::new(State::default()),
            changed: watch::Sender::new(0),
        })
    }

    /// Looks and changes; whoever waits looks again.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        let result = look(&mut self.lock());
        self.changed.send_modify(|n| *n += 1);
        result
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Looks without waking anybody.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What every call begins with: counted, perhaps muted, perhaps refused.
    pub(crate) async fn admit(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let (mute, trouble) = self.with(|state| {
            state.calls += 1;
            state.metadata = metadata.clone();
            (state.mute, state.trouble.pop_front())
        });
        if mute {
            std::future::pending::<()>().await;
        }
        trouble.map_or(Ok(()), Err)
    }

    /// Next answers to whoever calls.
    pub(crate) fn trouble(&self, statuses: impl IntoIterator<Item = Status>) {
        self.with(|state| state.trouble.extend(statuses));
    }

    /// Work for an agent, as intents in order.
    pub(crate) fn offer(&self, ids: impl IntoIterator<Item = String>) {
        self.with(|state| {
            for intent_id in ids {
                state.work.push_back(v1::Intent {
                    intent_id,
                    ..v1::Intent::default()
                });
            }
        });
    }
}

impl State {
    /// Who leads an agent, when that is another node than the one that is asked.
    pub(crate) fn leader(&self, agent: &str, here: &str) -> Option<String> {
        self.leaders.get(agent).filter(|leader| *leader != here).cloned()
    }

    pub(crate) fn submit(&mut self, spec: v1::IntentSpec) -> Result<v1::SubmitReceipt, Status> {
        self.submitted.push(spec.clone());
        if let Some(status) = self.trouble.pop_front() {
            return Err(status);
        }
        let key = (spec.to_agent.clone(), spec.idempotency_key.clone());
        let known = self.keys.get(&key).filter(|_| !key.1.is_empty()).cloned();
        let replayed = known.is_some();
        let intent_id = known.unwrap_or_else(|| format!("intent-{}", self.intents.len()));
        if !replayed {
            self.keys.insert(key, intent_id.clone());
            let intent = v1::Intent {
                intent_id: intent_id.clone(),
                intent_type: spec.intent_type,
                to_agent: spec.to_agent,
                payload: spec.payload,
                status: v1::Status::Submitted.into(),
                ..v1::Intent::default()
            };
            self.intents.insert(intent_id.clone(), intent);
            self.append(&intent_id, v1::Status::Created);
        }
        Ok(v1::SubmitReceipt {
            intent_id,
            status: v1::Status::Submitted.into(),
            created_at_ms: 1,
            replayed,
            leader: String::new(),
        })
    }

    pub(crate) fn append(&mut self, intent_id: &str, status: v1::Status) {
        let events = self.events.entry(intent_id.to_owned()).or_default();
        let seq = u32::try_from(events.len()).unwrap() + 1;
        events.push(v1::Event {
            intent_id: intent_id.to_owned(),
            seq,
            event_type: format!("intent.{}", status.as_str_name().to_lowercase()),
            status: status.into(),
            ..v1::Event::default()
        });
        if let Some(intent) = self.intents.get_mut(intent_id) {
            intent.status = status.into();
            intent.last_seq = seq;
        }
    }

    pub(crate) fn get(&self, intent_id: &str) -> Result<v1::Intent, Status> {
        let intent = self.intents.get(intent_id).cloned();
        intent.ok_or_else(|| refusal(Code::NotFound, "not_found"))
    }
}

pub(crate) fn terminal(status: i32) -> bool {
    status >= v1::Status::Completed as i32
}

/// An answer with details, as a server gives it.
pub(crate) fn refusal(code: Code, name: &str) -> Status {
    let mut details = ErrorDetails::with_error_info(name, "baton", []);
    if code == Code::Unavailable {
        details.set_retry_info(Some(Duration::from_millis(10)));
    }
    Status::with_error_details(code, format!("scripted: {name}"), details)
}

/// Waits until something is true of the world.
pub(crate) async fn until(world: &World, what: &str, mut condition: impl FnMut(&State) -> bool) {
    let mut changes = world.changes();
    let waiting = async {
        while !world.look(&mut condition) {
            changes.changed().await.unwrap();
        }
    };
    let done = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(done.is_ok(), "{what} did not happen");
}
