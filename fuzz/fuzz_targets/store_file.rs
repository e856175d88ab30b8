#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cupbearer::fuzzing::store_file(data));
