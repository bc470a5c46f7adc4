//! See `lock_fuzz::sql_rows`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lock_fuzz::sql_rows(bytes));
