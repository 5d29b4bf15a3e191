//! From the text of an address to its slot, as every request does it.

use std::hint::black_box;

use baton_protocol::address::{Address, Scope, slot_of};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn addresses(c: &mut Criterion) {
    let scope = Scope {
        org_id: "o1".to_owned(),
        org_slug: "acme".to_owned(),
        workspace_id: "w1".to_owned(),
        workspace_slug: "prod".to_owned(),
    };
    let mut group = c.benchmark_group("address_to_slot");
    for (form, text) in [
        ("bare", "payment-service-demo"),
        ("canonical", "agent://acme/prod/payment-service-demo"),
        ("legacy", "agent://conformance/receiver"),
    ] {
        group.bench_function(BenchmarkId::from_parameter(form), |b| {
            b.iter(|| Address::parse(black_box(text)).map(|address| slot_of(&address.resolve(&scope))));
        });
    }
    group.finish();
}

criterion_group!(benches, addresses);
criterion_main!(benches);
