//! See `lock_fuzz::schedules_advisory`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lock_fuzz::schedules_advisory(bytes));
