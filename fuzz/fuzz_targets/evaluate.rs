//! Events of any quality against fixed rules: the compiled program and the reference must agree. The first byte chooses
//! the source.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some((source, lines)) = data.split_first() {
        vedette_fuzz::detection::check_events(*source, lines);
    }
});
