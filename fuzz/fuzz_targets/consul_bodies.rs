//! See `lock_fuzz::consul_bodies`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lock_fuzz::consul_bodies(bytes));
