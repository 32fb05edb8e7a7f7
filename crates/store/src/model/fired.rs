//! What fired, in a few words.

use vedette_event::Micros;

use super::Disposition;

/// An alert that fired, as far as it is to be held against what rules say now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FiredAlert {
    /// The alert.
    pub alert_id: String,
    /// Its rule's id.
    pub rule_id: String,
    /// Its rule's title.
    pub rule_title: String,
    /// Its key as JSON text.
    pub key: String,
    /// Its first event.
    pub first_seen: Micros,
    /// Its crossing event.
    pub crossed_at: Micros,
    /// Its last event.
    pub last_seen: Micros,
    /// Whether somebody closed it.
    pub closed: bool,
    /// As what.
    pub disposition: Option<Disposition>,
}
