//! Which commands are audited, and what is known of them before they are applied.
//!
//! Audited is what people and administrators do. What agents do with their own work (submits, deliveries, results) has
//! its record in the events of the intent, and costs nothing here.

use crate::commands::answer_task;
use baton_protocol::proto::internal::command::Body;
use baton_protocol::proto::internal::resume_intent::Kind;
use baton_protocol::proto::internal::write_thread::Write;
use baton_protocol::proto::internal::{
    AccountStatus, Actor, AnswerTask, CreateApiKey, CreateServiceAccount, KeyKind, Member, PutSchema,
    ReplayDelivery, ResolveIntent, ResumeIntent, SchemaMode, SetRetention, StartScenario, Status,
    UpdateServiceAccount, WriteThread,
};
use baton_protocol::{DeliveryId, IntentId};
use sha2::{Digest, Sha256};

/// Characters of one detail.
const DETAIL_CHARS_MAX: usize = 1_000;

/// What a command is about.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(super) actor: Option<Actor>,
    pub(super) action: &'static str,
    pub(super) target_type: &'static str,
    pub(super) target_id: String,
    pub(super) details: Vec<(&'static str, String)>,
    pub(super) rule: Rule,
}

/// When a command that succeeded counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    Always,
    /// Unless it turns out to be the result of who handles the intent.
    UnlessResult,
    /// Unless who handles the intent ends it.
    UnlessByHandler,
}

impl Subject {
    /// What is to be recorded of a command; `None` when it is not audited.
    pub(crate) fn of(body: &Body) -> Option<Self> {
        match body {
            Body::AnswerTask(c) => Some(answered(c)),
            Body::Resolve(c) => Some(resolved(c)),
            Body::Resume(c) => resumed(c),
            Body::Controls(c) => {
                let subject = on_intent("intent.controls_changed", c.actor.as_ref(), &c.intent_id);
                Some(subject.members("controls", &c.patch).with("reason", &c.reason))
            }
            Body::Policy(c) => {
                let subject = on_intent("intent.policy_changed", c.actor.as_ref(), &c.intent_id);
                let subject = subject.members("grants", &c.grants);
                Some(subject.members("envelope", &c.envelope).with("reason", &c.reason))
            }
            Body::StartScenario(c) => Some(started(c)),
            Body::ReplayDelivery(c) => Some(replayed(c)),
            Body::CreateServiceAccount(c) => Some(account_created(c)),
            Body::UpdateServiceAccount(c) => Some(account_updated(c)),
            Body::CreateApiKey(c) => Some(key_created(c)),
            Body::RevokeApiKey(c) => {
                let subject = Self::new("key.revoked", c.actor.as_ref(), "key", c.key_id.clone());
                Some(subject.with("service_account_id", &c.service_account_id))
            }
            Body::PutSchema(c) => Some(schema_put(c)),
            Body::SetRetention(c) => Some(retention_set(c)),
            Body::WriteThread(c) => thread_written(c),
            Body::Submit(_)
            | Body::FailAttempt(_)
            | Body::Redeliver(_)
            | Body::StartAttempt(_)
            | Body::FinishAttempt(_)
            | Body::AcknowledgeAttempt(_)
            | Body::RecordReplay(_)
            | Body::ReportNotice(_)
            | Body::DisableCallback(_)
            | Body::Pulse(_)
            | Body::Reserve(_)
            | Body::Finish(_)
            | Body::Deliver(_)
            | Body::Acknowledge(_)
            | Body::Bootstrap(_)
            | Body::SetFeatureLevel(_) => None,
        }
    }

    fn new(
        action: &'static str,
        actor: Option<&Actor>,
        target_type: &'static str,
        target_id: String,
    ) -> Self {
        Self {
            actor: actor.cloned(),
            action,
            target_type,
            target_id,
            details: Vec::new(),
            rule: Rule::Always,
        }
    }

    /// An empty value is left out.
    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        if !value.is_empty() {
            let value = value.chars().take(DETAIL_CHARS_MAX).collect();
            self.details.push((name, value));
        }
        self
    }

    fn hashed(self, name: &'static str, document: &[u8]) -> Self {
        self.with(name, &hex(&Sha256::digest(document)))
    }

    /// The names of what a patch sets; the values only as part of a hash.
    fn members(self, name: &'static str, patch: &[Member]) -> Self {
        if patch.is_empty() {
            return self;
        }
        let names: Vec<&str> = patch.iter().map(|member| member.key.as_str()).collect();
        self.with(name, &names.join(","))
    }

    fn rule(mut self, rule: Rule) -> Self {
        self.rule = rule;
        self
    }
}

fn on_intent(action: &'static str, actor: Option<&Actor>, intent_id: &[u8]) -> Subject {
    Subject::new(action, actor, "intent", intent_text(intent_id))
}

fn intent_text(intent_id: &[u8]) -> String {
    IntentId::from_slice(intent_id).map_or_else(String::new, |id| id.to_string())
}

fn answered(c: &AnswerTask) -> Subject {
    // A link stands for whom it was sent to: its signature is all that such a caller shows.
    let by_link = c.link.as_ref().map(|link| Actor {
        address: link.recipient.clone(),
        ..Actor::default()
    });
    on_intent(
        "task.answered",
        by_link.as_ref().or(c.actor.as_ref()),
        &c.intent_id,
    )
    .with("outcome", &c.outcome)
    .with("generation", &c.generation.to_string())
    .hashed("answer_sha256", &answer_task::result(c).data)
}

fn resolved(c: &ResolveIntent) -> Subject {
    let (action, rule) = if c.status() == Status::Canceled {
        ("intent.canceled", Rule::Always)
    } else {
        ("intent.resolved", Rule::UnlessByHandler)
    };
    on_intent(action, c.actor.as_ref(), &c.intent_id)
        .with("status", c.status().wire_name())
        .with("reason", &c.reason)
        .rule(rule)
}

fn resumed(c: &ResumeIntent) -> Option<Subject> {
    let rule = match c.kind() {
        Kind::Control => Rule::Always,
        Kind::ControlOrResult => Rule::UnlessResult,
        Kind::Result | Kind::Wait | Kind::Unspecified => return None,
    };
    let next = c.next_handler.as_ref();
    let action = if next.is_some() {
        "intent.transferred"
    } else {
        "intent.resumed"
    };
    let subject = on_intent(action, c.actor.as_ref(), &c.intent_id)
        .with("next_handler", next.map_or("", |next| next.address.as_str()))
        .with("reason", &c.reason);
    Some(subject.rule(rule))
}

fn started(c: &StartScenario) -> Subject {
    let parent = c.parent.clone().unwrap_or_default();
    let scenario = c.scenario.as_ref();
    on_intent("scenario.started", parent.actor.as_ref(), &parent.intent_id)
        .with("scenario_id", scenario.map_or("", |s| s.scenario_id.as_str()))
        .with("compile_id", scenario.map_or("", |s| s.compile_id.as_str()))
}

fn replayed(c: &ReplayDelivery) -> Subject {
    let id = c.delivery.as_ref().and_then(DeliveryId::of);
    let text = id.map_or_else(String::new, |id| id.to_string());
    Subject::new("delivery.replayed", c.actor.as_ref(), "delivery", text)
}

fn account_created(c: &CreateServiceAccount) -> Subject {
    let account = c.service_account.clone().unwrap_or_default();
    let subject = Subject::new(
        "service_account.created",
        c.actor.as_ref(),
        "service_account",
        account.service_account_id,
    );
    subject
        .with("name", &account.name)
        .with("address", &account.address)
        .with("delivery_mode", &account.delivery_mode)
}

fn account_updated(c: &UpdateServiceAccount) -> Subject {
    let action = match c.status() {
        AccountStatus::Deleted => "service_account.deleted",
        AccountStatus::Active | AccountStatus::Suspended | AccountStatus::Unspecified => {
            "service_account.updated"
        }
    };
    let changed: Vec<&str> = [
        ("delivery_mode", c.delivery_mode.is_some()),
        ("callback_url", c.callback_url.is_some()),
        ("display_name", c.display_name.is_some()),
        ("description", c.description.is_some()),
        ("callback_secret", c.callback_secret.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, changed)| changed.then_some(name))
    .collect();
    let status = match c.status() {
        AccountStatus::Active => "active",
        AccountStatus::Suspended => "suspended",
        AccountStatus::Deleted => "deleted",
        AccountStatus::Unspecified => "",
    };
    let id = c.service_account_id.clone();
    Subject::new(action, c.actor.as_ref(), "service_account", id)
        .with("changed", &changed.join(","))
        .with("delivery_mode", c.delivery_mode.as_deref().unwrap_or_default())
        .with("status", status)
}

fn key_created(c: &CreateApiKey) -> Subject {
    let key = c.key.clone().unwrap_or_default();
    let kind = match key.kind() {
        KeyKind::Operator => "operator",
        KeyKind::Workspace => "workspace",
        KeyKind::Agent => "agent",
        KeyKind::Unspecified => "",
    };
    let expires = match key.expires_at_ms {
        0 => String::new(),
        at_ms => at_ms.to_string(),
    };
    Subject::new("key.created", c.actor.as_ref(), "key", key.key_id)
        .with("service_account_id", &key.service_account_id)
        .with("kind", kind)
        .with("expires_at_ms", &expires)
}

fn schema_put(c: &PutSchema) -> Subject {
    let schema = c.schema.clone().unwrap_or_default();
    let mode = match schema.mode() {
        SchemaMode::Strict | SchemaMode::Unspecified => "strict",
        SchemaMode::Backward => "backward",
        SchemaMode::Warn => "warn",
    };
    let scope = if schema.workspace_id.is_empty() {
        "core"
    } else {
        "tenant"
    };
    Subject::new("schema.set", c.actor.as_ref(), "schema", schema.semantic_type)
        .with("schema_sha256", &hex(&schema.document_sha256))
        .with("mode", mode)
        .with("scope", scope)
        .with("active", if schema.active { "true" } else { "false" })
}

fn retention_set(c: &SetRetention) -> Subject {
    let id = c.workspace_id.clone();
    Subject::new("workspace.retention_set", c.actor.as_ref(), "workspace", id)
        .with("terminal_retention_ms", &c.terminal_retention_ms.to_string())
}

fn thread_written(c: &WriteThread) -> Option<Subject> {
    let id = intent_text(&c.thread_id);
    let subject = |action| Subject::new(action, c.actor.as_ref(), "thread", id);
    match c.write.as_ref()? {
        Write::Delegate(delegation) => {
            let to = delegation.to.as_ref().map_or("", |to| to.address.as_str());
            Some(subject("thread.delegated").with("to", to))
        }
        Write::Decide(decision) => {
            let outcome = if decision.approve { "approved" } else { "rejected" };
            Some(subject("thread.decided").with("outcome", outcome))
        }
        Write::Reply(_) | Write::Read(_) | Write::Delete(_) => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
