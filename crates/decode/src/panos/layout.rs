//! Which column of a PAN-OS log line holds which canonical field.
//!
//! In: a log type and a canonical name. Out: where the value comes from. Columns are counted from 0, the unnamed
//! first one included; newer firmware appends columns, older firmware lacks the last ones.

/// The supported log types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// Sessions.
    Traffic,
    /// Threats, files and URLs.
    Threat,
}

/// Where a field's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The cell as it is.
    Cell(usize),
    /// The first of two cells that is not empty.
    Either(usize, usize),
    /// The cell's whole seconds, in nanoseconds.
    Nanoseconds(usize),
    /// The number in `name(number)`.
    ThreatId(usize),
    /// The name in `name(number)`.
    ThreatName(usize),
    /// The cell, in logs about URLs and attacks.
    Url(usize),
    /// The cell, in logs about files.
    File(usize),
    /// Part of the URL in the cell.
    UrlPart(usize, Part),
    /// Whether the action in the cell stops the traffic.
    Blocked(usize),
    /// The cell, else the host that the syslog header names.
    Host(usize),
    /// The same in every record.
    Fixed(&'static str),
    /// The claimed time.
    Time,
}

/// A part of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Host, without port.
    Domain,
    /// Path.
    Path,
    /// Query, without the question mark.
    Query,
    /// Query, decoded once.
    QueryDecoded,
    /// What follows the last dot of the path.
    Extension,
}

/// Column of the receive time.
pub const RECEIVED: usize = 1;
/// Column of the log type.
pub const TYPE: usize = 3;
/// Column of the subtype.
pub const SUBTYPE: usize = 4;
/// Column of the generated time.
pub const GENERATED: usize = 6;

impl Log {
    /// The log type of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "TRAFFIC" => Some(Self::Traffic),
            "THREAT" => Some(Self::Threat),
            _ => None,
        }
    }

    /// Column of the high-resolution time.
    #[must_use]
    pub fn high_resolution(self) -> usize {
        match self {
            Self::Traffic => 102,
            Self::Threat => 107,
        }
    }

    /// Where a canonical field comes from, if this log type has it.
    #[must_use]
    pub fn field(self, name: &str) -> Option<From> {
        let own = match self {
            Self::Traffic => TRAFFIC,
            Self::Threat => THREAT,
        };
        COMMON.iter().chain(own).find(|(field, _)| *field == name).map(|(_, from)| *from)
    }

    /// All canonical fields of this log type.
    pub fn fields(self) -> impl Iterator<Item = &'static str> {
        let own = match self {
            Self::Traffic => TRAFFIC,
            Self::Threat => THREAT,
        };
        COMMON.iter().chain(own).map(|(field, _)| *field)
    }
}

const COMMON: &[(&str, From)] = &[
    ("@timestamp", From::Time),
    ("observer.vendor", From::Fixed("Palo Alto Networks")),
    ("observer.product", From::Fixed("PAN-OS")),
    ("observer.serial_number", From::Cell(2)),
    ("panw.type", From::Cell(TYPE)),
    ("panw.subtype", From::Cell(SUBTYPE)),
    ("source.ip", From::Cell(7)),
    ("destination.ip", From::Cell(8)),
    ("source.nat.ip", From::Cell(9)),
    ("destination.nat.ip", From::Cell(10)),
    ("rule.name", From::Cell(11)),
    ("source.user.name", From::Cell(12)),
    ("destination.user.name", From::Cell(13)),
    ("network.application", From::Cell(14)),
    ("panw.vsys", From::Cell(15)),
    ("observer.ingress.zone", From::Cell(16)),
    ("observer.egress.zone", From::Cell(17)),
    ("observer.ingress.interface.name", From::Cell(18)),
    ("observer.egress.interface.name", From::Cell(19)),
    ("panw.log_action", From::Cell(20)),
    ("panw.session_id", From::Cell(22)),
    ("panw.repeat_count", From::Cell(23)),
    ("source.port", From::Cell(24)),
    ("destination.port", From::Cell(25)),
    ("source.nat.port", From::Cell(26)),
    ("destination.nat.port", From::Cell(27)),
    ("panw.flags", From::Cell(28)),
    ("network.transport", From::Cell(29)),
    ("event.action", From::Cell(30)),
    ("panw.blocked", From::Blocked(30)),
];

const TRAFFIC: &[(&str, From)] = &[
    ("network.bytes", From::Cell(31)),
    ("source.bytes", From::Cell(32)),
    ("destination.bytes", From::Cell(33)),
    ("network.packets", From::Cell(34)),
    ("event.start", From::Cell(35)),
    ("event.duration", From::Nanoseconds(36)),
    ("panw.category", From::Cell(37)),
    ("panw.sequence_number", From::Cell(39)),
    ("panw.action_flags", From::Cell(40)),
    ("source.geo.country_iso_code", From::Cell(41)),
    ("destination.geo.country_iso_code", From::Cell(42)),
    ("source.packets", From::Cell(44)),
    ("destination.packets", From::Cell(45)),
    ("panw.end_reason", From::Cell(46)),
    ("panw.device_group.1", From::Cell(47)),
    ("panw.device_group.2", From::Cell(48)),
    ("panw.device_group.3", From::Cell(49)),
    ("panw.device_group.4", From::Cell(50)),
    ("panw.vsys_name", From::Cell(51)),
    ("observer.name", From::Host(52)),
    ("panw.action_source", From::Cell(53)),
    ("panw.tunnel_id", From::Cell(56)),
    ("panw.parent_session_id", From::Cell(58)),
    ("panw.tunnel_type", From::Cell(60)),
    ("rule.uuid", From::Cell(65)),
    ("panw.dynamic_user_group", From::Cell(74)),
    ("panw.xff", From::Cell(75)),
    ("source.mac", From::Cell(83)),
    ("panw.application_risk", From::Cell(108)),
];

const THREAT: &[(&str, From)] = &[
    ("url.original", From::Url(31)),
    ("url.domain", From::UrlPart(31, Part::Domain)),
    ("url.path", From::UrlPart(31, Part::Path)),
    ("url.query", From::UrlPart(31, Part::Query)),
    ("url.query_decoded", From::UrlPart(31, Part::QueryDecoded)),
    ("url.extension", From::UrlPart(31, Part::Extension)),
    ("file.name", From::File(31)),
    ("panw.threat_id", From::ThreatId(32)),
    ("panw.threat_name", From::ThreatName(32)),
    ("panw.category", From::Cell(33)),
    ("panw.severity", From::Cell(34)),
    ("panw.direction", From::Cell(35)),
    ("panw.sequence_number", From::Cell(36)),
    ("panw.action_flags", From::Cell(37)),
    ("source.geo.country_iso_code", From::Cell(38)),
    ("destination.geo.country_iso_code", From::Cell(39)),
    ("panw.content_type", From::Cell(41)),
    ("panw.pcap_id", From::Cell(42)),
    ("file.hash.sha256", From::Cell(43)),
    ("panw.url_index", From::Cell(45)),
    ("user_agent.original", From::Cell(46)),
    ("file.type", From::Cell(47)),
    ("panw.xff", From::Either(48, 79)),
    ("http.request.referrer", From::Cell(49)),
    ("panw.mail.sender", From::Cell(50)),
    ("panw.mail.subject", From::Cell(51)),
    ("panw.mail.recipient", From::Cell(52)),
    ("panw.report_id", From::Cell(53)),
    ("panw.device_group.1", From::Cell(54)),
    ("panw.device_group.2", From::Cell(55)),
    ("panw.device_group.3", From::Cell(56)),
    ("panw.device_group.4", From::Cell(57)),
    ("panw.vsys_name", From::Cell(58)),
    ("observer.name", From::Host(59)),
    ("http.request.method", From::Cell(63)),
    ("panw.tunnel_id", From::Cell(64)),
    ("panw.parent_session_id", From::Cell(66)),
    ("panw.tunnel_type", From::Cell(68)),
    ("panw.threat_category", From::Cell(69)),
    ("panw.content_version", From::Cell(70)),
    ("panw.http_headers", From::Cell(74)),
    ("panw.url_categories", From::Cell(75)),
    ("rule.uuid", From::Cell(76)),
    ("panw.dynamic_user_group", From::Cell(78)),
    ("source.mac", From::Cell(87)),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_field_has_one_place_in_a_log_type() {
        for log in [Log::Traffic, Log::Threat] {
            let mut names: Vec<_> = log.fields().collect();
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all, "{log:?}");
        }
    }

    #[test]
    fn every_field_is_in_the_canonical_list() {
        let fields = crate::tests::fields();
        for name in Log::Traffic.fields().chain(Log::Threat.fields()) {
            assert!(fields.kind(name).is_some(), "{name}");
        }
    }
}
