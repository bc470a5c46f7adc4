//! See `lock_tests::targets::schedules_advisory`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lock_tests::targets::schedules_advisory(bytes));
