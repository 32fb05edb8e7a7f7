//! Which atoms are true of the row at hand, and which of its woken rules hold.
//!
//! In: true atoms and woken rules of a row from its fields' filters. Out: the rules that hold.
//! Invariant: an atom that no filter decides is tried at most once a row, and only when a rule asks.

use vedette_event::{Cell, EventBatch, Kind};

use crate::{
    class::{Class, ClassRule, Names, applies},
    condition::{Atom, Code},
    fold::fold_into,
    json,
    matcher::Matcher,
    program::Program,
    relation::{Related, each_text},
};

/// A row and what decides about it.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) program: &'a Program,
    pub(crate) batch: &'a EventBatch,
    pub(crate) class: &'a Class,
    pub(crate) row: usize,
}

/// What is known of the row at hand; arrays are valid where they bear its stamp, so that nothing is cleared.
#[derive(Debug)]
pub(crate) struct Truth {
    /// By atom: twice the stamp, and one more if true.
    known: Vec<u32>,
    /// By rule of the class: the stamp of the row that last woke it.
    woken_at: Vec<u32>,
    woken: Vec<u32>,
    /// By atom: the stamp of the row whose text was last found to hold the keyword's literals.
    seen: Vec<u32>,
    /// The row's text may hide keywords from the search.
    hidden: bool,
    stamp: u32,
    strings: Strings,
    text: FoldedText,
    related: Related,
}

/// All strings of one event.
#[derive(Debug, Default)]
struct Strings {
    stamp: u32,
    list: Vec<FoldedText>,
    used: usize,
    /// The folded copies, each followed by NUL: one search instead of many.
    joined: String,
    unescaped: String,
}

/// A text and its folded copy.
#[derive(Debug, Default)]
struct FoldedText {
    raw: String,
    folded: String,
}

impl FoldedText {
    fn set(&mut self, raw: &str) {
        self.raw.clear();
        self.raw.push_str(raw);
        fold_into(raw, &mut self.folded);
    }
}

impl Truth {
    pub(crate) fn new(atoms: usize, rules: usize) -> Self {
        Self {
            known: vec![0; atoms],
            woken_at: vec![0; rules],
            woken: Vec::new(),
            seen: vec![0; atoms],
            hidden: false,
            stamp: 0,
            strings: Strings::default(),
            text: FoldedText::default(),
            related: Related::default(),
        }
    }

    /// Takes over what a field's filter found.
    #[inline]
    pub(crate) fn learn(&mut self, atoms: &[u32], rules: &[u32]) {
        for atom in atoms {
            self.known[*atom as usize] = self.stamp * 2 + 1;
        }
        self.wake(rules);
    }

    #[inline]
    fn wake(&mut self, rules: &[u32]) {
        for rule in rules {
            let woken_at = &mut self.woken_at[*rule as usize];
            if *woken_at != self.stamp {
                *woken_at = self.stamp;
                self.woken.push(*rule);
            }
        }
    }

    /// The keywords whose literals the row's text holds, as far as the class searches for them.
    pub(crate) fn seen_keywords(&self, class: &Class) -> impl Iterator<Item = u32> {
        let seen = |atom: &u32| self.seen[*atom as usize] == self.stamp;
        class.keyword_atoms.iter().copied().filter(seen)
    }

    /// Whether any rule has been woken.
    #[inline]
    pub(crate) fn any_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    /// Calls `hit` with each woken rule that applies to an event which names this, and holds.
    #[inline]
    pub(crate) fn decide(&mut self, row: &Row<'_>, names: Names, mut hit: impl FnMut(&ClassRule)) {
        let woken = std::mem::take(&mut self.woken);
        for rule in &woken {
            let rule = &row.class.rules[*rule as usize];
            if !applies(rule.names, names) {
                continue;
            }
            if rule.entry == Code::HOLDS || row.class.code.holds(rule.entry, |atom| self.is_true(row, atom)) {
                hit(rule);
            }
        }
        self.woken = woken;
    }

    #[inline]
    fn is_true(&mut self, row: &Row<'_>, atom: u32) -> bool {
        let known = self.known[atom as usize];
        if known / 2 == self.stamp {
            return known % 2 == 1;
        }
        if row.class.is_eager(atom) {
            return false;
        }
        let truth = self.try_atom(row, atom);
        self.known[atom as usize] = self.stamp * 2 + u32::from(truth);
        truth
    }

    fn try_atom(&mut self, row: &Row<'_>, atom: u32) -> bool {
        let plan = &row.program.atoms[atom as usize];
        match &plan.atom {
            Atom::Null { column } => matches!(row.cell(*column).kind, Kind::Missing | Kind::Null),
            Atom::Comparable { column } => {
                !matches!(row.cell(*column).kind, Kind::Missing | Kind::Null | Kind::Object)
            }
            Atom::Scalar { column, .. } => {
                self.any_text(row.cell(*column), |text| plan.matcher().matches(&text.raw, &text.folded))
            }
            Atom::Related { left, right, how, cased } => {
                self.related.holds(row.cell(*left), row.cell(*right), *how, *cased)
            }
            Atom::Keyword { .. } => {
                let absent =
                    row.class.is_searched(atom) && !self.hidden && self.seen[atom as usize] != self.stamp;
                !absent && self.any_string(row, plan.matcher())
            }
        }
    }

    /// Whether the predicate holds of any text of a cell.
    fn any_text(&mut self, cell: Cell<'_>, mut holds: impl FnMut(&FoldedText) -> bool) -> bool {
        let (text, unescaped) = (&mut self.text, &mut self.strings.unescaped);
        let mut found = false;
        each_text(cell, unescaped, |raw| {
            if !found {
                text.set(raw);
                found = holds(text);
            }
        });
        found
    }

    /// Whether the predicate holds of any string of the event.
    fn any_string(&mut self, row: &Row<'_>, matcher: &Matcher) -> bool {
        let strings = &mut self.strings;
        if strings.stamp != self.stamp {
            strings.stamp = self.stamp;
            strings.read(row);
        }
        if let Some(finder) = matcher.plain_search()
            && memchr::memchr(0, finder.needle()).is_none()
        {
            return strings.used > 0 && finder.find(strings.joined.as_bytes()).is_some();
        }
        strings.list.iter().take(strings.used).any(|text| matcher.matches(&text.raw, &text.folded))
    }
}

impl Strings {
    fn read(&mut self, row: &Row<'_>) {
        let Self { list, used, joined, unescaped, .. } = self;
        *used = 0;
        joined.clear();
        let mut add = |text: &str| {
            if *used == list.len() {
                list.push(FoldedText::default());
            }
            list[*used].set(text);
            joined.push_str(&list[*used].folded);
            joined.push('\0');
            *used += 1;
        };
        let original = row.batch.original().cell(row.row).text;
        if row.program.whole_record {
            add(original);
        } else {
            json::strings(original, unescaped, add);
        }
    }
}

impl Row<'_> {
    fn cell(&self, column: u32) -> Cell<'_> {
        self.batch.columns().get(column as usize).map_or(Cell::MISSING, |column| column.cell(self.row))
    }

    /// Makes the truth about this row, of which nothing is known yet.
    pub(crate) fn begin(&self, truth: &mut Truth) {
        truth.stamp += 1;
        if truth.stamp >= u32::MAX / 2 {
            truth.known.fill(0);
            truth.woken_at.fill(0);
            truth.seen.fill(0);
            truth.strings.stamp = 0;
            truth.stamp = 1;
        }
        truth.woken.clear();
        truth.hidden = false;
        truth.wake(&self.class.always);
    }

    /// Wakes the rules whose keywords may be in the event's text.
    pub(crate) fn wake_by_keywords(&self, truth: &mut Truth) {
        let Some(filter) = &self.class.keywords else { return };
        let original = self.batch.original().cell(self.row).text;
        if !self.program.whole_record && json::hides_characters(original) {
            truth.hidden = true;
            for atom in &self.class.keyword_atoms {
                truth.wake(self.class.wakes.get(u64::from(*atom)));
            }
            return;
        }
        let mut folded = std::mem::take(&mut truth.text.folded);
        let ascii = fold_into(original, &mut folded);
        filter.scan(&folded, ascii, &mut |atom, _| {
            if truth.seen[atom as usize] != truth.stamp {
                truth.seen[atom as usize] = truth.stamp;
                truth.wake(self.class.wakes.get(u64::from(atom)));
            }
        });
        truth.text.folded = folded;
    }
}
