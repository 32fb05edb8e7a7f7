//! Damaged skip indexes beside a file of the lake: whatever they say, no event is missing from an answer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vedette_fuzz::skipping::check(data));
