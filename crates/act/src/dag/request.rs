//! What a firewall is asked and told, as its XML interface takes it.
//!
//! In: entries to register or to unregister. Out: requests. Invariants: no request is longer than the interface takes, and as few are
//! made as fit; no tag is registered for ever, nor longer than the interface takes; the key stands in a header and nowhere else.
//! <https://docs.paloaltonetworks.com/pan-os/11-0/pan-os-panorama-api>

use std::sync::Arc;

use http::{HeaderValue, Request, header};
use quick_xml::escape::escape;
use vedette_event::Micros;

use crate::settings::Firewall;

/// Bytes of one request's body.
pub(super) const MAX_POST: usize = 5_000_000;
/// Entries of one page, the most that the interface gives.
pub(super) const PAGE: usize = 500;
/// The question what part a firewall has in its pair.
pub(super) const STATE: &str = "<show><high-availability><state></state></high-availability></show>";

/// Whole seconds that a tag stays: 1 to 2,592,000, since 0 would mean for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timeout(u32);

impl Timeout {
    /// The longest, thirty days.
    pub const MAX: Self = Self(2_592_000);

    /// From one time to another, no longer; nothing for less than a second and for more than the interface takes.
    pub fn between(now: Micros, until: Micros) -> Option<Self> {
        let seconds = u32::try_from(until.since(now).0.div_euclid(1_000_000)).ok()?;
        (1..=Self::MAX.0).contains(&seconds).then_some(Self(seconds))
    }

    /// In seconds.
    pub const fn seconds(self) -> u32 {
        self.0
    }
}

/// An address with a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// As the firewall writes it, where it lists it.
    pub ip: String,
    /// Which tag.
    pub tag: Arc<str>,
    /// For how long it is registered; nothing where it is unregistered.
    pub timeout: Option<Timeout>,
}

/// The question for a page of so many of all registered addresses, from the one of this number on, which is 1 for the first.
pub(super) fn page(most: usize, start: usize) -> String {
    format!(
        "<show><object><registered-ip><limit>{most}</limit><start-point>{start}</start-point></registered-ip></object></show>"
    )
}

/// Bodies that `register` or `unregister` entries.
pub(super) fn messages(what: &'static str, entries: &[Entry]) -> Vec<Vec<u8>> {
    let head = format!("<uid-message><version>1.0</version><type>update</type><payload><{what}>");
    let tail = encoded(&format!("</{what}></payload></uid-message>"));
    let mut messages: Vec<Vec<u8>> = Vec::new();
    for entry in entries {
        let ip = escape(entry.ip.as_str());
        let tag = escape(&*entry.tag);
        let entry = encoded(&match entry.timeout {
            Some(timeout) => format!(
                "<entry ip=\"{ip}\" persistent=\"0\"><tag><member timeout=\"{}\">{tag}</member></tag></entry>",
                timeout.seconds()
            ),
            None => format!("<entry ip=\"{ip}\"><tag><member>{tag}</member></tag></entry>"),
        });
        match messages.last_mut() {
            Some(body) if body.len() + entry.len() + tail.len() <= MAX_POST => body.extend(entry),
            _ => messages.push([command(&head), entry].concat()),
        }
    }
    messages.iter_mut().for_each(|body| body.extend_from_slice(&tail));
    messages
}

/// A body with a command.
pub(super) fn command(xml: &str) -> Vec<u8> {
    [b"cmd=".to_vec(), encoded(xml)].concat()
}

/// As a form has it.
fn encoded(xml: &str) -> Vec<u8> {
    form_urlencoded::byte_serialize(xml.as_bytes()).flat_map(|part| part.bytes()).collect()
}

/// The request of a type, `op` or `user-id`, with a body; of the firewall behind a Panorama if there is one, unless `itself` is meant.
pub(super) fn request(
    of: &Firewall,
    host: &str,
    (kind, itself): (&str, bool),
    body: Vec<u8>,
) -> Result<Request<Vec<u8>>, http::Error> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("type", kind);
    let more = [("vsys", &of.vsys), ("target", &of.target)];
    for (name, value) in more.into_iter().filter(|_| !itself) {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let url = format!("{}/api/?{}", host.trim_end_matches('/'), query.finish());
    let mut key = HeaderValue::from_str(of.key.show())?;
    key.set_sensitive(true);
    Request::post(url)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::CONTENT_LENGTH, body.len())
        .header("X-PAN-KEY", key)
        .body(body)
}
