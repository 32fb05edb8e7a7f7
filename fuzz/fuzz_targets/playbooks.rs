//! Playbook files of any quality: read, checked against the project's own rules, tried on a few alerts and exported.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| vedette_fuzz::playbooks::check(text));
