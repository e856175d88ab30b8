//! What a request pays for the proxy, in nanoseconds: attaching the token, finding the route; and what a renewal pays
//! for being planned. Run with `cargo bench --features benching --bench paths`.

use criterion::{Criterion, criterion_group, criterion_main};

fn all(c: &mut Criterion) {
    for (name, mut step) in cupbearer::benching::steps() {
        c.bench_function(name, |b| b.iter(&mut step));
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
