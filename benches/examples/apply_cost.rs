//! What applying one cycle of work costs, without the noise of a clock: allocations here, instructions under
//! `valgrind --tool=callgrind --toggle-collect='*::measured*' target/release/examples/apply_cost submit`.
//!
//! Prints allocations and allocated bytes per command of `submit`, `finish` or, without an argument, of both.

use baton_benches::{finish, numbered, work};
use baton_protocol::proto::internal::{Batch, command};
use baton_state_machine::testing::{Replica, refusal};
use baton_state_machine::{Applied, Effect, WriteBatch};
use bytes::Bytes;
use prost::Message as _;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

/// Entries that are measured, after as many that are not.
const ENTRIES: u64 = 100;
/// Commands of one entry.
const COMMANDS: u64 = 16;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static ALLOCATED_BYTES: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is handed to the system's allocator.
#[expect(unsafe_code, reason = "an allocator cannot be counted otherwise")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        ALLOCATED_BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// From the bytes of the log entry to rows that others see.
#[inline(never)]
fn measured(replica: &mut Replica, entry: &Bytes) -> Applied {
    decoded(replica, entry)
}

fn decoded(replica: &mut Replica, entry: &Bytes) -> Applied {
    let batch = Batch::decode(entry.clone()).expect("an entry that was encoded here");
    let mut rows = WriteBatch::new(&replica.tables);
    let applied = baton_state_machine::apply(&mut rows, batch, &replica.ctx).expect("apply is total");
    let changes = rows.finish().expect("memory does not fail");
    replica.tables.commit(changes);
    applied
}

/// Applies one entry and counts, when it is of the kind that was asked for.
fn apply(replica: &mut Replica, entry: &Batch, counted: bool, sums: &mut [u64; 2]) -> Applied {
    let entry = Bytes::from(entry.encode_to_vec());
    let before = [&ALLOCATIONS, &ALLOCATED_BYTES].map(|c| c.load(Ordering::Relaxed));
    let applied = match counted {
        true => measured(replica, &entry),
        false => decoded(replica, &entry),
    };
    if counted {
        for (n, counter) in [&ALLOCATIONS, &ALLOCATED_BYTES].into_iter().enumerate() {
            sums[n] += counter.load(Ordering::Relaxed) - before[n];
        }
    }
    assert!(applied.replies.iter().all(|reply| refusal(reply).is_none()));
    applied
}

/// Applies cycles; returns allocations and allocated bytes per command of this kind.
fn run(kind: &str) -> [f64; 2] {
    let mut replica = Replica::new(1, 1);
    let mut sums = [0; 2];
    for n in 0..ENTRIES * 2 {
        let counted = n >= ENTRIES;
        let first = n * COMMANDS;
        let submits = (first..first + COMMANDS).map(work);
        let entry = numbered(n, first, submits);
        let applied = apply(&mut replica, &entry, counted && kind == "submit", &mut sums);
        let finishes: Vec<command::Body> = applied
            .effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Deliver {
                    cursor, intent_id, ..
                } => Some((*cursor, *intent_id)),
                Effect::Withdraw { .. }
                | Effect::PickedUp { .. }
                | Effect::Limit { .. }
                | Effect::Send { .. }
                | Effect::Timer { .. }
                | Effect::Replay { .. }
                | Effect::Endpoint { .. }
                | Effect::Notice
                | Effect::Meta { .. } => None,
            })
            .zip(first..)
            .map(|((cursor, _), n)| finish(n, cursor))
            .collect();
        let entry = numbered(n, first, finishes);
        apply(&mut replica, &entry, counted && kind == "finish", &mut sums);
    }
    let commands = (ENTRIES * COMMANDS) as f64;
    sums.map(|sum| sum as f64 / commands)
}

#[expect(clippy::print_stdout, reason = "what it counted is its answer")]
fn main() {
    let asked = std::env::args().nth(1);
    for kind in ["submit", "finish"] {
        if asked.as_deref().is_none_or(|asked| asked == kind) {
            let [allocations, bytes] = run(kind);
            println!("{kind}: {allocations:.1} allocations, {bytes:.0} bytes allocated per command");
        }
    }
}
