#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cupbearer_h1::fuzzing::response(data));
