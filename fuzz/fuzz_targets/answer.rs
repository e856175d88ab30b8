#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cupbearer::fuzzing::answer(data));
