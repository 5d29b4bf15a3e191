//! What applying promises: order, visibility before notice, an end at what cannot be decoded, bounded memory.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

mod common;

use baton_protocol::GroupId;
use baton_raft_storage::{
    ApplyObserver, GroupMachine, LogEngine, MachineOptions, Membership, Payload, TableMemory, TablesHandle,
    log_id, recovery,
};
use baton_state_machine::Applied;
use common::{GROUP, REPLICA, Replica, entry, machine_options, small_log, submits};
use futures::stream;
use openraft::impls::EmptyNode;
use openraft::storage::RaftStateMachine as _;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

/// Notes (index, term, effects), and that the rows are visible by then.
#[derive(Default)]
struct Notes {
    seen: Mutex<Vec<(u64, u64, usize)>>,
    tables: OnceLock<TablesHandle>,
}

impl ApplyObserver for Notes {
    fn applied(&self, group: GroupId, log_index: u64, term: u64, applied: &Arc<Applied>) {
        assert_eq!(group, GROUP);
        let tables = self.tables.get().unwrap();
        assert_eq!(tables.applied_index(), log_index);
        assert_eq!(
            tables.read(baton_state_machine::log_time_ms).unwrap(),
            applied.log_time_ms
        );
        self.seen
            .lock()
            .unwrap()
            .push((log_index, term, applied.effects.len()));
    }
}

#[tokio::test]
async fn the_observer_sees_every_batch_in_order_after_it_is_visible() {
    let dir = tempfile::tempdir().unwrap();
    let engine = LogEngine::open(&dir.path().join("log"), small_log()).unwrap();
    let log = engine.group(GROUP, REPLICA).unwrap();
    let notes = Arc::new(Notes::default());
    let options = MachineOptions {
        observer: notes.clone(),
        ..machine_options(dir.path().join("replica"))
    };
    let (mut machine, tables, _) = GroupMachine::open(options, &log).unwrap();
    notes.tables.set(tables.clone()).unwrap();
    let mut entries = submits(4, 0..200);
    entries[7].payload = Payload::Blank;
    let mut applied = tables.watch_applied();
    machine
        .apply(stream::iter(entries.into_iter().map(|e| Ok((e, None)))))
        .await
        .unwrap();
    assert!(applied.has_changed().unwrap());
    assert_eq!(*applied.borrow_and_update(), 199);
    let expected: Vec<_> = (0..200).filter(|i| *i != 7).map(|index| (index, 4, 1)).collect();
    assert_eq!(*notes.seen.lock().unwrap(), expected);
}

#[tokio::test]
async fn an_entry_that_cannot_be_decoded_ends_the_group_and_is_not_applied() {
    let dir = tempfile::tempdir().unwrap();
    let mut replica = Replica::open(dir.path());
    replica.put(submits(1, 0..1)).await;
    let bad = entry(log_id(1, 1), &b"\xff\xff\xff"[..]);
    let error = replica
        .machine
        .apply(stream::iter([Ok((bad, None))]))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("log entry 1"), "{error}");
    assert_eq!(replica.tables.applied_index(), 0);
    replica.crash();
    // Not the tables' fault: they stay trusted.
    assert_eq!(Replica::open(dir.path()).recovered.rebuilt_because, None);
}

#[tokio::test]
async fn membership_is_kept_through_checkpoint_and_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let mut replica = Replica::open(dir.path());
    let nodes = BTreeMap::from([1, 2].map(|id| (id, EmptyNode::new())));
    let membership = Membership::new(vec![BTreeSet::from([1])], nodes).unwrap();
    let mut change = entry(log_id(1, 0), "");
    change.payload = Payload::Membership(membership.clone());
    replica.put(vec![change]).await;
    replica.put(submits(1, 1..3)).await;
    let state = replica.machine.applied_state().await.unwrap();
    assert_eq!(state.0, Some(log_id(1, 2)));
    assert_eq!(
        (state.1.log_id(), state.1.membership()),
        (&Some(log_id(1, 0)), &membership)
    );
    replica.tables.checkpoint().await.unwrap();
    replica.crash();
    let mut replica = Replica::open(dir.path());
    assert_eq!(replica.machine.applied_state().await.unwrap(), state);
}

#[tokio::test]
async fn an_overlay_above_its_budget_is_checkpointed() {
    let dir = tempfile::tempdir().unwrap();
    let engine = LogEngine::open(&dir.path().join("log"), small_log()).unwrap();
    let mut log = engine.group(GROUP, REPLICA).unwrap();
    let options = MachineOptions {
        memory: TableMemory::new(4_000, 1),
        ..machine_options(dir.path().join("replica"))
    };
    let (mut machine, tables, _) = GroupMachine::open(options, &log).unwrap();
    let entries = submits(1, 0..100);
    common::append(&mut log, entries.clone()).await.unwrap();
    // Returns only when the overlay, many times its budget, has been taken over by a checkpoint.
    machine
        .apply(stream::iter(entries.into_iter().map(|e| Ok((e, None)))))
        .await
        .unwrap();
    // What a crash at this moment would leave.
    let image = tempfile::tempdir().unwrap();
    copy_tree(dir.path(), image.path());
    let replica = Replica::open_as(image.path(), &recovery::boot_id());
    assert_eq!(replica.recovered.rebuilt_because, None);
    assert!(replica.recovered.applied_index > 0);
    assert_eq!(tables.applied_index(), 99);
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
