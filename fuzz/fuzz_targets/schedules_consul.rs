//! See `lock_tests::targets::schedules_consul`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lock_tests::targets::schedules_consul(bytes));
