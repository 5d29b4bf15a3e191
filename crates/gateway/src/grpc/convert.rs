//! Committed rows as messages of the API. Payload bytes are shared, never copied.

use baton_protocol::proto::internal::{
    AgentRef, Event, EventDetails, Intent, IntentView, Payload, ServiceAccount, Submitted, Thread,
};
use baton_protocol::proto::{internal, v1};

use crate::service::SubmitReply;
use baton_protocol::FeedItem;

pub(super) fn payload(payload: Payload) -> v1::Payload {
    v1::Payload {
        data: payload.data,
        content_type: payload.content_type,
    }
}

/// An intent; the numbers of statuses and reasons are the same on both sides.
pub(super) fn intent(row: Intent) -> v1::Intent {
    v1::Intent {
        handler: row
            .holder()
            .map_or_else(String::new, |agent| agent.address.clone()),
        intent_id: id(&row.intent_id),
        intent_type: row.intent_type,
        correlation_id: row.correlation_id,
        from_agent: row.from_agent,
        to_agent: address(row.to_agent),
        reply_to: address(row.reply_to),
        status: row.status,
        waiting_reason: row.waiting_reason,
        created_at_ms: row.created_at_ms,
        updated_at_ms: row.updated_at_ms,
        deadline_at_ms: row.deadline_at_ms,
        last_seq: row.last_seq,
        failed_attempts: row.failed_attempts,
        max_delivery_attempts: row.max_delivery_attempts,
        policy_generation: row.policy_generation,
        org_id: row.org_id,
        workspace_id: row.workspace_id,
        traceparent: row.trace_parent,
        payload: None,
        outcome: None,
    }
}

/// An intent with its payload (when read) and its outcome (when terminal).
pub(super) fn view(view: IntentView) -> Option<v1::Intent> {
    let mut out = intent(view.intent?);
    out.payload = view.payload.map(payload);
    out.outcome = view
        .terminal_event
        .map(|event| outcome(event.details.unwrap_or_default()));
    Some(out)
}

/// An intent after a change, with the outcome when the change ended it.
pub(super) fn changed(row: Option<Intent>, event: Option<&Event>) -> Option<v1::Intent> {
    let mut out = intent(row?);
    out.outcome = event
        .filter(|event| event.status().is_terminal())
        .map(|event| outcome(event.details.clone().unwrap_or_default()));
    Some(out)
}

pub(super) fn outcome(details: EventDetails) -> v1::Outcome {
    v1::Outcome {
        result: details.result.map(payload),
        error: details.error.map(payload),
        reason: details.reason,
    }
}

pub(super) fn event(row: Event) -> v1::Event {
    let terminal = row.status().is_terminal();
    let event_type = row.r#type().wire_name().to_owned();
    let details = row.details.unwrap_or_default();
    v1::Event {
        intent_id: id(&row.intent_id),
        seq: row.seq,
        event_type,
        status: row.status,
        waiting_reason: row.waiting_reason,
        handler: row.handler,
        actor: row.actor,
        at_ms: row.at_ms,
        step_id: details.step_id.clone(),
        delivery_attempt: details.delivery_attempt,
        reason: details.reason.clone(),
        outcome: terminal.then(|| outcome(details)),
    }
}

/// The end of an intent, for who submitted it on a stream.
pub(super) fn ended(request_id: u64, row: Event) -> v1::IntentEnded {
    v1::IntentEnded {
        request_id,
        intent_id: id(&row.intent_id),
        status: row.status,
        outcome: Some(outcome(row.details.unwrap_or_default())),
    }
}

pub(super) fn receipt(reply: SubmitReply) -> v1::SubmitReceipt {
    let Submitted {
        intent_id,
        status,
        created_at_ms,
    } = reply.submitted;
    v1::SubmitReceipt {
        intent_id: id(&intent_id),
        status,
        created_at_ms,
        replayed: reply.replayed,
        leader: String::new(),
    }
}

pub(super) fn delivery(item: FeedItem) -> v1::SubscribeResponse {
    let mut out = intent(*item.intent);
    out.payload = item.payload.map(payload);
    v1::SubscribeResponse {
        cursor: item.cursor,
        intent: Some(out),
        attempt: item.attempt,
    }
}

pub(super) fn agent(account: ServiceAccount) -> v1::Agent {
    v1::Agent {
        disabled: account.status() != internal::AccountStatus::Active,
        agent_id: account.service_account_id,
        name: account.name,
        address: account.address,
        display_name: account.display_name,
        delivery_mode: account.delivery_mode,
        org_id: account.org_id,
        workspace_id: account.workspace_id,
        created_at_ms: account.created_at_ms,
        callback_url: account.callback_url,
        callback_secret_set_at_ms: account.callback_secret_set_at_ms,
        callback_disabled_at_ms: account.callback_disabled_at_ms,
        callback_disabled_reason: account.callback_disabled_reason,
    }
}

pub(super) fn thread(row: Thread) -> v1::Thread {
    let entries = row.timeline.into_iter().map(|entry| v1::ThreadEntry {
        event_id: id(&entry.event_id),
        event_type: entry.event_type,
        actor: entry.actor,
        at_ms: entry.at_ms,
        details_json: entry.details,
    });
    v1::Thread {
        thread_id: id(&row.thread_id),
        intent_id: id(&row.intent_id),
        status: row.status,
        owner: address(row.owner),
        from_agent: row.from_agent,
        to_agent: row.to_agent,
        created_at_ms: row.created_at_ms,
        updated_at_ms: row.updated_at_ms,
        entries: entries.collect(),
    }
}

fn address(agent: Option<AgentRef>) -> String {
    agent.map(|a| a.address).unwrap_or_default()
}

/// A UUID's 16 bytes as text; empty when they are none.
pub(super) fn id(bytes: &[u8]) -> String {
    uuid::Uuid::from_slice(bytes).map_or_else(|_| String::new(), |id| id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_statuses_and_reasons_agree() {
        for number in 0..32 {
            let status = |found: Option<&'static str>| found.map(str::to_owned);
            assert_eq!(
                status(internal::Status::try_from(number).ok().map(|s| s.as_str_name())),
                status(v1::Status::try_from(number).ok().map(|s| s.as_str_name()))
            );
            assert_eq!(
                status(
                    internal::WaitingReason::try_from(number)
                        .ok()
                        .map(|r| r.as_str_name())
                ),
                status(v1::WaitingReason::try_from(number).ok().map(|r| r.as_str_name()))
            );
        }
    }
}
