//! `RecordReplay`: what one attempt at a replay came to. The intent is not touched.

use crate::commands::fail_attempt::stale;
use crate::keys;
use crate::pushes::{self, RETRY_DELAY_MS_MAX};
use crate::rows;
use crate::transaction::{Outcome, Transaction, done};
use baton_protocol::DeliveryId;
use baton_protocol::proto::internal::{DeliveryState, RecordReplay};

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &RecordReplay) -> Outcome {
    let report = command.push.as_ref().ok_or_else(stale)?;
    let id = command.delivery.as_ref().and_then(DeliveryId::of);
    let id = id.filter(|id| id.replay > 0).ok_or_else(stale)?;
    let mut row = pushes::stored(&*tx.tables, id)?
        .filter(|row| row.state() == DeliveryState::Pending && row.attempts + 1 == command.attempt)
        .ok_or_else(stale)?;
    pushes::dequeue_replay(tx, id, &row);
    let state = if command.delivered {
        DeliveryState::Delivered
    } else if command.attempt >= row.max_attempts {
        DeliveryState::DeadLettered
    } else {
        DeliveryState::Pending
    };
    pushes::attempted(&mut row, report, state, tx.now_ms);
    if state == DeliveryState::Pending {
        let due_ms = tx.now_ms.saturating_add(report.delay_ms.min(RETRY_DELAY_MS_MAX));
        pushes::enqueue_replay(tx, id, &mut row, due_ms);
    }
    rows::write(tx.tables, keys::delivery(id), &row);
    Ok(done())
}

#[cfg(test)]
mod tests {
    use crate::Effect;
    use crate::testing::{Replica, actor, agent, intent_id, pushed, refusal, submit};
    use baton_protocol::proto::internal::command::Body;
    use baton_protocol::proto::internal::{
        Actor, Delivery, DeliveryState, FailAttempt, KeyKind, ListDeliveries, ListReplays, Pulse,
        RecordReplay, ReplayDelivery, query, query_reply, reply,
    };
    use baton_protocol::{DeliveryId, ErrorCode, IntentId};

    /// An intent whose attempts are used up.
    fn dead() -> (Replica, IntentId) {
        let mut replica = Replica::new(1, 1);
        replica.run(Body::Submit(submit("worker", 1)));
        let id = intent_id(&agent("worker"), 1);
        for _ in 0..3 {
            let fail = FailAttempt {
                intent_id: id.to_bytes(),
                cursor: replica.intent(id).unwrap().mailbox_cursor,
                push: Some(pushed("worker", 500, 1_000)),
            };
            assert_eq!(refusal(&replica.run(Body::FailAttempt(fail))), None);
            replica.now_ms += 1_000;
            replica.run(Body::Pulse(Pulse {}));
        }
        (replica, id)
    }

    fn replay(id: IntentId, number: u32, caller: Actor) -> Body {
        Body::ReplayDelivery(ReplayDelivery {
            actor: Some(caller),
            delivery: Some(
                DeliveryId::new(id, &agent("worker").key)
                    .replayed(number)
                    .to_key(),
            ),
            idempotency: None,
        })
    }

    fn record(id: IntentId, number: u32, attempt: u32, delivered: bool) -> Body {
        Body::RecordReplay(RecordReplay {
            delivery: Some(
                DeliveryId::new(id, &agent("worker").key)
                    .replayed(number)
                    .to_key(),
            ),
            attempt,
            delivered,
            push: Some(pushed("worker", if delivered { 204 } else { 500 }, 2_000)),
        })
    }

    fn waiting(replica: &Replica) -> Vec<Delivery> {
        let q = ListReplays {
            agent: Some(agent("worker")),
            limit: 10,
        };
        let query_reply::Outcome::Deliveries(page) = replica.ask(query::Body::ListReplays(q)) else {
            panic!("refused")
        };
        page.deliveries.into_iter().map(|v| v.delivery.unwrap()).collect()
    }

    fn workspace() -> Actor {
        actor(KeyKind::Workspace, "admin")
    }

    #[test]
    fn a_replay_has_its_own_attempts_and_leaves_the_intent_alone() {
        let (mut replica, id) = dead();
        let header = replica.intent(id);
        let answer = replica.run(replay(id, 0, workspace()));
        let agent_key = agent("worker").key;
        assert!(replica.last.effects.contains(&Effect::Replay { agent_key }));
        let Some(reply::Outcome::Delivery(view)) = answer.outcome else {
            panic!("refused")
        };
        let row = view.delivery.unwrap();
        assert_eq!(
            (row.state(), row.attempts, row.replay_of),
            (DeliveryState::Pending, 0, 0)
        );
        let again = replica.run(replay(id, 1, workspace()));
        assert_eq!(refusal(&again), Some(ErrorCode::Conflict), "it is pending");
        for attempt in 1..=3 {
            assert_eq!(waiting(&replica).len(), 1);
            assert_eq!(refusal(&replica.run(record(id, 1, attempt, false))), None);
            let stale = replica.run(record(id, 1, attempt, true));
            assert_eq!(refusal(&stale), Some(ErrorCode::StaleAttempt));
        }
        assert!(waiting(&replica).is_empty());
        let row = replica.delivery(id, "worker", 1).unwrap();
        assert_eq!((row.state(), row.attempts), (DeliveryState::DeadLettered, 3));
        replica.run(replay(id, 1, workspace()));
        assert_eq!(waiting(&replica)[0].replay_of, 1);
        replica.run(record(id, 2, 1, true));
        let row = replica.delivery(id, "worker", 2).unwrap();
        assert_eq!((row.state(), row.last_status), (DeliveryState::Delivered, 204));
        assert_eq!(replica.intent(id), header);
    }

    #[test]
    fn lists_are_filtered_by_state_and_never_across_workspaces() {
        let (mut replica, id) = dead();
        replica.run(replay(id, 0, workspace()));
        let mut foreign = workspace();
        foreign.workspace_id = "w2".into();
        let refused = replica.run(replay(id, 0, foreign.clone()));
        assert_eq!(refusal(&refused), Some(ErrorCode::NotFound));
        let stranger = replica.run(replay(id, 0, actor(KeyKind::Agent, "other")));
        assert_eq!(refusal(&stranger), Some(ErrorCode::NotFound));
        let list = |caller: Actor, states: Vec<DeliveryState>, q: ListDeliveries| {
            let q = ListDeliveries {
                workspace_id: "w1".into(),
                states: states.into_iter().map(Into::into).collect(),
                ..q
            };
            let reply = replica.ask_as(Some(caller), query::Body::ListDeliveries(q));
            let query_reply::Outcome::Deliveries(page) = reply else {
                return None;
            };
            Some(page)
        };
        let all = list(workspace(), vec![], ListDeliveries::default()).unwrap();
        assert_eq!((all.deliveries.len(), all.reached), (2, None));
        let dead = list(
            workspace(),
            vec![DeliveryState::DeadLettered],
            ListDeliveries::default(),
        )
        .unwrap();
        assert_eq!(dead.deliveries.len(), 1);
        let one = ListDeliveries {
            limit: 1,
            ..ListDeliveries::default()
        };
        let first = list(workspace(), vec![], one.clone()).unwrap();
        let rest = list(
            workspace(),
            vec![],
            ListDeliveries {
                behind: first.reached,
                ..one
            },
        )
        .unwrap();
        assert_eq!([first.deliveries, rest.deliveries].concat(), all.deliveries);
        let own = ListDeliveries {
            agent: Some(agent("worker")),
            ..ListDeliveries::default()
        };
        let page = list(actor(KeyKind::Agent, "worker"), vec![], own.clone()).unwrap();
        assert_eq!(page.deliveries.len(), 2);
        for (caller, q) in [
            (foreign, ListDeliveries::default()),
            (actor(KeyKind::Agent, "worker"), ListDeliveries::default()),
            (actor(KeyKind::Agent, "other"), own),
        ] {
            assert_eq!(list(caller, vec![], q), None);
        }
    }
}
