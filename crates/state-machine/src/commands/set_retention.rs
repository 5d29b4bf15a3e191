//! `SetRetention`: how long a workspace keeps what is over. Every shard group is told by message.

use crate::keys;
use crate::outbox;
use crate::rows;
use crate::transaction::{Outcome, Stop, Transaction, invalid, not_found, reject, reply};
use crate::visibility;
use baton_protocol::limits::{TERMINAL_RETENTION_MARGIN_MS, TERMINAL_RETENTION_MS_MAX};
use baton_protocol::proto::internal::{
    RetentionChanged, SetRetention, Workspace, outbox_message::Body, reply as outcome,
};
use baton_protocol::{ErrorCode, GroupId};

pub(crate) fn apply(tx: &mut Transaction<'_, '_>, command: &SetRetention) -> Outcome {
    tx.require_meta()?;
    let key = keys::workspace(&command.workspace_id);
    let mut workspace: Workspace = rows::read(&*tx.tables, &key)?
        .filter(|workspace: &Workspace| {
            visibility::belongs_to(command.actor.as_ref(), &workspace.workspace_id)
        })
        .ok_or_else(|| not_found("workspace"))?;
    if !visibility::operates(command.actor.as_ref()) {
        return Err(reject(
            ErrorCode::PolicyDenied,
            "setting the retention of a workspace needs an operator key",
        ));
    }
    let wanted_ms = command.terminal_retention_ms;
    check(tx, wanted_ms)?;
    if workspace.terminal_retention_ms != wanted_ms {
        workspace.terminal_retention_ms = wanted_ms;
        rows::write(tx.tables, key, &workspace);
        for group in 1..=tx.ctx.map.shard_groups() {
            let message = RetentionChanged {
                workspace_id: workspace.workspace_id.clone(),
                terminal_retention_ms: wanted_ms,
            };
            outbox::send(tx, GroupId(group), Body::RetentionChanged(message))?;
        }
        tx.note_meta(None);
    }
    Ok(reply(outcome::Outcome::Workspace(workspace)))
}

fn check(tx: &Transaction<'_, '_>, wanted_ms: u64) -> Result<(), Stop> {
    let keys_ms = tx.ctx.settings.idempotency_retention_ms;
    let least_ms = keys_ms.saturating_add(TERMINAL_RETENTION_MARGIN_MS);
    if wanted_ms != 0 && wanted_ms < least_ms {
        return Err(invalid(format!(
            "terminal_retention_ms must be at least {least_ms}: a repeated call must find the intent for as long as its \
             idempotency key counts ({keys_ms} ms), and an hour more"
        )));
    }
    if wanted_ms > TERMINAL_RETENTION_MS_MAX {
        return Err(invalid(format!(
            "terminal_retention_ms must be at most {TERMINAL_RETENTION_MS_MAX}; export what has to be kept longer"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::{Replica, START_MS, actor, agent, intent_id, refusal, settle, submit};
    use crate::{Settings, next_due_ms};
    use baton_protocol::ErrorCode;
    use baton_protocol::limits::{PULSE_ITEMS_MAX, TERMINAL_RETENTION_MARGIN_MS, TERMINAL_RETENTION_MS_MAX};
    use baton_protocol::proto::internal::command::Body;
    use baton_protocol::proto::internal::{
        BootstrapCluster, ClusterRecord, KeyKind, Pulse, ResolveIntent, SetRetention, Status, SubmitIntent,
        Workspace,
    };

    const DAY_MS: u64 = 24 * 3_600_000;

    /// Meta and one shard group, with workspaces `w1` and `w2`.
    fn groups() -> Vec<Replica> {
        let mut meta = Replica::new(0, 1);
        meta.run(Body::Bootstrap(BootstrapCluster {
            cluster: Some(ClusterRecord::default()),
            workspace: Some(Workspace {
                workspace_id: "w1".into(),
                ..Workspace::default()
            }),
            ..BootstrapCluster::default()
        }));
        vec![meta, Replica::new(1, 1)]
    }

    fn set(kind: KeyKind, workspace: &str, ms: u64) -> Body {
        Body::SetRetention(SetRetention {
            actor: Some(actor(kind, "root")),
            workspace_id: workspace.into(),
            terminal_retention_ms: ms,
        })
    }

    fn set_as_operator(groups: &mut [Replica], ms: u64) {
        let reply = groups[0].run(set(KeyKind::Operator, "w1", ms));
        assert_eq!(refusal(&reply), None);
        settle(groups);
    }

    fn end(replica: &mut Replica, n: u64, workspace: &str) {
        let mut caller = actor(KeyKind::Operator, "root");
        caller.workspace_id = workspace.into();
        replica.run(Body::Submit(SubmitIntent {
            actor: Some(caller.clone()),
            ..submit("worker", n)
        }));
        replica.run(Body::Resolve(ResolveIntent {
            actor: Some(caller),
            intent_id: intent_id(&agent("worker"), n).to_bytes(),
            status: Status::Completed.into(),
            ..ResolveIntent::default()
        }));
    }

    fn kept(replica: &Replica, n: u64) -> bool {
        replica.intent(intent_id(&agent("worker"), n)).is_some()
    }

    /// Fires what is due for intents at `at_ms`, over and over until nothing is.
    fn pulse_until(replica: &mut Replica, at_ms: u64) {
        replica.now_ms = at_ms;
        for _ in 0..100 {
            if next_due_ms(&replica.tables)
                .unwrap()
                .is_none_or(|due| due > at_ms)
            {
                return;
            }
            replica.run(Body::Pulse(Pulse {}));
        }
        panic!("timers never end");
    }

    #[test]
    fn who_may_set_what() {
        let keys_ms = Settings::default().idempotency_retention_ms;
        let least = keys_ms + TERMINAL_RETENTION_MARGIN_MS;
        for (kind, workspace, ms, expected) in [
            (KeyKind::Operator, "w1", least, None),
            (KeyKind::Operator, "w1", 0, None),
            (KeyKind::Operator, "w1", TERMINAL_RETENTION_MS_MAX, None),
            (
                KeyKind::Operator,
                "w1",
                least - 1,
                Some(ErrorCode::InvalidArgument),
            ),
            (
                KeyKind::Operator,
                "w1",
                TERMINAL_RETENTION_MS_MAX + 1,
                Some(ErrorCode::InvalidArgument),
            ),
            (KeyKind::Operator, "none", least, Some(ErrorCode::NotFound)),
            (KeyKind::Workspace, "w1", least, Some(ErrorCode::PolicyDenied)),
            (KeyKind::Agent, "w1", least, Some(ErrorCode::PolicyDenied)),
        ] {
            let reply = groups()[0].run(set(kind, workspace, ms));
            assert_eq!(refusal(&reply), expected, "{kind:?} {workspace} {ms}");
        }
        let mut foreign = actor(KeyKind::Workspace, "admin");
        foreign.workspace_id = "w2".into();
        let by_foreigner = Body::SetRetention(SetRetention {
            actor: Some(foreign),
            workspace_id: "w1".into(),
            terminal_retention_ms: least,
        });
        assert_eq!(refusal(&groups()[0].run(by_foreigner)), Some(ErrorCode::NotFound));
        let shard = groups()[1].run(set(KeyKind::Operator, "w1", least));
        assert_eq!(refusal(&shard), Some(ErrorCode::InvalidArgument));
    }

    #[test]
    fn setting_the_same_again_changes_nothing() {
        let mut groups = groups();
        set_as_operator(&mut groups, 30 * DAY_MS);
        let before = groups[0].hash();
        set_as_operator(&mut groups, 30 * DAY_MS);
        assert_eq!(groups[0].hash(), before);
    }

    #[test]
    fn a_longer_retention_keeps_what_is_over_already_and_only_of_that_workspace() {
        let mut groups = groups();
        end(&mut groups[1], 1, "w1");
        end(&mut groups[1], 2, "w2");
        set_as_operator(&mut groups, 30 * DAY_MS);
        pulse_until(&mut groups[1], START_MS + 3 * DAY_MS);
        assert!(kept(&groups[1], 1) && !kept(&groups[1], 2));
        pulse_until(&mut groups[1], START_MS + 30 * DAY_MS - 1);
        assert!(kept(&groups[1], 1));
        pulse_until(&mut groups[1], START_MS + 30 * DAY_MS);
        assert!(!kept(&groups[1], 1));
    }

    #[test]
    fn a_shorter_retention_removes_what_is_over_already_in_bounded_steps() {
        let mut groups = groups();
        let many = 3 * PULSE_ITEMS_MAX as u64;
        for n in 0..many {
            end(&mut groups[1], n, "w1");
        }
        groups[1].run(Body::Submit(submit("worker", many)));
        groups[1].now_ms += 2 * DAY_MS;
        groups[0].now_ms += 2 * DAY_MS;
        set_as_operator(&mut groups, DAY_MS + TERMINAL_RETENTION_MARGIN_MS);
        let at_ms = groups[1].now_ms;
        assert_eq!(next_due_ms(&groups[1].tables).unwrap(), Some(at_ms));
        let mut left = many;
        while left > 0 {
            groups[1].run(Body::Pulse(Pulse {}));
            let now = (0..many).filter(|n| kept(&groups[1], *n)).count() as u64;
            assert!(
                now < left && left - now <= PULSE_ITEMS_MAX as u64,
                "{now} of {left}"
            );
            left = now;
        }
        assert!(kept(&groups[1], many), "an open intent stays");
        assert_eq!(groups[1].hash(), groups[1].hash_from_scratch());
    }

    #[test]
    fn the_clusters_retention_counts_again_once_the_own_is_taken_back() {
        let mut groups = groups();
        set_as_operator(&mut groups, 30 * DAY_MS);
        end(&mut groups[1], 1, "w1");
        set_as_operator(&mut groups, 0);
        pulse_until(&mut groups[1], START_MS + 3 * DAY_MS);
        assert!(!kept(&groups[1], 1));
    }

    #[test]
    fn a_deadline_does_not_wait_for_a_purge() {
        let mut groups = groups();
        for n in 0..2 * PULSE_ITEMS_MAX as u64 {
            end(&mut groups[1], n, "w1");
        }
        let last = 2 * PULSE_ITEMS_MAX as u64;
        groups[1].run(Body::Submit(SubmitIntent {
            deadline_at_ms: START_MS + 2 * DAY_MS,
            ..submit("worker", last)
        }));
        for replica in &mut groups {
            replica.now_ms += 2 * DAY_MS;
        }
        set_as_operator(&mut groups, DAY_MS + TERMINAL_RETENTION_MARGIN_MS);
        groups[1].run(Body::Pulse(Pulse {}));
        let ended = groups[1].intent(intent_id(&agent("worker"), last)).unwrap();
        assert_eq!(ended.status(), Status::TimedOut);
    }
}
