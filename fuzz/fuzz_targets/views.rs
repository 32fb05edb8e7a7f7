//! Texts of any kind, in the raw text and elsewhere, as the cells of a batch.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vedette_fuzz::views::check(data));
