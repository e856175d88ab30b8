//! How many renewals a core can drive, and what a token weighs. Run with `cargo bench --features benching --bench renewals`.

fn main() {
    cupbearer::benching::renewals();
}
