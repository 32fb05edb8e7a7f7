//! What is out of the ordinary about an event's time or an alert: a small set of named flags.
//!
//! In: bits set where the thing happened. Out: a sorted list of stable names (`clock=late`).

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A set of flags. Serialises as a sorted list of their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Flags(pub u16);

impl Flags {
    /// Nothing out of the ordinary.
    pub const NONE: Self = Self(0);
    /// The claimed time was missing or unreadable; broker time stands in.
    pub const CLOCK_MISSING: Self = Self(1);
    /// The claimed time was further ahead than `F`; broker time stands in.
    pub const CLOCK_FUTURE: Self = Self(2);
    /// The claimed time was further behind than `D`; placed at broker time − `D`.
    pub const CLOCK_LATE: Self = Self(4);
    /// The event lay below its source's watermark; placed at that watermark.
    pub const CLOCK_OVERTAKEN: Self = Self(8);
    /// The broker's time was more than `S` ahead of the clock; that clock stands in.
    pub const CLOCK_BROKER: Self = Self(16);
    /// More distinct values were seen than are kept; `value` is a lower bound.
    pub const CAPPED: Self = Self(32);
    /// State was over budget; the count can only be too high.
    pub const APPROXIMATE: Self = Self(64);
    /// Many episodes of one rule folded into one alert.
    pub const STORM: Self = Self(128);
    /// The rule started without the history it needs.
    pub const COLD: Self = Self(256);
    /// A scheduled hunt raised it: late, and over what the lake held.
    pub const HUNT: Self = Self(512);

    /// All that put an event's time in doubt.
    pub const CLOCK: [Self; 5] = [
        Self::CLOCK_MISSING,
        Self::CLOCK_FUTURE,
        Self::CLOCK_LATE,
        Self::CLOCK_OVERTAKEN,
        Self::CLOCK_BROKER,
    ];

    const NAMES: [(Self, &'static str); 10] = [
        (Self::APPROXIMATE, "approximate"),
        (Self::CAPPED, "capped"),
        (Self::CLOCK_BROKER, "clock=broker"),
        (Self::CLOCK_FUTURE, "clock=future"),
        (Self::CLOCK_LATE, "clock=late"),
        (Self::CLOCK_MISSING, "clock=missing"),
        (Self::CLOCK_OVERTAKEN, "clock=overtaken"),
        (Self::COLD, "cold"),
        (Self::HUNT, "hunt"),
        (Self::STORM, "storm"),
    ];

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// True if every flag of `other` is set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// True if no flag is set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The flag of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(_, known)| *known == name).map(|(flag, _)| flag)
    }

    /// The names of the flags that are set, sorted.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(flag, _)| self.has(*flag)).map(|(_, name)| name)
    }
}

impl Serialize for Flags {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.names())
    }
}

impl<'de> Deserialize<'de> for Flags {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Vec::<String>::deserialize(d)?.iter().try_fold(Self::NONE, |set, name| {
            Self::named(name)
                .map(|flag| set.with(flag))
                .ok_or_else(|| D::Error::custom(format!("unknown flag `{name}`")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_round_trip() {
        let all = Flags(1_023);
        let names: Vec<_> = all.names().collect();
        assert!(names.is_sorted());
        assert_eq!(names.len(), 10);
        let json = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<Flags>(&json).unwrap(), all);
    }
}
