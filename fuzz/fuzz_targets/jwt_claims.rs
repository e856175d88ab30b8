#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cupbearer::fuzzing::jwt_claims(data));
