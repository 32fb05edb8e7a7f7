//! PAN-OS lines of any quality.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vedette_fuzz::decoding::check("paloalto", data));
