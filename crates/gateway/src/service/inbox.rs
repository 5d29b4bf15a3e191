//! Inbox threads of one owner.

use std::time::Duration;

use baton_protocol::address::slot_of;
use baton_protocol::limits::LIST_PAGE_MAX;
use baton_protocol::proto::internal::write_thread::Write;
use baton_protocol::proto::internal::{
    Actor, AgentRef, Decision, GetIntent, GetThread, IntentView, ListThreadChanges, ListThreads, Pulse,
    Thread, ThreadPage, ThreadWritten, WriteThread, command, query, query_reply, reply,
};
use baton_protocol::{ErrorCode, IntentId, Route, ServiceError};

use super::idempotency::claim;
use super::{Caller, Change, Failure, Service, unexpected};
use crate::forms::HandedIn;

/// Pulses that one list of changes asks for: writes that go on meanwhile hold something back each time.
const PULSES_MAX: usize = 2;
const NEXT_MILLISECOND: Duration = Duration::from_millis(2);

impl Service {
    /// Threads of `owner`, most recently updated first; `status` empty = all.
    pub(crate) async fn list_threads(
        &self,
        caller: &Caller,
        owner: AgentRef,
        status: String,
        limit: Option<u32>,
    ) -> Result<Vec<Thread>, ServiceError> {
        let route = Route::Slot(slot_of(&owner));
        let query = query::Body::ListThreads(ListThreads {
            owner: Some(owner.clone()),
            status,
            limit: limit.unwrap_or(LIST_PAGE_MAX).min(LIST_PAGE_MAX),
        });
        let actor = Some(caller.actor(Some(owner), None));
        let query_reply::Outcome::Threads(page) = self.read(route, actor, query).await? else {
            return Err(unexpected("something else than threads"));
        };
        Ok(page.threads)
    }

    /// One thread of `owner`.
    pub(crate) async fn get_thread(
        &self,
        caller: &Caller,
        owner: AgentRef,
        id: IntentId,
    ) -> Result<Thread, ServiceError> {
        let route = Route::Slot(slot_of(&owner));
        let address = owner.address.clone();
        let query = query::Body::GetThread(GetThread {
            owner: Some(owner.clone()),
            thread_id: id.to_bytes(),
        });
        let actor = Some(caller.actor(Some(owner), None));
        match self.read(route, actor, query).await {
            Ok(query_reply::Outcome::Thread(thread)) => Ok(thread),
            Ok(_) => Err(unexpected("something else than a thread")),
            Err(error) if error.code == ErrorCode::NotFound => Err(ServiceError::new(
                ErrorCode::NotFound,
                format!("thread {id} is not in the inbox of {address}"),
            )),
            Err(error) => Err(error),
        }
    }

    /// Threads of `owner` behind a place in the order they were last written to. What is held back until log time goes
    /// on is worth a pulse: without one, the last thread of a group that rests would never show.
    pub(crate) async fn list_thread_changes(
        &self,
        caller: &Caller,
        owner: AgentRef,
        after: (u64, Option<IntentId>),
        limit: u32,
    ) -> Result<Vec<Thread>, ServiceError> {
        let route = Route::Slot(slot_of(&owner));
        let query = query::Body::ListThreadChanges(ListThreadChanges {
            owner: Some(owner.clone()),
            after_ms: after.0,
            after_thread_id: after.1.map(IntentId::to_bytes).unwrap_or_default(),
            limit,
        });
        let actor = caller.actor(Some(owner), None);
        for _ in 0..PULSES_MAX {
            let page = self.thread_page(&actor, route, query.clone()).await?;
            if !page.held_back {
                return Ok(page.threads);
            }
            // The clock must have gone on, or the pulse falls into the same millisecond.
            tokio::time::sleep(NEXT_MILLISECOND).await;
            let pulse = command::Body::Pulse(Pulse {});
            self.ports.proposer.propose(route, pulse).await?;
        }
        // The rest shows next time.
        Ok(self.thread_page(&actor, route, query).await?.threads)
    }

    async fn thread_page(
        &self,
        actor: &Actor,
        route: Route,
        query: query::Body,
    ) -> Result<ThreadPage, ServiceError> {
        let query_reply::Outcome::Threads(page) = self.read(route, Some(actor.clone()), query).await? else {
            return Err(unexpected("something else than threads"));
        };
        Ok(page)
    }

    /// Writes to one thread of `owner`.
    #[tracing::instrument(name = "thread.write", skip_all, fields(thread_id = %id))]
    pub(crate) async fn write_thread(
        &self,
        caller: &Caller,
        owner: AgentRef,
        id: IntentId,
        write: Write,
        change: &Change,
    ) -> Result<ThreadWritten, Failure> {
        let reaches = match &write {
            Write::Reply(_) => true,
            Write::Delete(delete) => delete.both,
            Write::Delegate(_) | Write::Decide(_) | Write::Read(_) => false,
        };
        let counterpart = if reaches {
            self.counterpart(caller, &owner, id).await?
        } else {
            None
        };
        let route = Route::Slot(slot_of(&owner));
        let (acting_for, label) = (Some(owner.clone()), change.label.clone());
        let actor = match &write {
            Write::Delegate(_) | Write::Decide(_) => caller.audited_actor(acting_for, label),
            Write::Reply(_) | Write::Delete(_) | Write::Read(_) => caller.actor(acting_for, label),
        };
        let body = command::Body::WriteThread(WriteThread {
            actor: Some(actor),
            thread_id: id.to_bytes(),
            counterpart,
            write: Some(write),
            idempotency: change.idempotency.as_ref().map(|request| {
                let mut claim = claim(caller, request);
                // The record lives beside the thread, whatever the slot of its hash.
                claim.in_intent_slot = true;
                claim
            }),
            owner: Some(owner),
        });
        let reply = self.ports.proposer.propose(route, body).await?;
        match reply.outcome {
            Some(reply::Outcome::ThreadWritten(written)) => Ok(written),
            Some(reply::Outcome::Rejected(rejection)) => Err(rejection.into()),
            _ => Err(unexpected("something else than a thread").into()),
        }
    }

    /// The other side of a thread; a sender that has no address here has no inbox.
    async fn counterpart(
        &self,
        caller: &Caller,
        owner: &AgentRef,
        id: IntentId,
    ) -> Result<Option<AgentRef>, ServiceError> {
        let thread = self.get_thread(caller, owner.clone(), id).await?;
        let other = if thread.from_agent == owner.address {
            thread.to_agent
        } else {
            thread.from_agent
        };
        let other = self.resolve_address(caller, &other).await;
        Ok(other.ok().filter(|other| other.key != owner.key))
    }

    /// Approves or rejects. An intent that waits for a human takes it as its answer; for any other it is only noted.
    pub(crate) async fn decide_thread(
        &self,
        caller: &Caller,
        owner: AgentRef,
        id: IntentId,
        decision: Decision,
        change: Change,
    ) -> Result<ThreadWritten, Failure> {
        let view: Option<IntentView> = match self.get_intent(caller, id, false).await {
            Ok(view) => Some(view),
            Err(error) if error.code == ErrorCode::NotFound => {
                self.require_nothing_asked(caller, &owner, id).await?;
                None
            }
            Err(error) => return Err(error.into()),
        };
        let asked = view.filter(|view| view.intent.as_ref().is_some_and(|intent| intent.gate_open));
        if let Some(view) = asked {
            // Whose thread this is must be known before anything is answered in its name.
            self.get_thread(caller, owner.clone(), id).await?;
            let task = view.gate.clone().unwrap_or_default().task.unwrap_or_default();
            let handed_in = HandedIn::decision(&task, decision.approve, &decision.comment)?;
            let answer = Change {
                idempotency: None,
                ..change.clone()
            };
            self.answer_seen(caller, id, &view, handed_in, answer).await?;
        }
        self.write_thread(caller, owner, id, Write::Decide(decision), &change)
            .await
    }

    /// Refuses to decide in an inbox what the intent asks of somebody else: it would go on waiting behind a thread that
    /// is done. `id` is an intent that the caller does not see, of a thread that was delegated to it.
    async fn require_nothing_asked(
        &self,
        caller: &Caller,
        owner: &AgentRef,
        id: IntentId,
    ) -> Result<(), ServiceError> {
        // Nobody learns of an intent whose thread it has not.
        self.get_thread(caller, owner.clone(), id).await?;
        let query = query::Body::GetIntent(GetIntent {
            intent_id: id.to_bytes(),
            with_payload: false,
        });
        match self.read(Route::Slot(id.slot()), None, query).await {
            Ok(query_reply::Outcome::Intent(view)) if view.intent.as_ref().is_some_and(|i| i.gate_open) => {
                Err(ServiceError::new(
                    ErrorCode::PolicyDenied,
                    "the intent waits for an answer that this key may not give; reply to the thread, or have an assignee of \
                     the task or a workspace key answer it",
                ))
            }
            Ok(_) => Ok(()),
            Err(error) if error.code == ErrorCode::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}
