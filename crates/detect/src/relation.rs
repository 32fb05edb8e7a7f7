//! Two columns compared: whether some text of one stands in a relation to some text of the other.
//!
//! In: two cells. Out: true or false.
//! Invariant: the time it takes goes by the sum of the two cells (times a logarithm), never by their product: who writes
//! the log chooses both lists, and two of 100,000 elements in a record of 1 MiB would be an hour of comparisons.

use vedette_event::{Cell, Kind};
use vedette_sigma::Relation;

use crate::{automaton::Automaton, fold::fold_onto, json};

/// Up to so many comparisons of bytes are made one by one: what sorts or builds an automaton costs more.
const FEW: usize = 1 << 12;

/// The texts of two cells; memory reused from one comparison to the next.
#[derive(Debug, Default)]
pub(crate) struct Related {
    left: Texts,
    right: Texts,
    unescaped: String,
}

impl Related {
    /// Whether a text of the left cell stands in this relation to one of the right cell.
    pub(crate) fn holds(&mut self, left: Cell<'_>, right: Cell<'_>, how: Relation, cased: bool) -> bool {
        self.left.read(left, cased, &mut self.unescaped);
        self.right.read(right, cased, &mut self.unescaped);
        let (left, right) = (&self.left, &self.right);
        if left.ends.is_empty() || right.ends.is_empty() {
            return false;
        }
        let single = left.ends.len() == 1 && right.ends.len() == 1;
        if single || left.bytes().saturating_mul(right.bytes()) <= FEW {
            return left.iter().any(|left| right.iter().any(|right| related(left, right, how)));
        }
        match how {
            Relation::Equal => {
                let sorted = right.sorted(|text| text.bytes());
                left.iter().any(|left| sorted.binary_search_by(|right| compared((*right).cmp(left))).is_ok())
            }
            Relation::StartsWith => starts(left, right, |text| text.bytes()),
            Relation::EndsWith => starts(left, right, |text| text.bytes().rev()),
            Relation::Contains => contains(left, right),
        }
    }
}

/// Whether some text on the left begins with one on the right, read in this direction. Of what sorts no lower than a
/// text, that which begins with it comes first.
fn starts<'t, I>(left: &'t Texts, right: &'t Texts, read: impl Fn(&'t str) -> I) -> bool
where
    I: Iterator<Item = u8>,
{
    let sorted = left.sorted(&read);
    right.iter().any(|wanted| {
        let at = sorted.partition_point(|text| compared(read(text).cmp(read(wanted))).is_lt());
        sorted
            .get(at)
            .is_some_and(|text| text.len() >= wanted.len() && read(wanted).eq(read(text).take(wanted.len())))
    })
}

/// Whether some text on the left contains one on the right.
fn contains(left: &Texts, right: &Texts) -> bool {
    let longest = left.iter().map(str::len).max().unwrap_or(0);
    let mut wanted = right.sorted(|text| text.bytes());
    wanted.dedup();
    wanted.retain(|text| text.len() <= longest);
    let automaton = Automaton::new(&wanted);
    left.iter().any(|text| automaton.finds_in(text))
}

/// The outcome of a comparison of two texts; tests count how many there are.
#[inline]
fn compared<T>(outcome: T) -> T {
    #[cfg(test)]
    tests::COMPARED.set(tests::COMPARED.get() + 1);
    outcome
}

fn related(left: &str, right: &str, how: Relation) -> bool {
    compared(());
    match how {
        Relation::Equal => left == right,
        Relation::Contains => left.contains(right),
        Relation::StartsWith => left.starts_with(right),
        Relation::EndsWith => left.ends_with(right),
    }
}

/// The texts of a cell, one after another.
#[derive(Debug, Default)]
struct Texts {
    all: String,
    ends: Vec<usize>,
}

impl Texts {
    fn read(&mut self, cell: Cell<'_>, cased: bool, unescaped: &mut String) {
        self.all.clear();
        self.ends.clear();
        each_text(cell, unescaped, |text| {
            if cased {
                self.all.push_str(text);
            } else {
                fold_onto(text, &mut self.all);
            }
            self.ends.push(self.all.len());
        });
    }

    /// Its size; at least 1 for each text.
    fn bytes(&self) -> usize {
        self.all.len() + self.ends.len()
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.all.get(start..*end).unwrap_or_default())
    }

    fn sorted<'t, I: Iterator<Item = u8>>(&'t self, read: impl Fn(&'t str) -> I) -> Vec<&'t str> {
        let mut sorted: Vec<&str> = self.iter().collect();
        sorted.sort_unstable_by(|a, b| compared(read(a).cmp(read(b))));
        sorted
    }
}

/// Calls `each` with the text of a scalar, or of every scalar element of a list.
pub(crate) fn each_text(cell: Cell<'_>, unescaped: &mut String, mut each: impl FnMut(&str)) {
    match cell.kind {
        Kind::Missing | Kind::Null | Kind::Object => {}
        Kind::List => json::elements(cell.text, unescaped, each),
        Kind::Text | Kind::Int | Kind::Float | Kind::Bool => each(cell.text),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell as Counter;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    thread_local! {
        pub(super) static COMPARED: Counter<usize> = const { Counter::new(0) };
    }

    const RELATIONS: [Relation; 4] =
        [Relation::Equal, Relation::Contains, Relation::StartsWith, Relation::EndsWith];

    fn list(texts: &[String]) -> String {
        serde_json::to_string(texts).unwrap_or_default()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn however_many_there_are_the_answer_is_that_of_the_pairs(
            left in vec("[abAé]{0,6}", 0..60),
            right in vec("[abAé]{3,9}", 0..60),
            padding in vec("[x]{0,20}", 0..200),
            cased: bool,
        ) {
            // The padding on the right is in no text on the left: it only makes the lists long.
            let right: Vec<String> = right.into_iter().chain(padding.iter().map(|x| format!("y{x}"))).collect();
            let spell = |text: &str| if cased { text.to_owned() } else { crate::fold::fold(text) };
            for how in RELATIONS {
                let pairs = left.iter().any(|a| right.iter().any(|b| related(&spell(a), &spell(b), how)));
                let (a, b) = (list(&left), list(&right));
                let cell = |text| Cell { kind: Kind::List, text };
                prop_assert_eq!(Related::default().holds(cell(&a), cell(&b), how, cased), pairs, "{:?}", how);
            }
        }
    }

    #[test]
    fn an_empty_text_is_in_every_other() {
        let many = list(&(0..5_000).map(|n| n.to_string()).collect::<Vec<_>>());
        let cell = |text| Cell { kind: Kind::List, text };
        for how in [Relation::Contains, Relation::StartsWith, Relation::EndsWith] {
            assert!(Related::default().holds(cell(&many), cell(r#"["x",""]"#), how, false), "{how:?}");
            assert!(!Related::default().holds(cell("[]"), cell(&many), how, false), "{how:?}");
        }
    }

    #[test]
    fn comparisons_go_by_the_sum_of_the_lists() {
        for n in [1_000, 8_000] {
            let texts = |from: usize| list(&(from..from + n).map(|k| k.to_string()).collect::<Vec<_>>());
            let (a, b) = (texts(100_000), texts(200_000));
            let cell = |text| Cell { kind: Kind::List, text };
            for how in RELATIONS {
                COMPARED.set(0);
                assert!(!Related::default().holds(cell(&a), cell(&b), how, false));
                let most = 4 * n * (n.ilog2() as usize + 1);
                assert!(
                    COMPARED.get() < most,
                    "{how:?}: {} comparisons of {n} and {n} texts",
                    COMPARED.get()
                );
            }
        }
    }
}
