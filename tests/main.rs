//! The one integration-test binary: scenarios over the whole engine, checked from outside.

mod api;
mod binary;
mod browser;
mod certificate;
mod conformance;
mod crash;
mod kafka;
mod limits;
mod oracle;
mod respond;
mod scenarios;
mod served;
mod skipped;
mod tidy;
