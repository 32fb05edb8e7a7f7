//! JSON lines of any quality; the first byte chooses the source.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some((form, lines)) = data.split_first() {
        let name = ["json", "exchange_api", "aws_waf"][usize::from(form % 3)];
        vedette_fuzz::decoding::check(name, lines);
    }
});
