//! See `lock_tests::targets::advisory_rows`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lock_tests::targets::advisory_rows(bytes));
