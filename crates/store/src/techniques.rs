//! ATT&CK techniques: from a rule's tags to what a row is filtered and grouped by.
//!
//! In: tags, as written. Out: a row's set of techniques as one text (`T1046 T1110.001`), and which techniques are in a
//! set. Invariants: rows hold the name of their set and the sets are few, because they are those of rules; a
//! sub-technique is in its technique, too.

use std::collections::BTreeSet;

use crate::{bulk::Bulk, error::Error, transaction::WriteTx};

/// Techniques of a rule that count.
const MAX_NAMED: usize = 16;

const SETS: Bulk = Bulk {
    head: "insert into technique_sets (technique, techniques) values ",
    columns: 2,
    tail: " on conflict do nothing",
};

/// The techniques that tags name, in order, with blanks between them.
pub(crate) fn named(tags: &[String]) -> String {
    let techniques = tags.iter().filter_map(|tag| {
        let name = tag.get(..7).filter(|start| start.eq_ignore_ascii_case("attack.")).and(tag.get(7..))?;
        let name = name.to_ascii_uppercase();
        is_technique(&name).then_some(name)
    });
    let techniques: BTreeSet<String> = techniques.take(MAX_NAMED).collect();
    techniques.into_iter().collect::<Vec<_>>().join(" ")
}

/// Whether this is a technique's id: `T` and four digits, and for a part of one a point and three more.
#[must_use]
pub fn is_technique(name: &str) -> bool {
    let digits = |text: &str, n: usize| text.len() == n && text.bytes().all(|b| b.is_ascii_digit());
    let Some(number) = name.strip_prefix('T') else { return false };
    match number.split_once('.') {
        Some((whole, part)) => digits(whole, 4) && digits(part, 3),
        None => digits(number, 4),
    }
}

/// The techniques of a set, each with the one that it is a part of.
pub(crate) fn with_whole(set: &str) -> BTreeSet<&str> {
    set.split_whitespace().flat_map(|name| [name, name.split('.').next().unwrap_or(name)]).collect()
}

impl WriteTx {
    /// Notes what is in the sets of some new rows.
    pub(crate) async fn write_technique_sets(&mut self, sets: &BTreeSet<String>) -> Result<(), Error> {
        let pairs: Vec<(&str, &str)> = sets
            .iter()
            .flat_map(|set| with_whole(set).into_iter().map(move |name| (name, set.as_str())))
            .collect();
        self.run_bulk(SETS, &pairs, |insert, (name, set)| insert.bind(*name).bind(*set)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_name_techniques_and_parts_of_them() {
        let tags = [
            "attack.t1110.001",
            "ATTACK.T1046",
            "attack.discovery",
            "attack.t1",
            "cve.2024.1",
            "é",
            "attack.t1046",
        ];
        let set = named(&tags.map(str::to_owned));
        assert_eq!(set, "T1046 T1110.001");
        assert_eq!(with_whole(&set).into_iter().collect::<Vec<_>>(), ["T1046", "T1110", "T1110.001"]);
        assert_eq!(named(&[]), "");
        assert!(with_whole("").is_empty());
    }
}
