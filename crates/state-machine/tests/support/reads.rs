//! What the tables of a replica answer.

use baton_protocol::IntentId;
use baton_protocol::proto::internal::{
    AgentRef, Event, GetIntent, Intent, ListEvents, ListMailbox, ListTasks, query, query_reply,
};
use baton_state_machine::testing::Replica;
use bytes::Bytes;
use std::collections::BTreeSet;

pub(super) fn listed_tasks(replica: &Replica) -> BTreeSet<IntentId> {
    let mut found = BTreeSet::new();
    for workspace_id in ["w1", "w2"] {
        let q = ListTasks {
            workspace_id: workspace_id.into(),
            ..ListTasks::default()
        };
        match replica.ask(query::Body::ListTasks(q)) {
            query_reply::Outcome::Tasks(page) => {
                let ids = page.tasks.into_iter().map(|t| t.intent.unwrap().intent_id);
                found.extend(ids.filter_map(|id| IntentId::from_slice(&id)));
            }
            other => panic!("no tasks: {other:?}"),
        }
    }
    found
}

pub(crate) fn header(replica: &Replica, id: IntentId) -> Option<Intent> {
    let q = GetIntent {
        intent_id: id.to_bytes(),
        with_payload: false,
    };
    match replica.ask(query::Body::GetIntent(q)) {
        query_reply::Outcome::Intent(view) => view.intent,
        _ => None,
    }
}

pub(crate) fn events(replica: &Replica, intent_id: &Bytes) -> Vec<Event> {
    let q = ListEvents {
        intent_id: intent_id.clone(),
        ..ListEvents::default()
    };
    match replica.ask(query::Body::ListEvents(q)) {
        query_reply::Outcome::Events(page) => page.events,
        other => panic!("no events: {other:?}"),
    }
}

pub(super) fn mailbox(replica: &Replica, agent: &AgentRef) -> Vec<(u64, Intent)> {
    let q = ListMailbox {
        agent: Some(agent.clone()),
        ..ListMailbox::default()
    };
    match replica.ask(query::Body::ListMailbox(q)) {
        query_reply::Outcome::Mailbox(page) => {
            let items = page.items.into_iter();
            items.map(|i| (i.cursor, i.intent.unwrap())).collect()
        }
        other => panic!("no mailbox: {other:?}"),
    }
}
