//! SQL of any quality: understood and answered over a few events, or refused in one line.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| vedette_fuzz::hunting::check(text));
