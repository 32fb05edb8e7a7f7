//! Answers of any quality to what a firewall is asked about its dynamic address groups.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vedette_fuzz::answers::check(bytes));
