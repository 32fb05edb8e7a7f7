//! Which column of a PAN-OS log line holds which canonical field.
//!
//! In: a log type and a canonical name. Out: where the value comes from. Columns are counted from 0, the unnamed
//! first one included; newer firmware appends columns, older firmware lacks the last ones.

/// The supported log types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogType {
    /// Sessions.
    Traffic,
    /// Threats, files and URLs.
    Threat,
}

/// Where a field's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldSource {
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
    UrlPart(usize, UrlPiece),
    /// Whether the action in the cell stops the traffic.
    Blocked(usize),
    /// The cell, else the host that the syslog header names.
    Host(usize),
    /// The same in every record.
    Fixed(&'static str),
    /// The claimed time.
    Time,
}

impl FieldSource {
    /// True unless the value is made of a cell that another field holds as a whole, or of none.
    #[must_use]
    pub fn takes(self) -> bool {
        !matches!(self, Self::UrlPart(..) | Self::Blocked(_) | Self::Fixed(_) | Self::Time)
    }
}

/// A part of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlPiece {
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

impl LogType {
    /// All log types.
    pub const ALL: [Self; 2] = [Self::Traffic, Self::Threat];

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
    pub fn field(self, name: &str) -> Option<FieldSource> {
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

const COMMON: &[(&str, FieldSource)] = &[
    ("@timestamp", FieldSource::Time),
    ("observer.vendor", FieldSource::Fixed("Palo Alto Networks")),
    ("observer.product", FieldSource::Fixed("PAN-OS")),
    ("observer.serial_number", FieldSource::Cell(2)),
    ("panw.type", FieldSource::Cell(TYPE)),
    ("panw.subtype", FieldSource::Cell(SUBTYPE)),
    ("source.ip", FieldSource::Cell(7)),
    ("destination.ip", FieldSource::Cell(8)),
    ("source.nat.ip", FieldSource::Cell(9)),
    ("destination.nat.ip", FieldSource::Cell(10)),
    ("rule.name", FieldSource::Cell(11)),
    ("source.user.name", FieldSource::Cell(12)),
    ("destination.user.name", FieldSource::Cell(13)),
    ("network.application", FieldSource::Cell(14)),
    ("panw.vsys", FieldSource::Cell(15)),
    ("observer.ingress.zone", FieldSource::Cell(16)),
    ("observer.egress.zone", FieldSource::Cell(17)),
    ("observer.ingress.interface.name", FieldSource::Cell(18)),
    ("observer.egress.interface.name", FieldSource::Cell(19)),
    ("panw.log_action", FieldSource::Cell(20)),
    ("panw.session_id", FieldSource::Cell(22)),
    ("panw.repeat_count", FieldSource::Cell(23)),
    ("source.port", FieldSource::Cell(24)),
    ("destination.port", FieldSource::Cell(25)),
    ("source.nat.port", FieldSource::Cell(26)),
    ("destination.nat.port", FieldSource::Cell(27)),
    ("panw.flags", FieldSource::Cell(28)),
    ("network.transport", FieldSource::Cell(29)),
    ("event.action", FieldSource::Cell(30)),
    ("panw.blocked", FieldSource::Blocked(30)),
];

const TRAFFIC: &[(&str, FieldSource)] = &[
    ("network.bytes", FieldSource::Cell(31)),
    ("source.bytes", FieldSource::Cell(32)),
    ("destination.bytes", FieldSource::Cell(33)),
    ("network.packets", FieldSource::Cell(34)),
    ("event.start", FieldSource::Cell(35)),
    ("event.duration", FieldSource::Nanoseconds(36)),
    ("panw.category", FieldSource::Cell(37)),
    ("panw.sequence_number", FieldSource::Cell(39)),
    ("panw.action_flags", FieldSource::Cell(40)),
    ("source.geo.country_iso_code", FieldSource::Cell(41)),
    ("destination.geo.country_iso_code", FieldSource::Cell(42)),
    ("source.packets", FieldSource::Cell(44)),
    ("destination.packets", FieldSource::Cell(45)),
    ("panw.end_reason", FieldSource::Cell(46)),
    ("panw.device_group.1", FieldSource::Cell(47)),
    ("panw.device_group.2", FieldSource::Cell(48)),
    ("panw.device_group.3", FieldSource::Cell(49)),
    ("panw.device_group.4", FieldSource::Cell(50)),
    ("panw.vsys_name", FieldSource::Cell(51)),
    ("observer.name", FieldSource::Host(52)),
    ("panw.action_source", FieldSource::Cell(53)),
    ("panw.tunnel_id", FieldSource::Cell(56)),
    ("panw.parent_session_id", FieldSource::Cell(58)),
    ("panw.tunnel_type", FieldSource::Cell(60)),
    ("rule.uuid", FieldSource::Cell(65)),
    ("panw.dynamic_user_group", FieldSource::Cell(74)),
    ("panw.xff", FieldSource::Cell(75)),
    ("source.mac", FieldSource::Cell(83)),
    ("panw.application_risk", FieldSource::Cell(108)),
];

const THREAT: &[(&str, FieldSource)] = &[
    ("url.original", FieldSource::Url(31)),
    ("url.domain", FieldSource::UrlPart(31, UrlPiece::Domain)),
    ("url.path", FieldSource::UrlPart(31, UrlPiece::Path)),
    ("url.query", FieldSource::UrlPart(31, UrlPiece::Query)),
    ("url.query_decoded", FieldSource::UrlPart(31, UrlPiece::QueryDecoded)),
    ("url.extension", FieldSource::UrlPart(31, UrlPiece::Extension)),
    ("file.name", FieldSource::File(31)),
    ("panw.threat_id", FieldSource::ThreatId(32)),
    ("panw.threat_name", FieldSource::ThreatName(32)),
    ("panw.category", FieldSource::Cell(33)),
    ("panw.severity", FieldSource::Cell(34)),
    ("panw.direction", FieldSource::Cell(35)),
    ("panw.sequence_number", FieldSource::Cell(36)),
    ("panw.action_flags", FieldSource::Cell(37)),
    ("source.geo.country_iso_code", FieldSource::Cell(38)),
    ("destination.geo.country_iso_code", FieldSource::Cell(39)),
    ("panw.content_type", FieldSource::Cell(41)),
    ("panw.pcap_id", FieldSource::Cell(42)),
    ("file.hash.sha256", FieldSource::Cell(43)),
    ("panw.url_index", FieldSource::Cell(45)),
    ("user_agent.original", FieldSource::Cell(46)),
    ("file.type", FieldSource::Cell(47)),
    ("panw.xff", FieldSource::Either(48, 79)),
    ("http.request.referrer", FieldSource::Cell(49)),
    ("panw.mail.sender", FieldSource::Cell(50)),
    ("panw.mail.subject", FieldSource::Cell(51)),
    ("panw.mail.recipient", FieldSource::Cell(52)),
    ("panw.report_id", FieldSource::Cell(53)),
    ("panw.device_group.1", FieldSource::Cell(54)),
    ("panw.device_group.2", FieldSource::Cell(55)),
    ("panw.device_group.3", FieldSource::Cell(56)),
    ("panw.device_group.4", FieldSource::Cell(57)),
    ("panw.vsys_name", FieldSource::Cell(58)),
    ("observer.name", FieldSource::Host(59)),
    ("http.request.method", FieldSource::Cell(63)),
    ("panw.tunnel_id", FieldSource::Cell(64)),
    ("panw.parent_session_id", FieldSource::Cell(66)),
    ("panw.tunnel_type", FieldSource::Cell(68)),
    ("panw.threat_category", FieldSource::Cell(69)),
    ("panw.content_version", FieldSource::Cell(70)),
    ("panw.http_headers", FieldSource::Cell(74)),
    ("panw.url_categories", FieldSource::Cell(75)),
    ("rule.uuid", FieldSource::Cell(76)),
    ("panw.dynamic_user_group", FieldSource::Cell(78)),
    ("source.mac", FieldSource::Cell(87)),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_field_has_one_place_in_a_log_type() {
        for log in [LogType::Traffic, LogType::Threat] {
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
        for name in LogType::Traffic.fields().chain(LogType::Threat.fields()) {
            assert!(fields.kind(name).is_some(), "{name}");
        }
    }
}
