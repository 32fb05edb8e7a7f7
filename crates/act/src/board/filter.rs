//! What a bouncer asks for.
//!
//! In: a query string of anybody. Out: [`Filter`] or [`Lookup`], or what is wrong. Invariants: what a bouncer sends beyond what is known
//! here is passed over, as bouncers come in many versions; an empty parameter is none; the work for a query is bounded.

use ipnet::IpNet;
use vedette_respond::{Target, network};

use super::{
    decisions::{kind, scope},
    shown::{Entry, Gone},
};

/// Words of one list in a query.
const MAX_WORDS: usize = 64;
/// What every decision of ours comes from.
const ORIGIN: &str = "vedette";

/// What is wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadQuery(pub &'static str);

/// Of the stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    scopes: Option<Vec<String>>,
    origins: Option<Vec<String>>,
    containing: Option<Vec<String>>,
    not_containing: Option<Vec<String>>,
}

/// A decision, in force or not, as far as filters look at it.
pub(super) struct Seen<'a> {
    target: &'a Target,
    playbook: &'a str,
}

impl<'a> From<&'a Entry> for Seen<'a> {
    fn from(entry: &'a Entry) -> Self {
        Self { target: &entry.target, playbook: &entry.playbook }
    }
}

impl<'a> From<&'a Gone> for Seen<'a> {
    fn from(gone: &'a Gone) -> Self {
        Self { target: &gone.target, playbook: &gone.playbook }
    }
}

/// The words of a list, in small letters.
fn words(value: &str) -> Result<Option<Vec<String>>, BadQuery> {
    let words = value.split(',').map(str::trim).filter(|word| !word.is_empty());
    let words: Vec<String> = words.map(str::to_lowercase).take(MAX_WORDS + 1).collect();
    match words.len() {
        0 => Ok(None),
        1..=MAX_WORDS => Ok(Some(words)),
        _ => Err(BadQuery("a list has more than 64 words")),
    }
}

impl Filter {
    /// The filter of a query, and whether the bouncer starts.
    ///
    /// # Errors
    /// If a list is too long.
    pub fn parse<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Result<(bool, Self), BadQuery>
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let (mut startup, mut filter) = (false, Self::default());
        for (name, value) in pairs {
            let value = value.as_ref();
            match name.as_ref() {
                "startup" => startup = value == "true",
                "scopes" => filter.scopes = words(value)?,
                "origins" => filter.origins = words(value)?,
                "scenarios_containing" => filter.containing = words(value)?,
                "scenarios_not_containing" => filter.not_containing = words(value)?,
                _ => {}
            }
        }
        // What takes everything is no filter.
        let has = |words: &Option<Vec<String>>, word: &str| {
            words.as_ref().is_some_and(|words| words.iter().any(|own| own == word))
        };
        if has(&filter.scopes, "ip") && has(&filter.scopes, "range") {
            filter.scopes = None;
        }
        if has(&filter.origins, ORIGIN) {
            filter.origins = None;
        }
        Ok((startup, filter))
    }

    /// Whether nothing is left out.
    pub(super) fn takes_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a decision is asked for.
    pub(super) fn takes(&self, seen: Seen<'_>) -> bool {
        if self.takes_all() {
            return true;
        }
        let in_scope =
            |scopes: &Vec<String>| scopes.iter().any(|own| own.eq_ignore_ascii_case(scope(seen.target)));
        let playbook = seen.playbook.to_lowercase();
        let named = |words: &Vec<String>| words.iter().any(|word| playbook.contains(word));
        // Ours is the only origin, and a list that names it is no filter.
        self.origins.is_none()
            && self.scopes.as_ref().is_none_or(in_scope)
            && self.containing.as_ref().is_none_or(named)
            && !self.not_containing.as_ref().is_some_and(named)
    }
}

/// Of decisions on one target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lookup {
    net: Option<IpNet>,
    /// What lies within it is asked for, not what it lies within.
    inner: bool,
    scope: Option<String>,
    value: Option<String>,
    kind: Option<String>,
    origins: Option<Vec<String>>,
}

impl Lookup {
    /// The lookup of a query.
    ///
    /// # Errors
    /// If it names no address where it should.
    pub fn parse<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Result<Self, BadQuery>
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let mut lookup = Self::default();
        let some = |value: &str| (!value.is_empty()).then(|| value.to_owned());
        for (name, value) in pairs {
            let value = value.as_ref();
            match name.as_ref() {
                "ip" | "range" if !value.is_empty() => {
                    lookup.net = Some(network(value).ok_or(BadQuery("invalid ip address or range"))?);
                }
                "contains" => {
                    lookup.inner = match value {
                        "false" | "False" | "FALSE" | "f" | "F" | "0" => true,
                        "true" | "True" | "TRUE" | "t" | "T" | "1" | "" => false,
                        _ => return Err(BadQuery("invalid contains value")),
                    };
                }
                "scope" | "scopes" => lookup.scope = some(value),
                "value" => lookup.value = some(value),
                "type" => lookup.kind = some(value),
                "origins" => lookup.origins = words(value)?,
                _ => {}
            }
        }
        if lookup.origins.as_ref().is_some_and(|all| all.iter().any(|own| own == ORIGIN)) {
            lookup.origins = None;
        }
        // A value is compared as a network, however it is spelled, and found without a look at all the others.
        if let Some(net) = lookup.value.as_deref().and_then(network) {
            if lookup.net.is_none() {
                (lookup.net, lookup.inner) = (Some(net), false);
            }
            lookup.value = Some(Target::Network(net).to_string());
        }
        Ok(lookup)
    }

    /// Whether everything is asked for.
    pub(super) fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it is answered in microseconds: by what contains one address or range.
    #[must_use]
    pub fn is_quick(&self) -> bool {
        self.net.is_some() && !self.inner
    }

    pub(super) fn net(&self) -> Option<IpNet> {
        self.net
    }

    pub(super) fn inner(&self) -> bool {
        self.inner
    }

    /// Whether a decision on a network that fits is asked for.
    pub(super) fn takes(&self, entry: &Entry) -> bool {
        let in_scope =
            |own: &String| own.split(',').any(|own| own.trim().eq_ignore_ascii_case(scope(&entry.target)));
        self.origins.is_none()
            && self.scope.as_ref().is_none_or(in_scope)
            && self.kind.as_ref().is_none_or(|own| own.eq_ignore_ascii_case(kind(entry.action)))
            && self.value.as_ref().is_none_or(|own| *own == entry.target.to_string())
    }
}
