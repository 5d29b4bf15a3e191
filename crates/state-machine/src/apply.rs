//! `apply`: one log entry in, replies, events and effects out.

use crate::audit;
use crate::commands;
use crate::dedup;
use crate::keys;
use crate::lifecycle;
use crate::rows;
use crate::tables::TableError;
use crate::timers;
use crate::transaction::{Outcome, Transaction, rejected};
use crate::write_batch::WriteBatch;
use baton_protocol::proto::internal::command::Body;
use baton_protocol::proto::internal::{Batch, Command, Event, Pulse, Rejection, Reply};
use baton_protocol::{ErrorCode, GroupId, GroupMap, IntentId, limits};
use bytes::Bytes;

/// Everything `apply` may know about the outside. Nothing else exists for it.
#[derive(Debug, Clone, Copy)]
pub struct ApplyContext {
    pub group: GroupId,
    pub map: GroupMap,
    pub log_index: u64,
    pub term: u64,
    pub settings: Settings,
}

/// Cluster-wide durations, fixed at creation so that every replica applies alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    pub command_dedup_ms: u64,
    pub idempotency_retention_ms: u64,
    pub terminal_retention_ms: u64,
    pub audit_retention_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            command_dedup_ms: limits::COMMAND_DEDUP_MS,
            idempotency_retention_ms: limits::IDEMPOTENCY_RETENTION_MS,
            terminal_retention_ms: limits::TERMINAL_RETENTION_MS,
            audit_retention_ms: limits::AUDIT_RETENTION_MS,
        }
    }
}

/// What one entry did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Applied {
    /// Log time after this entry.
    pub log_time_ms: u64,
    /// One per command, in order.
    pub replies: Vec<Reply>,
    /// Events appended, in order. Not those of a birth, which everyone knows: see [`crate::birth_events`].
    pub events: Vec<Event>,
    pub effects: Vec<Effect>,
}

/// What the leader may have to do. Hints: a new leader recomputes them from the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// An open delivery got a (new) cursor.
    Deliver {
        agent_key: String,
        cursor: u64,
        intent_id: IntentId,
    },
    /// The open delivery at this cursor is gone: finished, moved or re-sent under another cursor.
    Withdraw {
        agent_key: String,
        cursor: u64,
        intent_id: IntentId,
    },
    /// Somebody works on an intent of another group that is delivered here.
    PickedUp { intent_id: IntentId },
    /// Attempts at the open delivery at this cursor may only take so long from now on.
    Limit {
        agent_key: String,
        cursor: u64,
        intent_id: IntentId,
    },
    /// A replay of a delivery to this agent is planned.
    Replay { agent_key: String },
    /// A message to somebody outside waits.
    Notice,
    /// Whether or where the deliveries of this agent are pushed may have changed (meta group).
    Endpoint { address: String },
    /// Messages wait for this group.
    Send { target: GroupId },
    /// The earliest timer may have changed.
    Timer { due_ms: u64 },
    /// Tenants or keys changed (meta group); `token_sha256` names a key that was revoked.
    Meta { revoked_token_sha256: Option<Bytes> },
}

/// Applies one log entry.
///
/// # Errors
/// Only when storage fails or holds a row that cannot be decoded.
pub fn apply(tables: &mut WriteBatch<'_>, entry: Batch, ctx: &ApplyContext) -> Result<Applied, TableError> {
    let before_ms = rows::read_u64(&*tables, &keys::clock())?.unwrap_or(0);
    let now_ms = before_ms.max(entry.log_time_ms);
    rows::write_u64(tables, keys::clock(), now_ms);
    let mut tx = Transaction::new(tables, ctx, now_ms);
    let commands = entry.commands.len();
    let mut replies = Vec::with_capacity(commands);
    for command in entry.commands {
        replies.push(answer(&mut tx, command)?);
    }
    timers::flush(&mut tx)?;
    lifecycle::count(&mut tx)?;
    dedup::settle(&mut tx, commands)?;
    Ok(tx.into_applied(replies))
}

/// Answers one command: from memory when it was applied before, not at all when it came too late.
fn answer(tx: &mut Transaction<'_, '_>, mut command: Command) -> Result<Reply, TableError> {
    let remembered = dedup::applies_to(&command);
    if remembered && let Some(reply) = dedup::find(tx, &command)? {
        return Ok(reply);
    }
    if command.expires_at_ms != 0 && command.expires_at_ms < tx.now_ms {
        return Ok(rejected(Rejection {
            code: ErrorCode::CommandExpired.number(),
            message: "command came too late and was not applied; send it again".into(),
            existing_service_account: None,
        }));
    }
    let Some(body) = command.body.take() else {
        return Ok(rejected(Rejection {
            code: ErrorCode::InvalidArgument.number(),
            message: "command is unknown to this version; upgrade every node first".into(),
            existing_service_account: None,
        }));
    };
    let subject = audit::Subject::of(&body);
    let before = tx.tables.mark();
    let reply = match tx.atomically(|tx| dispatch(tx, body))? {
        Ok(reply) => reply,
        Err(rejection) => rejected(rejection),
    };
    if let Some(subject) = subject {
        let changed = tx.tables.mark() > before;
        audit::record(tx, subject, &reply, changed)?;
    }
    if remembered {
        dedup::remember(tx, &command, &reply);
    }
    Ok(reply)
}

/// Whether a retry must be recognised by origin and sequence. The others are fenced or idempotent by themselves.
#[must_use]
pub fn is_deduplicated(body: &Body) -> bool {
    match body {
        Body::Pulse(_)
        | Body::FailAttempt(_)
        | Body::Redeliver(_)
        | Body::FinishAttempt(_)
        | Body::StartAttempt(_)
        | Body::AcknowledgeAttempt(_)
        | Body::RecordReplay(_)
        | Body::DisableCallback(_)
        | Body::ReportNotice(_)
        | Body::Deliver(_)
        | Body::Acknowledge(_) => false,
        Body::Submit(_)
        | Body::Resolve(_)
        | Body::Resume(_)
        | Body::Controls(_)
        | Body::Policy(_)
        | Body::StartScenario(_)
        | Body::Reserve(_)
        | Body::Finish(_)
        | Body::Bootstrap(_)
        | Body::CreateServiceAccount(_)
        | Body::UpdateServiceAccount(_)
        | Body::CreateApiKey(_)
        | Body::RevokeApiKey(_)
        | Body::ReplayDelivery(_)
        | Body::SetFeatureLevel(_)
        | Body::AnswerTask(_)
        | Body::WriteThread(_)
        | Body::PutSchema(_)
        | Body::SetRetention(_) => true,
    }
}

fn dispatch(tx: &mut Transaction<'_, '_>, body: Body) -> Outcome {
    match body {
        Body::Submit(c) => commands::submit::apply(tx, c),
        Body::Resolve(c) => commands::resolve::apply(tx, &c),
        Body::Resume(c) => commands::resume::apply(tx, &c),
        Body::Controls(c) => commands::controls::apply(tx, &c),
        Body::Policy(c) => commands::policy::apply(tx, &c),
        Body::StartScenario(c) => commands::start_scenario::apply(tx, &c),
        Body::FailAttempt(c) => commands::fail_attempt::apply(tx, &c),
        Body::Redeliver(c) => commands::redeliver::apply(tx, &c),
        Body::FinishAttempt(c) => commands::finish_attempt::apply(tx, c),
        Body::StartAttempt(c) => commands::start_attempt::apply(tx, &c),
        Body::AcknowledgeAttempt(c) => commands::acknowledge_attempt::apply(tx, &c),
        Body::ReplayDelivery(c) => commands::replay_delivery::apply(tx, &c),
        Body::RecordReplay(c) => commands::record_replay::apply(tx, &c),
        Body::ReportNotice(c) => commands::report_notice::apply(tx, &c),
        Body::DisableCallback(c) => commands::disable_callback::apply(tx, &c),
        Body::Pulse(Pulse {}) => commands::pulse::apply(tx),
        Body::Reserve(c) => commands::reserve::apply(tx, &c),
        Body::Finish(c) => commands::finish::apply(tx, &c),
        Body::Deliver(c) => commands::deliver::apply(tx, &c),
        Body::Acknowledge(c) => commands::acknowledge::apply(tx, &c),
        Body::Bootstrap(c) => commands::bootstrap::apply(tx, &c),
        Body::CreateServiceAccount(c) => commands::create_service_account::apply(tx, &c),
        Body::UpdateServiceAccount(c) => commands::update_service_account::apply(tx, &c),
        Body::CreateApiKey(c) => commands::create_api_key::apply(tx, &c),
        Body::RevokeApiKey(c) => commands::revoke_api_key::apply(tx, &c),
        Body::SetFeatureLevel(c) => commands::set_feature_level::apply(tx, &c),
        Body::WriteThread(c) => commands::write_thread::apply(tx, &c),
        Body::AnswerTask(c) => commands::answer_task::apply(tx, &c),
        Body::PutSchema(c) => commands::put_schema::apply(tx, c),
        Body::SetRetention(c) => commands::set_retention::apply(tx, &c),
    }
}
