//! Checkpoints of any quality.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vedette_fuzz::restoring::check(data));
