//! See `lock_tests::targets::names`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lock_tests::targets::names(bytes));
