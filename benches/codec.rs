//! Log entries to bytes and back.

use std::hint::black_box;

use baton_benches::{entry, submit};
use baton_protocol::proto::internal::Batch;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use prost::Message;

fn batches(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch");
    for commands in [1_u64, 64] {
        let batch = entry((0..commands).map(submit));
        let bytes = batch.encode_to_vec();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("encode", commands), |b| {
            b.iter(|| black_box(&batch).encode_to_vec());
        });
        group.bench_function(BenchmarkId::new("decode", commands), |b| {
            b.iter(|| Batch::decode(black_box(bytes.as_slice())).is_ok());
        });
    }
    group.finish();
}

criterion_group!(benches, batches);
criterion_main!(benches);
