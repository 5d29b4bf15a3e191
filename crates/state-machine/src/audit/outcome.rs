//! What a command's answer adds to its subject.

use super::subject::{Rule, Subject};
use super::{Entry, append};
use crate::intents;
use crate::tables::{TableError, Tables};
use crate::transaction::Transaction;
use crate::visibility;
use baton_protocol::proto::internal::reply::Outcome;
use baton_protocol::proto::internal::{Actor, DeliveryView, Intent, Reply, Transitioned};
use baton_protocol::{ErrorCode, IntentId};

const OK: u32 = 200;
/// The only refusals that are recorded: the caller may not. Others change nothing and say nothing about rights.
const FORBIDDEN: u16 = 403;

/// Records a command that was applied: one that changed something, or that its caller had no right to.
pub(crate) fn record(
    tx: &mut Transaction<'_, '_>,
    subject: Subject,
    reply: &Reply,
    changed: bool,
) -> Result<(), TableError> {
    let Some((status_code, workspace_id)) = judge(&*tx.tables, &subject, reply, changed)? else {
        return Ok(());
    };
    let generation = match &reply.outcome {
        Some(Outcome::Transitioned(done)) => done.policy_generation,
        _ => 0,
    };
    let Subject {
        actor,
        action,
        target_type,
        target_id,
        mut details,
        ..
    } = subject;
    if generation != 0 {
        details.push(("policy_generation", generation.to_string()));
    }
    if let Some(Outcome::ServiceAccount(put)) = &reply.outcome
        && put.callback_secret_set
    {
        details.push(("callback_secret", "set".into()));
    }
    let entry = Entry {
        workspace_id,
        action,
        status_code,
        target_type,
        target_id,
        details,
    };
    append(tx, actor.as_ref(), entry)
}

/// The status that the caller is answered with, and whose chain it goes to; `None` when it is not recorded.
fn judge(
    tables: &dyn Tables,
    subject: &Subject,
    reply: &Reply,
    changed: bool,
) -> Result<Option<(u32, String)>, TableError> {
    let actor = subject.actor.as_ref();
    let own = || actor.map_or_else(String::new, |actor| actor.workspace_id.clone());
    let workspace_id = match &reply.outcome {
        Some(Outcome::Rejected(rejection)) => {
            let denied = ErrorCode::from_number(rejection.code).http() == FORBIDDEN;
            return Ok((denied && actor.is_some()).then(|| (FORBIDDEN.into(), own())));
        }
        _ if !changed || reply.replayed => return Ok(None),
        Some(Outcome::Transitioned(done)) if is_own_work(subject, actor, done) => return Ok(None),
        Some(Outcome::Transitioned(done)) => workspace_of(done.intent.as_ref()),
        Some(Outcome::ScenarioStarted(started)) => workspace_of(started.intent.as_ref()),
        Some(Outcome::ServiceAccount(put)) => put
            .service_account
            .as_ref()
            .map(|account| account.workspace_id.clone()),
        Some(Outcome::ApiKey(put)) => put.api_key.as_ref().map(|key| key.workspace_id.clone()),
        Some(Outcome::Schema(schema)) => Some(schema.workspace_id.clone()),
        Some(Outcome::Workspace(workspace)) => Some(workspace.workspace_id.clone()),
        Some(Outcome::Delivery(view)) => delivered_for(tables, view)?,
        Some(Outcome::ThreadWritten(written)) => {
            let owner = written.thread.as_ref().and_then(|thread| thread.owner.as_ref());
            owner.map(|owner| owner.workspace_id.clone())
        }
        Some(Outcome::Submitted(_) | Outcome::Reserved(_) | Outcome::Done(_) | Outcome::Pulsed(_)) | None => {
            None
        }
    };
    Ok(Some((OK, workspace_id.unwrap_or_else(own))))
}

fn workspace_of(intent: Option<&Intent>) -> Option<String> {
    intent.map(|intent| intent.workspace_id.clone())
}

fn delivered_for(tables: &dyn Tables, view: &DeliveryView) -> Result<Option<String>, TableError> {
    let key = view.delivery.as_ref().and_then(|delivery| delivery.key.as_ref());
    match key.and_then(|key| IntentId::from_slice(&key.intent_id)) {
        Some(id) => Ok(workspace_of(intents::intent(tables, id)?.as_ref())),
        None => Ok(None),
    }
}

/// Whether this was the work of who handles the intent, and no steering of it.
fn is_own_work(subject: &Subject, actor: Option<&Actor>, done: &Transitioned) -> bool {
    let Some(intent) = &done.intent else {
        return false;
    };
    match subject.rule {
        Rule::Always => false,
        Rule::UnlessByHandler => visibility::is_handler(actor, intent),
        // A scenario cannot be transferred, so its handler is still who it was.
        Rule::UnlessResult if intent.scenario_parent => visibility::is_handler(actor, intent),
        Rule::UnlessResult => done
            .event
            .as_ref()
            .is_some_and(|event| event.status().is_terminal()),
    }
}
