//! Rule files of any quality: loaded, compiled and run over a few events.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| vedette_fuzz::detection::check_rules(text));
