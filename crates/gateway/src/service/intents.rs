//! Reading and steering existing intents.

use baton_protocol::limits::EVENTS_PAGE_MAX;
use baton_protocol::proto::internal::{
    Actor, AgentRef, EnvelopeLimits, EventPage, Gate, GetIntent, IdempotencyClaim, Intent, IntentView,
    KeyKind, ListEvents, Member, Payload, ResolveIntent, ResumeIntent, Status, Transitioned, UpdateControls,
    UpdatePolicy, command, query, query_reply, reply, resume_intent,
};
use baton_protocol::{ErrorCode, IntentId, Route, ServiceError};

use super::completion::CompletionDelivery;
use super::idempotency::claim;
use super::{Caller, Failure, IdempotencyRequest, Service, unexpected};

/// Who acts on an existing intent, and how often it may count.
#[derive(Debug, Clone, Default)]
pub(crate) struct Change {
    /// Owner scope as text.
    pub owner: Option<String>,
    /// `actor` of the body, for the event.
    pub label: Option<String>,
    pub reason: String,
    pub expected_policy_generation: Option<u64>,
    pub idempotency: Option<IdempotencyRequest>,
}

/// A terminal decision.
#[derive(Debug, Clone)]
pub(crate) struct Resolve {
    pub status: Status,
    pub result: Option<Payload>,
    pub error: Option<Payload>,
}

impl Resolve {
    /// The decision that ends an intent as CANCELED.
    pub(crate) fn canceled() -> Self {
        Self {
            status: Status::Canceled,
            result: None,
            error: None,
        }
    }
}

/// How the body of a resume was read.
#[derive(Debug, Clone)]
pub(crate) enum ResumeKind {
    /// Finishes the work with the whole body.
    Result { body: Payload, fail: bool },
    /// Steers it.
    Control { approve: bool },
    /// Lets it wait for something outside, named for people.
    Wait { tool: String },
    /// Only control keys: `apply` decides by who calls.
    ControlOrResult { body: Payload },
}

/// A resume.
#[derive(Debug, Clone)]
pub(crate) struct Resume {
    pub kind: ResumeKind,
    /// Address to hand over to.
    pub next_handler: Option<String>,
}

/// A patch of the envelope: as it is shown, and what of it is enforced.
#[derive(Debug, Clone, Default)]
pub(crate) struct Envelope {
    pub members: Vec<Member>,
    pub limits: Option<EnvelopeLimits>,
}

/// A committed change.
#[derive(Debug, Clone)]
pub(crate) struct Committed {
    pub reply: Transitioned,
    /// The answer of an earlier call with the same idempotency key.
    pub replayed: bool,
}

/// A committed change with what the HTTP surface shows beside it.
#[derive(Debug, Clone)]
pub(crate) struct Transition {
    pub reply: Transitioned,
    pub payload: Payload,
    /// The intent's latest human task.
    pub gate: Option<Gate>,
    pub completion: CompletionDelivery,
}

impl Service {
    /// The intent as of now. Counts as pick-up when the caller may handle it.
    #[tracing::instrument(name = "intent.get", skip_all, fields(intent_id = %id))]
    pub(crate) async fn get_intent(
        &self,
        caller: &Caller,
        id: IntentId,
        with_payload: bool,
    ) -> Result<IntentView, ServiceError> {
        let query = query::Body::GetIntent(GetIntent {
            intent_id: id.to_bytes(),
            with_payload,
        });
        let actor = Some(caller.actor(None, None));
        let found = self.read(Route::Slot(id.slot()), actor, query).await;
        let query_reply::Outcome::Intent(view) = found.map_err(|e| name_intent(e, id))? else {
            return Err(unexpected("something else than an intent"));
        };
        if let Some(intent) = &view.intent {
            self.note_pick_up(caller, id, intent);
        }
        Ok(view)
    }

    fn note_pick_up(&self, caller: &Caller, id: IntentId, intent: &Intent) {
        let handler = intent.holder();
        let may_handle = match caller.kind() {
            KeyKind::Workspace | KeyKind::Operator => true,
            KeyKind::Agent | KeyKind::Unspecified => handler.is_some_and(|h| h.key == caller.account.address),
        };
        if let Some(handler) = handler
            && may_handle
            && !intent.status().is_terminal()
            && !intent.scenario_parent
        {
            self.ports.agents.picked_up(id, handler, &caller.key.key_id);
        }
    }

    /// Events with `seq` above `since`, linearizable.
    pub(crate) async fn list_events(
        &self,
        caller: &Caller,
        id: IntentId,
        since: u32,
    ) -> Result<EventPage, ServiceError> {
        let actor = Some(caller.actor(None, None));
        let read = self.read(Route::Slot(id.slot()), actor, events_query(id, since));
        event_page(read.await.map_err(|e| name_intent(e, id))?)
    }

    /// Events with `seq` above `since` as far as this node has applied them.
    pub(crate) async fn list_events_nearby(
        &self,
        caller: &Caller,
        id: IntentId,
        since: u32,
    ) -> Result<EventPage, ServiceError> {
        let actor = Some(caller.actor(None, None));
        let read = self.read_nearby(Route::Slot(id.slot()), actor, events_query(id, since));
        event_page(read.await.map_err(|e| name_intent(e, id))?)
    }

    /// Ends an intent.
    #[tracing::instrument(name = "intent.resolve", skip_all, fields(intent_id = %id))]
    pub(crate) async fn resolve(
        &self,
        caller: &Caller,
        id: IntentId,
        resolve: Resolve,
        change: Change,
    ) -> Result<Committed, Failure> {
        let (actor, idempotency) = self.prepare(caller, &change).await?;
        let body = command::Body::Resolve(ResolveIntent {
            actor: Some(actor),
            intent_id: id.to_bytes(),
            status: resolve.status.into(),
            result: resolve.result,
            error: resolve.error,
            reason: change.reason,
            idempotency,
            expected_policy_generation: change.expected_policy_generation,
        });
        self.transition(id, body).await
    }

    /// Continues or finishes an intent.
    #[tracing::instrument(name = "intent.resume", skip_all, fields(intent_id = %id))]
    pub(crate) async fn resume(
        &self,
        caller: &Caller,
        id: IntentId,
        resume: Resume,
        change: Change,
    ) -> Result<Committed, Failure> {
        let (mut actor, idempotency) = self.prepare(caller, &change).await?;
        if matches!(resume.kind, ResumeKind::Result { .. } | ResumeKind::Wait { .. }) {
            // Work is no steering: it is not audited, and as small as can be.
            actor.call = None;
        }
        let next_handler = self.acting_for(caller, resume.next_handler.as_deref()).await?;
        if let Some(next) = &next_handler {
            self.check_registered(next).await?;
        }
        let mut waits_for = String::new();
        let (kind, result, fail, approve) = match resume.kind {
            ResumeKind::Result { body, fail } => (resume_intent::Kind::Result, Some(body), fail, false),
            ResumeKind::Control { approve } => (resume_intent::Kind::Control, None, false, approve),
            ResumeKind::ControlOrResult { body } => {
                (resume_intent::Kind::ControlOrResult, Some(body), false, true)
            }
            ResumeKind::Wait { tool } => {
                waits_for = tool;
                (resume_intent::Kind::Wait, None, false, false)
            }
        };
        let body = command::Body::Resume(ResumeIntent {
            actor: Some(actor),
            intent_id: id.to_bytes(),
            kind: kind.into(),
            result,
            fail,
            approve,
            next_handler,
            reason: change.reason,
            expected_policy_generation: change.expected_policy_generation,
            idempotency,
            waits_for,
        });
        let done = self.transition(id, body).await?;
        if let Some(intent) = &done.reply.intent {
            self.note_pick_up(caller, id, intent);
        }
        Ok(done)
    }

    /// Merges control settings.
    #[tracing::instrument(name = "intent.controls", skip_all, fields(intent_id = %id))]
    pub(crate) async fn update_controls(
        &self,
        caller: &Caller,
        id: IntentId,
        patch: Vec<Member>,
        change: Change,
    ) -> Result<Committed, Failure> {
        let (actor, idempotency) = self.prepare(caller, &change).await?;
        let body = command::Body::Controls(UpdateControls {
            actor: Some(actor),
            intent_id: id.to_bytes(),
            patch,
            reason: change.reason,
            expected_policy_generation: change.expected_policy_generation,
            idempotency,
        });
        self.transition(id, body).await
    }

    /// Merges grants and the envelope.
    #[tracing::instrument(name = "intent.policy", skip_all, fields(intent_id = %id))]
    pub(crate) async fn update_policy(
        &self,
        caller: &Caller,
        id: IntentId,
        grants: Vec<Member>,
        envelope: Envelope,
        change: Change,
    ) -> Result<Committed, Failure> {
        let (actor, idempotency) = self.prepare(caller, &change).await?;
        let body = command::Body::Policy(UpdatePolicy {
            actor: Some(actor),
            intent_id: id.to_bytes(),
            grants,
            envelope: envelope.members,
            limits: envelope.limits,
            reason: change.reason,
            expected_policy_generation: change.expected_policy_generation,
            idempotency,
        });
        self.transition(id, body).await
    }

    pub(super) async fn prepare(
        &self,
        caller: &Caller,
        change: &Change,
    ) -> Result<(Actor, Option<IdempotencyClaim>), ServiceError> {
        let acting_for: Option<AgentRef> = self.acting_for(caller, change.owner.as_deref()).await?;
        let claim = change.idempotency.as_ref().map(|r| claim(caller, r));
        Ok((caller.audited_actor(acting_for, change.label.clone()), claim))
    }

    pub(super) async fn transition(&self, id: IntentId, body: command::Body) -> Result<Committed, Failure> {
        let route = Route::Slot(id.slot());
        let reply = self.ports.proposer.propose(route, body).await?;
        let replayed = reply.replayed;
        match reply.outcome {
            Some(reply::Outcome::Transitioned(reply)) => Ok(Committed { reply, replayed }),
            Some(reply::Outcome::Rejected(rejection)) => Err(rejection.into()),
            _ => Err(unexpected("something else than a transition").into()),
        }
    }

    /// What the HTTP surface shows beside a change: the payload, and whether `reply_to` has been told (bounded wait).
    pub(crate) async fn describe(&self, id: IntentId, done: Committed) -> Result<Transition, Failure> {
        let Committed { reply, .. } = done;
        let intent = reply
            .intent
            .as_ref()
            .ok_or_else(|| unexpected("a transition without its intent"))?;
        let view = self.unchecked_view(id).await?;
        let completion = self.completion(intent, reply.completion.as_ref()).await;
        Ok(Transition {
            reply,
            payload: view.payload.unwrap_or_default(),
            gate: view.gate,
            completion,
        })
    }

    /// Payload and task, which hardly ever change, so any replica that has them will do.
    async fn unchecked_view(&self, id: IntentId) -> Result<IntentView, ServiceError> {
        let query = || {
            query::Body::GetIntent(GetIntent {
                intent_id: id.to_bytes(),
                with_payload: true,
            })
        };
        let route = Route::Slot(id.slot());
        // The call was allowed already; read as the system so that a transfer does not hide the payload.
        let found = match self.read_nearby(route, None, query()).await {
            Ok(found) => found,
            Err(_) => self.read(route, None, query()).await?,
        };
        let query_reply::Outcome::Intent(view) = found else {
            return Err(unexpected("something else than an intent"));
        };
        Ok(view)
    }
}

fn events_query(id: IntentId, since: u32) -> query::Body {
    query::Body::ListEvents(ListEvents {
        intent_id: id.to_bytes(),
        since,
        limit: EVENTS_PAGE_MAX,
    })
}

fn event_page(outcome: query_reply::Outcome) -> Result<EventPage, ServiceError> {
    let query_reply::Outcome::Events(page) = outcome else {
        return Err(unexpected("something else than events"));
    };
    Ok(page)
}

/// Makes a bare "not found" say which intent.
fn name_intent(error: ServiceError, id: IntentId) -> ServiceError {
    if error.code == ErrorCode::NotFound {
        ServiceError::new(
            ErrorCode::NotFound,
            format!("intent {id} does not exist or is not visible to this key"),
        )
    } else {
        error
    }
}
