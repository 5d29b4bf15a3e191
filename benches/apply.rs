//! The state machine alone: one log entry applied to tables in memory.

use std::hint::black_box;
use std::time::{Duration, Instant};

use baton_benches::{complete, entry, submit};
use baton_state_machine::testing::{Replica, refusal};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// One shard group, so that every intent is at home in it.
fn replica() -> Replica {
    Replica::new(1, 1)
}

fn submits(c: &mut Criterion) {
    let mut group = c.benchmark_group("apply_submit");
    for commands in [1_u64, 64] {
        group.throughput(Throughput::Elements(commands));
        group.bench_function(BenchmarkId::from_parameter(commands), |b| {
            let (mut replica, mut next) = (replica(), 0);
            b.iter_custom(|iterations| {
                let mut spent = Duration::ZERO;
                for _ in 0..iterations {
                    let batch = entry((next..next + commands).map(submit));
                    next += commands;
                    let started = Instant::now();
                    black_box(replica.apply(&batch));
                    spent += started.elapsed();
                }
                spent
            });
        });
    }
    group.finish();
}

fn completes(c: &mut Criterion) {
    let mut group = c.benchmark_group("apply_complete");
    for commands in [1_u64, 64] {
        group.throughput(Throughput::Elements(commands));
        group.bench_function(BenchmarkId::from_parameter(commands), |b| {
            let (mut replica, mut next) = (replica(), 0);
            b.iter_custom(|iterations| {
                let mut spent = Duration::ZERO;
                for _ in 0..iterations {
                    replica.apply(&entry((next..next + commands).map(submit)));
                    let batch = entry((next..next + commands).map(complete));
                    next += commands;
                    let started = Instant::now();
                    let applied = black_box(replica.apply(&batch));
                    spent += started.elapsed();
                    assert_eq!(refusal(&applied.replies[0]), None, "we measure completions");
                }
                spent
            });
        });
    }
    group.finish();
}

criterion_group!(benches, submits, completes);
criterion_main!(benches);
