//! The log on a real disk: one append of several entries, until its sync has returned.

use std::time::{Duration, Instant};

use baton_benches::storage::Replica;
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};

/// Entries of one append.
const BATCHES: [u64; 4] = [1, 16, 64, 256];

fn appends(c: &mut Criterion) {
    let mut group = c.benchmark_group("log_append_synced");
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    for batch in BATCHES {
        let mut replica = Replica::open().expect("a replica in a temporary directory");
        group.throughput(Throughput::Elements(batch));
        group.bench_function(BenchmarkId::from_parameter(batch), |b| {
            b.iter_custom(|iterations| {
                let mut spent = Duration::ZERO;
                for _ in 0..iterations {
                    let entries = replica.entries(batch, 1);
                    let started = Instant::now();
                    replica.append(entries).expect("append");
                    spent += started.elapsed();
                }
                spent
            });
        });
    }
    group.finish();
}

criterion_group!(benches, appends);
criterion_main!(benches);
