//! Reading chains, and what retention does to them.

use super::{admin, caller, chain, check, controls, events, page, submitted};
use crate::Settings;
use crate::testing::{Replica, actor, agent, submit};
use baton_protocol::ErrorCode;
use baton_protocol::proto::internal::command::Body;
use baton_protocol::proto::internal::query::Body as Query;
use baton_protocol::proto::internal::query_reply::Outcome;
use baton_protocol::proto::internal::{Actor, KeyKind, ListAudit, ListAuditChains, Pulse};

/// Ten changes, a second apart.
fn busy() -> Replica {
    let mut replica = submitted();
    for n in 0..10 {
        replica.now_ms += 1_000;
        let mut change = controls(1, admin());
        change.reason = n.to_string();
        replica.run(Body::Controls(change));
    }
    replica
}

#[test]
fn old_events_go_and_the_rest_still_fits_together() {
    let mut replica = busy();
    let first_ms = events(&replica, "w1")[0].at_ms;
    let keep_ms = Settings::default().audit_retention_ms;
    replica.now_ms = first_ms + keep_ms + 3_999;
    replica.run(Body::Pulse(Pulse {}));
    let left = events(&replica, "w1");
    assert_eq!((left.len(), left[0].sequence), (6, 5));
    assert_eq!(chain(&replica, "w1").anchor_sequence, 4);
    check(&replica, "w1");
    replica.now_ms += keep_ms;
    replica.run(Body::Pulse(Pulse {}));
    assert!(events(&replica, "w1").is_empty());
    assert_eq!(chain(&replica, "w1").anchor_sequence, 10);
    // A chain goes on where it was.
    replica.run(Body::Controls(controls(1, admin())));
    replica.run(Body::Submit(submit("worker", 2)));
    replica.run(Body::Controls(controls(2, admin())));
    let next = events(&replica, "w1");
    assert_eq!(
        next.last().map(|event| event.sequence),
        Some(10 + next.len() as u64)
    );
    check(&replica, "w1");
}

#[test]
fn pages_go_back_in_time_within_their_bounds() {
    let replica = busy();
    let all = events(&replica, "w1");
    let sequences = |q: ListAudit| {
        let found = page(
            &replica,
            ListAudit {
                workspace_id: "w1".into(),
                ..q
            },
        );
        let sequences: Vec<_> = found.events.iter().map(|event| event.sequence).collect();
        (sequences, found.reached.map(|place| place.sequence))
    };
    let q = ListAudit::default;
    assert_eq!(
        sequences(ListAudit { limit: 3, ..q() }),
        (vec![10, 9, 8], Some(8))
    );
    let behind = ListAudit {
        before_sequence: 3,
        ..q()
    };
    assert_eq!(sequences(behind), (vec![2, 1], None));
    let between = ListAudit {
        since_ms: all[3].at_ms,
        until_ms: all[5].at_ms + 999,
        ..q()
    };
    assert_eq!(sequences(between), (vec![6, 5, 4], None));
    let before_all = ListAudit {
        until_ms: all[0].at_ms - 1,
        ..q()
    };
    assert_eq!(sequences(before_all), (vec![], None));
    for (prefix, owner, found) in [
        ("intent.", agent("admin").address, 10),
        ("task.", String::new(), 0),
        ("", agent("boss").address, 0),
    ] {
        let filtered = ListAudit {
            action_prefix: prefix.into(),
            owner_agent: owner,
            ..q()
        };
        assert_eq!(sequences(filtered).0.len(), found, "{prefix}");
    }
}

#[test]
fn who_may_read_which_chain() {
    let mut replica = busy();
    let mut other = caller(KeyKind::Workspace, "admin").unwrap();
    replica.run(Body::Controls(controls(1, caller(KeyKind::Operator, "root"))));
    let ask = |actor: &Actor, workspace: &str| {
        let q = ListAudit {
            workspace_id: workspace.into(),
            ..ListAudit::default()
        };
        let found = replica.ask_as(Some(actor.clone()), Query::ListAudit(q));
        let Outcome::Rejected(rejection) = found else {
            return None;
        };
        Some(ErrorCode::from_number(rejection.code))
    };
    let of = |kind| actor(kind, "worker");
    assert_eq!(ask(&of(KeyKind::Workspace), "w1"), None);
    assert_eq!(ask(&of(KeyKind::Operator), "w2"), None);
    assert_eq!(ask(&of(KeyKind::Operator), ""), None);
    assert_eq!(ask(&of(KeyKind::Agent), "w1"), Some(ErrorCode::PolicyDenied));
    assert_eq!(ask(&of(KeyKind::Agent), "w2"), Some(ErrorCode::NotFound));
    assert_eq!(ask(&of(KeyKind::Workspace), ""), Some(ErrorCode::NotFound));
    other.workspace_id = "w2".into();
    assert_eq!(ask(&other, "w1"), Some(ErrorCode::NotFound));
    let every = Query::ListAuditChains(ListAuditChains {
        every_workspace: true,
        ..ListAuditChains::default()
    });
    assert!(matches!(
        replica.ask_as(Some(other), every.clone()),
        Outcome::Rejected(_)
    ));
    let all = replica.ask_as(Some(of(KeyKind::Operator)), every);
    assert!(matches!(all, Outcome::AuditChains(found) if found.chains.len() == 1 && !found.more));
}
