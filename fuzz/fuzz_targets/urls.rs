//! See `lock_fuzz::urls`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lock_fuzz::urls(bytes));
