//! See `lock_tests::targets::consul_bodies`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lock_tests::targets::consul_bodies(bytes));
