//! See `lock_fuzz::consul_answers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lock_fuzz::consul_answers(bytes));
