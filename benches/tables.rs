//! The tables of one group on disk: applying an entry, a checkpoint, a read, with more and more rows in them.

use std::time::{Duration, Instant};

use baton_benches::sizes;
use baton_benches::storage::Replica;
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};

/// Rows in the tables.
const ROWS: [u64; 3] = [10_000, 100_000, 1_000_000];
/// Submits of the entry that is applied.
const COMMANDS: u64 = 64;
/// Entries between two checkpoints.
const CHECKPOINT_ENTRIES: u64 = 16;

fn filled(rows: u64) -> (Replica, u64) {
    let mut replica = Replica::open().expect("a replica in a temporary directory");
    let intents = replica.fill(rows).expect("filling");
    (replica, intents)
}

/// Entries applied to the memtable, in the time of the commit alone.
fn commits(c: &mut Criterion) {
    let mut group = c.benchmark_group("tables_commit");
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    group.throughput(Throughput::Elements(COMMANDS));
    for &rows in sizes(&ROWS) {
        let (mut replica, _) = filled(rows);
        group.bench_function(BenchmarkId::from_parameter(rows), |b| {
            b.iter_custom(|iterations| {
                let mut spent = Duration::ZERO;
                for _ in 0..iterations {
                    let entries = replica.entries(1, COMMANDS);
                    replica.append(entries.clone()).expect("append");
                    let started = Instant::now();
                    replica.apply(entries).expect("apply");
                    spent += started.elapsed();
                }
                spent
            });
        });
    }
    group.finish();
}

/// What was applied since the last checkpoint goes to the disk tables.
fn checkpoints(c: &mut Criterion) {
    let mut group = c.benchmark_group("tables_checkpoint");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.throughput(Throughput::Elements(CHECKPOINT_ENTRIES * COMMANDS));
    for &rows in sizes(&ROWS) {
        let (mut replica, _) = filled(rows);
        group.bench_function(BenchmarkId::from_parameter(rows), |b| {
            b.iter_custom(|iterations| {
                let mut spent = Duration::ZERO;
                for _ in 0..iterations {
                    let entries = replica.entries(CHECKPOINT_ENTRIES, COMMANDS);
                    replica.append(entries.clone()).expect("append");
                    replica.apply(entries).expect("apply");
                    let started = Instant::now();
                    replica.checkpoint().expect("checkpoint");
                    spent += started.elapsed();
                }
                spent
            });
        });
    }
    group.finish();
}

/// Intents read in an order that no cache likes.
fn reads(c: &mut Criterion) {
    let mut group = c.benchmark_group("tables_read_intent");
    for &rows in sizes(&ROWS) {
        let (replica, intents) = filled(rows);
        let mut next = 0;
        group.bench_function(BenchmarkId::from_parameter(rows), |b| {
            b.iter(|| {
                // A step without a common divisor with most counts visits them all.
                next = (next + 7_919) % intents;
                replica.read(next).expect("a stored intent");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, commits, checkpoints, reads);
criterion_main!(benches);
