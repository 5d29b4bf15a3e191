//! The tables agree with the reference implementation, through every checkpoint and reopening.

use super::disk::{DiskTables, VALUE_BYTES_MAX};
use super::group::{GroupTables, GroupTablesParts, Identity};
use super::memory::TableMemory;
use crate::log::{LogEngine, LogOptions};
use crate::recovery::StateFile;
use crate::snapshot::SnapshotStore;
use crate::types::log_id;
use baton_protocol::GroupId;
use baton_protocol::proto::internal as pb;
use baton_state_machine::testing::{Store, tables_suite};
use baton_state_machine::{Change, Changes, MemoryTables, Tables};
use bytes::Bytes;
use proptest::prelude::*;
use std::ops::ControlFlow;
use std::path::Path;
use tempfile::TempDir;

fn open(dir: &Path, engine: &LogEngine) -> GroupTables {
    let state_file = StateFile::new(dir);
    let disk = DiskTables::open(&state_file.tables_dir(1), 1 << 20).unwrap();
    let (position, dirty) = disk.mark().unwrap();
    assert!(!dirty);
    GroupTables::new(GroupTablesParts {
        disk,
        position,
        state: pb::TablesState {
            generation: 1,
            ..pb::TablesState::default()
        },
        snapshots: SnapshotStore::open(&dir.join("snapshots")).unwrap(),
        log: engine.group(GroupId(1), 1).unwrap(),
        identity: Identity {
            group: 1,
            shard_groups: 1,
            feature_level: 1,
        },
        state_file,
        memory: TableMemory::new(4 << 20, 1),
    })
}

struct Tested {
    tables: GroupTables,
    dir: TempDir,
    engine: LogEngine,
    commits: u64,
    /// Checkpoint after every so many commits; 0 = never.
    every: u64,
}

impl Tested {
    fn new(every: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = LogEngine::open(&dir.path().join("log"), LogOptions::default()).unwrap();
        Self {
            tables: open(dir.path(), &engine),
            dir,
            engine,
            commits: 0,
            every,
        }
    }
}

impl Store for Tested {
    fn read(&self, read: &mut dyn FnMut(&dyn Tables)) {
        self.tables.with_view(|tables| read(tables));
    }

    fn commit(&mut self, changes: Changes) {
        self.commits += 1;
        self.tables.commit(changes, log_id(1, self.commits), None);
        if self.every > 0 && self.commits.is_multiple_of(self.every) {
            self.tables.checkpoint().unwrap();
        }
    }
}

#[test]
fn the_suite_passes_in_memory_only() {
    tables_suite(|| Tested::new(0));
}

#[test]
fn the_suite_passes_with_every_row_on_disk() {
    tables_suite(|| Tested::new(1));
}

#[test]
fn the_suite_passes_with_rows_in_both() {
    tables_suite(|| Tested::new(3));
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, usize),
    Delete(u8),
    /// What a checkpoint does before it has written anything.
    Freeze,
    Checkpoint,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = prop_oneof![
        0..64usize,
        VALUE_BYTES_MAX - 1..VALUE_BYTES_MAX + 2,
        9_000..10_000usize
    ];
    let step = prop_oneof![
        6 => (0..12u8, size).prop_map(|(key, size)| Step::Put(key, size)),
        3 => (0..12u8).prop_map(Step::Delete),
        1 => Just(Step::Freeze),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..40)
}

fn rows(tables: &dyn Tables) -> Vec<(Vec<u8>, Bytes)> {
    let mut rows = Vec::new();
    let visit = &mut |key: &[u8], value: &Bytes| {
        rows.push((key.to_vec(), value.clone()));
        ControlFlow::Continue(())
    };
    tables.scan(&[], &[0xff; 4], visit).unwrap();
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_history_agrees_with_memory(steps in steps()) {
        let mut model = MemoryTables::default();
        let mut tested = Tested::new(0);
        for (n, step) in steps.into_iter().enumerate() {
            let change = |key: u8, value: Option<Bytes>| {
                let existed = model.get(&[key]).unwrap().is_some();
                Changes::from([(vec![key], Change { value, existed })])
            };
            let changes = match step {
                Step::Put(key, size) => change(key, Some(vec![n as u8; size].into())),
                Step::Delete(key) => change(key, None),
                Step::Freeze => {
                    tested.tables.levels.write().unwrap().freeze().unwrap();
                    continue;
                }
                Step::Checkpoint => {
                    tested.tables.checkpoint().unwrap();
                    continue;
                }
                Step::Reopen => {
                    tested.tables.close_clean().unwrap();
                    tested.tables = open(tested.dir.path(), &tested.engine);
                    continue;
                }
            };
            model.commit(changes.clone());
            tested.commit(changes);
            for key in 0..12 {
                prop_assert_eq!(
                    tested.tables.with_view(|t| t.get(&[key]).unwrap()),
                    model.get(&[key]).unwrap()
                );
            }
        }
        prop_assert_eq!(tested.tables.with_view(rows), rows(&model));
    }
}
