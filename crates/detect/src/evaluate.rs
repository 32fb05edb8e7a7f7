//! Batches in, hits out.
//!
//! In: a shared [`Program`] and an [`EventBatch`]. Out: [`Hit`]s sorted by row, then rule, each once.
//! An [`Evaluator`] holds what one thread changes while it works; nothing in it changes what is found.
//!
//! Rows are grouped by class. For each class the fields are filtered column by column (a column's filter and memo stay in
//! the cache), which gives each row its true atoms and the rules that they wake. Then each woken rule's remaining
//! condition is decided; atoms that no filter decides are tried only when it asks for them.

use std::{ops::Range, sync::Arc};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use vedette_event::{Column, EventBatch, Hit, Kind};

use crate::{
    class::{Class, ClassField, Names, Sample, applies},
    filter::Filter,
    fold::fold_into,
    json,
    memo::Memo,
    program::Program,
    truth::{Row, Truth},
    work::{BUDGET, PART, TooDear},
};

/// Slots that all memos of an evaluator have together.
const MEMO_SLOTS: usize = 1 << 17;
/// Rows of a class after which its pivots are chosen by what was seen.
const SAMPLE_ROWS: u32 = 256;
/// Spellings of logsource values remembered.
const MAX_SPELLINGS: usize = 1024;
const NONE: u32 = u32::MAX;

/// One thread's scratch space for a program.
#[derive(Debug)]
pub struct Evaluator {
    program: Arc<Program>,
    classes: Vec<ClassState>,
    class_of: HashMap<Names, u32, FixedState>,
    spellings: [HashMap<Box<str>, u16, FixedState>; 3],
    rows: Rows,
    finder: Finder,
    truth: Truth,
}

/// A class in use by this thread.
#[derive(Debug)]
struct ClassState {
    names: Names,
    class: Arc<Class>,
    memos: Vec<Memo>,
    /// The sample and what takes it, until there is enough.
    sampling: Option<Box<(Sample, Class)>>,
}

impl ClassState {
    fn new(program: &Program, names: Names, class: Arc<Class>) -> Self {
        let held = vec![0; program.atoms.len()];
        let sampling =
            (!class.trained).then(|| Box::new((Sample { rows: 0, held }, Class::sampler(program, names))));
        let mut memos = Vec::new();
        memos.resize_with(class.fields.len(), Memo::default);
        Self { names, class, memos, sampling }
    }
}

/// What is known of each row of the batch at hand.
#[derive(Debug, Default)]
struct Rows {
    /// By row: its class, and what it names.
    class: Vec<(u32, Names)>,
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
        self.rows.reset(batch);
        for row in 0..batch.rows() {
            let class = self.classify(batch, row);
            self.rows.class.push(class);
        }
        let Self { program, classes, rows, finder, truth, .. } = self;
        for (at, state) in classes.iter_mut().enumerate() {
            rows.members.clear();
            let members = (0_u32..).zip(&rows.class).filter(|(_, (class, _))| *class == at as u32);
            rows.members.extend(members.map(|(row, _)| row));
            if rows.members.is_empty() {
                continue;
            }
            if let Some(sampling) = &mut state.sampling {
                let (sample, sampler) = &mut **sampling;
                rows.sample(batch, finder, program, sampler, sample);
                if sample.rows >= SAMPLE_ROWS {
                    *state = ClassState::new(program, state.names, program.train(state.names, sample));
                }
            }
            for (field, memo) in state.class.fields.iter().zip(&mut state.memos) {
                if let Some(column) = rows.column(batch, field.column) {
                    rows.filter(column, finder, program, &state.class, field, memo);
                }
            }
            for at in 0..rows.members.len() {
                let row = rows.members[at];
                let names = rows.class[row as usize].1;
                let view = Row { program, batch, class: &state.class, row: row as usize };
                view.begin(truth);
                view.wake_by_keywords(truth);
                if !truth.any_woken() && !rows.woken[row as usize] {
                    continue;
                }
                rows.collect(row, truth);
                truth.decide(&view, |rule| {
                    if applies(rule.names, names) {
                        hits.push(Hit { row, rule: rule.ix });
                    }
                });
            }
        }
        hits.sort_unstable();
    }

    /// The class of a row, and what the row names.
    fn classify(&mut self, batch: &EventBatch, row: usize) -> (u32, Names) {
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
        if let Some(class) = self.class_of.get(&names) {
            return (*class, names);
        }
        let (known, class) = self.program.class(names);
        let at = self.classes.iter().position(|state| state.names == known).unwrap_or_else(|| {
            self.classes.push(ClassState::new(&self.program, known, class));
            self.classes.len() - 1
        });
        self.class_of.insert(names, at as u32);
        (at as u32, names)
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
        let cheap = field.filter.is_cheap();
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
                finder.find(program, class, field, cell.kind, cell.text);
                memo.put(tag, cell.text, &finder.outcome, &mut finder.budget);
            } else {
                finder.find(program, class, field, cell.kind, cell.text);
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

    /// Counts which atoms hold in rows of the class at hand.
    fn sample(
        &self,
        batch: &EventBatch,
        finder: &mut Finder,
        program: &Program,
        sampler: &Class,
        sample: &mut Sample,
    ) {
        for field in &sampler.fields {
            let Some(column) = self.column(batch, field.column) else { continue };
            for row in &self.members {
                let cell = column.cell(*row as usize);
                if !matches!(cell.kind, Kind::Missing | Kind::Null | Kind::Object) {
                    finder.find(program, sampler, field, cell.kind, cell.text);
                    finder.atoms.iter().for_each(|atom| sample.held[*atom as usize] += 1);
                }
            }
        }
        for row in &self.members {
            if let Some(keywords) = &sampler.keywords {
                let original = batch.original().cell(*row as usize).text;
                finder.find_keywords(keywords, original);
                finder.atoms.iter().for_each(|atom| sample.held[*atom as usize] += 1);
            }
        }
        sample.rows += self.members.len() as u32;
    }

    /// Gives a row's true atoms and woken rules to the truth.
    fn collect(&self, row: u32, truth: &mut Truth) {
        let mut at = self.newest[row as usize];
        while let Some(find) = self.finds.get(at as usize) {
            let outcome = &self.pool[find.start as usize..(find.start + find.len) as usize];
            if let Some((woken, rest)) = outcome.split_first() {
                let (rules, atoms) = rest.split_at(*woken as usize);
                truth.learn(atoms, rules);
            }
            at = find.older;
        }
    }
}

impl Finder {
    /// Puts into `outcome` what the filter finds for a value.
    fn find(&mut self, program: &Program, class: &Class, field: &ClassField, kind: Kind, text: &str) {
        self.atoms.clear();
        self.outcome.clear();
        if kind == Kind::List {
            let mut unescaped = std::mem::take(&mut self.unescaped);
            json::elements(text, &mut unescaped, |element| self.find_in_text(program, field, element));
            self.unescaped = unescaped;
            self.atoms.sort_unstable();
            self.atoms.dedup();
        } else {
            self.find_in_text(program, field, text);
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

    /// Puts into `atoms` the keyword atoms that may hold of an event's text.
    fn find_keywords(&mut self, keywords: &Filter, original: &str) {
        self.atoms.clear();
        let ascii = fold_into(original, &mut self.folded);
        let atoms = &mut self.atoms;
        keywords.scan(&self.folded, ascii, &mut |atom, _| atoms.push(atom));
        self.atoms.sort_unstable();
        self.atoms.dedup();
    }

    #[inline]
    fn find_in_text(&mut self, program: &Program, field: &ClassField, text: &str) {
        self.text = self.text.wrapping_add(1);
        if self.text == 0 {
            self.decided.fill(0);
            self.text = 1;
        }
        let Self { folded, decided, atoms, text: current, .. } = self;
        let ascii = fold_into(text, folded);
        field.filter.scan(folded, ascii, &mut |atom, proof| {
            let decided = &mut decided[atom as usize];
            if *decided != *current {
                *decided = *current;
                if proof || program.atoms[atom as usize].matcher.matches(text, folded) {
                    atoms.push(atom);
                }
            }
        });
    }
}
