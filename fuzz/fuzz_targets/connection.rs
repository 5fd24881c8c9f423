#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| polecat_fuzz::connection::check(data));
