//! Rules that hold for any sequence of commands, valid or not.

mod support;

use baton_protocol::proto::internal::Pulse;
use baton_protocol::proto::internal::command::Body;
use proptest::prelude::*;
use support::{Op, World, bare, is_empty, is_repeatable, replay, rows};

fn ops(max: usize) -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec((any::<u8>(), any::<u64>()), 1..max)
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(96))]

    /// `World` checks sequences, terminal events, cursors, mailboxes and the state hash after every entry.
    #[test]
    fn lifecycle_rules_hold_and_replay_is_exact(ops in ops(120), restore_at in 0_usize..120) {
        let mut world = World::new(3_000);
        world.drive(&ops);
        let again = replay(&world.log, restore_at);
        for (replica, copy) in world.groups.iter().zip(&again) {
            prop_assert_eq!(replica.hash(), copy.hash());
            prop_assert_eq!(rows(replica), rows(copy));
        }
    }

    /// An entry that is applied twice, as an ambiguous failover may propose it, changes nothing the second time.
    #[test]
    fn a_repeated_entry_changes_nothing(ops in ops(60)) {
        // Within the dedup window, so that nothing is pruned in between.
        let mut world = World::new(50);
        for op in &ops {
            world.drive(std::slice::from_ref(op));
            let Some(entry) = world.log.last().filter(|e| is_repeatable(&e.batch)).cloned() else { continue };
            let replica = &mut world.groups[entry.group];
            let before = rows(replica);
            let second = replica.apply(&entry.batch);
            prop_assert_eq!(&second.replies, &entry.applied.replies);
            prop_assert!(second.events.is_empty() && second.effects.is_empty());
            prop_assert_eq!(rows(replica), before);
            world.log.push(support::Logged { applied: second, ..entry });
        }
    }

    /// Once everything has ended and retention has passed, nothing but counters is left.
    #[test]
    fn retention_leaves_no_rows_behind(ops in ops(60)) {
        let mut world = World::new(1_000);
        world.drive(&ops);
        for _ in 0..30 {
            world.settle();
            world.end_all_and_wait();
        }
        for replica in &world.groups[1..] {
            // Intents, payloads, events; then mailboxes, recipients, timers, idempotency, outbox; threads, scenarios; deliveries; tasks, notices;
            // references; audit events; what retired.
            for (from, to) in [([0x10], [0x13]), ([0x14], [0x19]), ([0x1d], [0x1f]), ([0x24], [0x27]), ([0x28], [0x2c]), ([0x2e], [0x2f]), ([0x39], [0x3a]), ([0x3b], [0x3d])] {
                prop_assert!(is_empty(replica, &from, &to), "rows from {from:?} to {to:?}");
            }
        }
    }
}

impl World {
    /// Resolves what is open, then lets retention pass and fires every timer.
    fn end_all_and_wait(&mut self) {
        self.cancel_open();
        self.settle();
        // Longer than any retention that is drawn.
        self.advance(801 * 3_600_000);
        for group in 1..self.groups.len() {
            for _ in 0..4 {
                self.apply(group, vec![bare(Body::Pulse(Pulse {}))]);
            }
        }
    }
}
