//! Batches in, hits out.
//!
//! In: a shared [`Program`] and an [`EventBatch`]. Out: [`Hit`]s sorted by row, then rule, each once.
//! An [`Evaluator`] holds what one thread changes while it works; nothing in it changes what is found.
//!
//! Rows are grouped by class; those of a class that is not compiled yet are looked at with all rules, and counted for its sample. For each class the fields are filtered column by column (a column's filter and memo stay in
//! the cache), which gives each row its true atoms and the rules that they wake. Then each woken rule's remaining
//! condition is decided; atoms that no filter decides are tried only when it asks for them.

use std::{ops::Range, sync::Arc};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use vedette_event::{Column, EventBatch, Hit, Kind};

use crate::{
    class::{Class, ClassField, Names},
    filter::Filter,
    fold::fold_into,
    json,
    memo::Memo,
    program::Program,
    training::{SAMPLE_ROWS, Seen, Training},
    truth::{Row, Truth},
    work::{BUDGET, PART, TooDear},
};

/// Slots that all memos of an evaluator have together.
const MEMO_SLOTS: usize = 1 << 17;
/// Spellings of logsource values remembered.
const MAX_SPELLINGS: usize = 1024;
/// The place of the class of all rules.
const GENERAL: u32 = 0;
const NONE: u32 = u32::MAX;

/// One thread's scratch space for a program.
#[derive(Debug)]
pub struct Evaluator {
    program: Arc<Program>,
    /// The first is that of all rules.
    classes: Vec<ClassState>,
    class_of: HashMap<Names, ClassAt, FixedState>,
    /// Classes that were not compiled when they were last asked for.
    learning: Vec<Option<Learning>>,
    spellings: [HashMap<Box<str>, u16, FixedState>; 3],
    rows: Rows,
    finder: Finder,
    truth: Truth,
}

/// Where events are looked at.
#[derive(Debug, Clone, Copy)]
struct ClassAt {
    class: u32,
    /// In [`Evaluator::learning`], or `NONE`.
    learning: u32,
}

/// A class that is not compiled yet, and what this thread has seen of it.
#[derive(Debug)]
struct Learning {
    training: Arc<Training>,
    seen: Seen,
}

/// A class in use by this thread.
#[derive(Debug)]
struct ClassState {
    /// What its events name, if it is of some kind of events.
    names: Option<Names>,
    class: Arc<Class>,
    memos: Vec<Memo>,
}

impl ClassState {
    fn new(names: Option<Names>, class: Arc<Class>) -> Self {
        let mut memos = Vec::new();
        memos.resize_with(class.fields.len(), Memo::default);
        Self { names, class, memos }
    }
}

/// What is known of each row of the batch at hand.
#[derive(Debug, Default)]
struct Rows {
    /// By row: where it is looked at, and what it names.
    class: Vec<(ClassAt, Names)>,
    /// The rows of the class at hand.
    members: Vec<u32>,
    /// By row: the newest of its finds.
    newest: Vec<u32>,
    /// By row: whether a rule was woken.
    woken: Vec<bool>,
    finds: Vec<Find>,
    /// What was found: see [`Finder::outcome`].
    pool: Vec<u32>,
    /// By column: whether any row has a value.
    active: Vec<bool>,
}

/// A value's outcome, in a list by row.
#[derive(Debug, Clone, Copy)]
struct Find {
    older: u32,
    start: u32,
    len: u32,
}

/// Runs filters over values.
#[derive(Debug)]
struct Finder {
    seed: FixedState,
    budget: usize,
    folded: String,
    unescaped: String,
    /// By atom: the last text for which it was decided.
    decided: Vec<u32>,
    text: u32,
    atoms: Vec<u32>,
    /// Number of woken rules, those rules, true atoms; empty if there are none.
    outcome: Vec<u32>,
}

impl Evaluator {
    /// A fresh one. Its memo's hash is keyed with 0; see [`Evaluator::with_seed`].
    #[must_use]
    pub fn new(program: Arc<Program>) -> Self {
        Self::with_seed(program, 0)
    }

    /// A fresh one, its memo's hash keyed with a secret of the deployment, so that nobody can aim at it.
    #[must_use]
    pub fn with_seed(program: Arc<Program>, seed: u64) -> Self {
        let finder = Finder {
            seed: FixedState::with_seed(seed),
            budget: MEMO_SLOTS,
            folded: String::new(),
            unescaped: String::new(),
            decided: vec![0; program.atoms.len()],
            text: 0,
            atoms: Vec::new(),
            outcome: Vec::new(),
        };
        let truth = Truth::new(program.atoms.len(), program.rules.len());
        Self {
            program,
            classes: Vec::new(),
            class_of: HashMap::default(),
            learning: Vec::new(),
            spellings: Default::default(),
            rows: Rows::default(),
            finder,
            truth,
        }
    }

    /// The events of this batch that are too dear to be evaluated ([`crate::work`]).
    #[must_use]
    pub fn too_dear(&self, batch: &EventBatch) -> Vec<TooDear> {
        self.program.too_dear(batch, BUDGET)
    }

    /// The rows of a batch in parts of bounded work ([`crate::work::PART`]).
    #[must_use]
    pub fn parts(&self, batch: &EventBatch) -> Vec<Range<usize>> {
        self.program.parts(batch, PART)
    }

    /// Replaces `hits` by the hits of this batch, sorted by row, then rule, each once.
    pub fn evaluate(&mut self, batch: &EventBatch, hits: &mut Vec<Hit>) {
        hits.clear();
        self.take_up();
        self.rows.reset(batch);
        for row in 0..batch.rows() {
            let class = self.classify(batch, row);
            self.rows.class.push(class);
        }
        let Self { program, classes, learning, rows, finder, truth, .. } = self;
        for (at, state) in (0..).zip(classes.iter_mut()) {
            rows.gather(at);
            if rows.members.is_empty() {
                continue;
            }
            for (field, memo) in state.class.fields.iter().zip(&mut state.memos) {
                if let Some(column) = rows.column(batch, field.column) {
                    rows.filter(column, finder, program, &state.class, field, memo);
                }
            }
            for at in 0..rows.members.len() {
                let row = rows.members[at];
                let (place, names) = rows.class[row as usize];
                let view = Row { program, batch, class: &state.class, row: row as usize };
                view.begin(truth);
                view.wake_by_keywords(truth);
                if let Some(Some(learning)) = learning.get_mut(place.learning as usize) {
                    rows.note(row, truth, &state.class, &mut learning.seen);
                }
                if !truth.any_woken() && !rows.woken[row as usize] {
                    continue;
                }
                rows.collect(row, truth);
                truth.decide(&view, names, |rule| hits.push(Hit { row, rule: rule.ix }));
            }
        }
        hits.sort_unstable();
        for Learning { training, seen } in self.learning.iter_mut().flatten().filter(|l| l.seen.rows > 0) {
            training.take(&self.program, seen);
        }
    }

    /// Takes up the classes that have been compiled meanwhile, by this thread or another.
    fn take_up(&mut self) {
        for (at, slot) in (0..).zip(&mut self.learning) {
            let Some(class) = slot.as_ref().and_then(|learning| learning.training.class()) else { continue };
            let names = slot.as_ref().map(|learning| learning.training.names);
            self.classes.push(ClassState::new(names, class.clone()));
            let place = ClassAt { class: self.classes.len() as u32 - 1, learning: NONE };
            self.class_of.values_mut().filter(|known| known.learning == at).for_each(|known| *known = place);
            *slot = None;
        }
    }

    /// Where a row is looked at, and what it names.
    fn classify(&mut self, batch: &EventBatch, row: usize) -> (ClassAt, Names) {
        let mut names = [0; 3];
        if let Some(own) = self.program.own {
            for (key, column) in own.iter().enumerate() {
                if let Some(column) = column.and_then(|at| batch.columns().get(at)) {
                    let cell = column.cell(row);
                    if cell.kind == Kind::Text {
                        names[key] = self.name(key, cell.text);
                    }
                }
            }
        }
        if let Some(place) = self.class_of.get(&names) {
            return (*place, names);
        }
        let place = self.place(self.program.training(names));
        self.class_of.insert(names, place);
        (place, names)
    }

    /// Where events of a class are looked at.
    fn place(&mut self, training: Arc<Training>) -> ClassAt {
        if self.classes.is_empty() {
            self.classes.push(ClassState::new(None, self.program.general().clone()));
        }
        let of = |state: &ClassState| state.names == Some(training.names);
        if let Some(known) = self.classes.iter().position(of) {
            return ClassAt { class: known as u32, learning: NONE };
        }
        if let Some(class) = training.class() {
            self.classes.push(ClassState::new(Some(training.names), class.clone()));
            return ClassAt { class: self.classes.len() as u32 - 1, learning: NONE };
        }
        let same = |known: &Option<Learning>| {
            known.as_ref().is_some_and(|known| known.training.names == training.names)
        };
        let at = self.learning.iter().position(same).unwrap_or(self.learning.len());
        if at == self.learning.len() {
            self.learning.push(Some(Learning { training, seen: Seen::default() }));
        }
        ClassAt { class: GENERAL, learning: at as u32 }
    }

    /// The class that was taken up last.
    #[cfg(test)]
    pub(crate) fn compiled(&self) -> &Arc<Class> {
        &self.classes[self.classes.len() - 1].class
    }

    fn name(&mut self, key: usize, text: &str) -> u16 {
        let spellings = &mut self.spellings[key];
        if let Some(name) = spellings.get(text) {
            return *name;
        }
        let name = self.program.name(key, text);
        if spellings.len() >= MAX_SPELLINGS {
            spellings.clear();
        }
        spellings.insert(text.into(), name);
        name
    }
}

impl Rows {
    fn reset(&mut self, batch: &EventBatch) {
        self.class.clear();
        self.newest.clear();
        self.newest.resize(batch.rows(), NONE);
        self.woken.clear();
        self.woken.resize(batch.rows(), false);
        self.finds.clear();
        self.pool.clear();
        self.active.clear();
        self.active.extend(batch.columns().iter().map(Column::has_values));
    }

    /// A column in which some row has a value.
    fn column<'b>(&self, batch: &'b EventBatch, at: u32) -> Option<&'b Column> {
        let active = self.active.get(at as usize).copied().unwrap_or(false);
        if active { batch.columns().get(at as usize) } else { None }
    }

    /// Finds what a field's filter says of each row of the class at hand.
    fn filter(
        &mut self,
        column: &Column,
        finder: &mut Finder,
        program: &Program,
        class: &Class,
        field: &ClassField,
        memo: &mut Memo,
    ) {
        let filter = field.filter(program);
        let cheap = filter.is_cheap();
        for at in 0..self.members.len() {
            let row = self.members[at];
            let cell = column.cell(row as usize);
            if matches!(cell.kind, Kind::Missing | Kind::Null | Kind::Object) {
                continue;
            }
            let tag = if cheap { None } else { memo.tag(&finder.seed, cell.kind, cell.text) };
            if let Some(tag) = tag {
                if let Some(found) = memo.get(tag, cell.text) {
                    self.add(row, found);
                    continue;
                }
                finder.find(program, class, filter, cell.kind, cell.text);
                memo.put(tag, cell.text, &finder.outcome, &mut finder.budget);
            } else {
                finder.find(program, class, filter, cell.kind, cell.text);
            }
            self.add(row, &finder.outcome);
        }
    }

    #[inline]
    fn add(&mut self, row: u32, outcome: &[u32]) {
        let Some(woken) = outcome.first() else { return };
        let start = self.pool.len() as u32;
        self.pool.extend_from_slice(outcome);
        let newest = &mut self.newest[row as usize];
        self.finds.push(Find { older: *newest, start, len: outcome.len() as u32 });
        *newest = self.finds.len() as u32 - 1;
        self.woken[row as usize] |= *woken > 0;
    }

    /// The rows that are looked at in one place.
    fn gather(&mut self, at: u32) {
        self.members.clear();
        let members = (0_u32..).zip(&self.class).filter(|(_, (place, _))| place.class == at);
        self.members.extend(members.map(|(row, _)| row));
    }

    /// Takes note of the atoms that hold of a row.
    fn note(&self, row: u32, truth: &Truth, class: &Class, seen: &mut Seen) {
        if seen.rows >= SAMPLE_ROWS {
            return;
        }
        seen.rows += 1;
        self.each_outcome(row, |_, atoms| seen.held.extend_from_slice(atoms));
        seen.held.extend(truth.seen_keywords(class));
    }

    /// Gives a row's true atoms and woken rules to the truth.
    fn collect(&self, row: u32, truth: &mut Truth) {
        self.each_outcome(row, |rules, atoms| truth.learn(atoms, rules));
    }

    /// Calls `each` with the rules that each value of a row wakes, and the atoms that hold of it.
    #[inline]
    fn each_outcome(&self, row: u32, mut each: impl FnMut(&[u32], &[u32])) {
        let mut at = self.newest[row as usize];
        while let Some(find) = self.finds.get(at as usize) {
            let outcome = &self.pool[find.start as usize..(find.start + find.len) as usize];
            if let Some((woken, rest)) = outcome.split_first() {
                let (rules, atoms) = rest.split_at(*woken as usize);
                each(rules, atoms);
            }
            at = find.older;
        }
    }
}

impl Finder {
    /// Puts into `outcome` what the filter finds for a value.
    fn find(&mut self, program: &Program, class: &Class, filter: &Filter, kind: Kind, text: &str) {
        self.atoms.clear();
        self.outcome.clear();
        if kind == Kind::List {
            let mut unescaped = std::mem::take(&mut self.unescaped);
            json::elements(text, &mut unescaped, |element| self.find_in_text(program, filter, element));
            self.unescaped = unescaped;
            self.atoms.sort_unstable();
            self.atoms.dedup();
        } else {
            self.find_in_text(program, filter, text);
        }
        if self.atoms.is_empty() {
            return;
        }
        self.outcome.push(0);
        for atom in &self.atoms {
            self.outcome.extend_from_slice(class.wakes.get(u64::from(*atom)));
        }
        self.outcome[0] = self.outcome.len() as u32 - 1;
        self.outcome.extend_from_slice(&self.atoms);
    }

    #[inline]
    fn find_in_text(&mut self, program: &Program, filter: &Filter, text: &str) {
        self.text = self.text.wrapping_add(1);
        if self.text == 0 {
            self.decided.fill(0);
            self.text = 1;
        }
        let Self { folded, decided, atoms, text: current, .. } = self;
        let ascii = fold_into(text, folded);
        filter.scan(folded, ascii, &mut |atom, proof| {
            let decided = &mut decided[atom as usize];
            if *decided != *current {
                *decided = *current;
                if proof || program.atoms[atom as usize].matcher().matches(text, folded) {
                    atoms.push(atom);
                }
            }
        });
    }
}
