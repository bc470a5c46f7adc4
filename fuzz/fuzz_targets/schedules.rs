//! See `lock_fuzz::schedules`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lock_fuzz::schedules(bytes));
