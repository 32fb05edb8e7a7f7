//! Conditions over atoms: lowering, pivots, and the code that decides a candidate rule.
//!
//! In: a rule's expression and leaves, a source, the batch's columns. Out: [`NormalForm`] in negation normal form over
//! [`Atom`]s shared by all rules; from it a [`Pivot`] (atoms one of which must be true) and [`Code`].
//! Invariant: fields that stand for several columns, `Not`, null and existence are spelled out here, so that an atom is
//! about one column, or about the strings of the event.

use std::{hash::BuildHasher as _, sync::Arc};

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable, hash_table::Entry};
use vedette_event::SourceDef;
use vedette_sigma::{Detection, Expr, Leaf, Pattern, Piece, Relation, Test};

use crate::fold::fold;

/// A predicate that no two rules need twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Atom {
    /// Holds of a scalar, or of an element of a list.
    Scalar { column: u32, test: Test },
    /// Missing or null.
    Null { column: u32 },
    /// A scalar or a list.
    Comparable { column: u32 },
    /// Two columns compare.
    Related { left: u32, right: u32, how: Relation, cased: bool },
    /// Holds of a string of the event.
    Keyword { test: Test },
}

/// All atoms of a program.
#[derive(Debug, Default)]
pub(crate) struct Atoms {
    pub(crate) list: Vec<Atom>,
    /// Their hashes, so that none is made twice: they are a third of what lowering costs.
    hashes: Vec<u64>,
    /// Places in `list`, by their atoms.
    index: HashTable<u32>,
}

impl Atoms {
    fn intern(&mut self, atom: Atom) -> u32 {
        let hash = FixedState::default().hash_one(&atom);
        self.intern_hashed(atom, hash)
    }

    fn intern_hashed(&mut self, atom: Atom, hash: u64) -> u32 {
        let Self { list, hashes, index } = self;
        let same = |at: &u32| hashes[*at as usize] == hash && list[*at as usize] == atom;
        match index.entry(hash, same, |at| hashes[*at as usize]) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(free) => {
                let at = list.len() as u32;
                free.insert(at);
                hashes.push(hash);
                list.push(atom);
                at
            }
        }
    }

    /// Takes in those of rules further behind, in their order, so that all have the places that they would have if they had come
    /// one by one; by place there, their places here.
    pub(crate) fn append(&mut self, behind: Self) -> Vec<u32> {
        let atoms = behind.list.into_iter().zip(behind.hashes);
        atoms.map(|(atom, hash)| self.intern_hashed(atom, hash)).collect()
    }
}

/// A condition in negation normal form; no `All` within `All`, no `Any` within `Any`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum NormalForm {
    /// All hold; true if empty.
    All(Vec<NormalForm>),
    /// Any holds; false if empty.
    Any(Vec<NormalForm>),
    /// The atom holds, or (negated) does not.
    Atom { atom: u32, negated: bool },
}

impl NormalForm {
    const TRUE: Self = Self::All(Vec::new());
    const FALSE: Self = Self::Any(Vec::new());

    fn atom(atom: u32) -> Self {
        Self::Atom { atom, negated: false }
    }

    fn all(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = Vec::new();
        for part in parts {
            match part {
                Self::All(inner) => flat.extend(inner),
                Self::Any(inner) if inner.is_empty() => return Self::FALSE,
                other => flat.push(other),
            }
        }
        if flat.len() == 1 { flat.remove(0) } else { Self::All(flat) }
    }

    fn any(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = Vec::new();
        for part in parts {
            match part {
                Self::Any(inner) => flat.extend(inner),
                Self::All(inner) if inner.is_empty() => return Self::TRUE,
                other => flat.push(other),
            }
        }
        if flat.len() == 1 { flat.remove(0) } else { Self::Any(flat) }
    }

    fn negate(self) -> Self {
        match self {
            Self::All(parts) => Self::any(parts.into_iter().map(Self::negate)),
            Self::Any(parts) => Self::all(parts.into_iter().map(Self::negate)),
            Self::Atom { atom, negated } => Self::Atom { atom, negated: !negated },
        }
    }

    /// The same with its atoms in other places.
    pub(crate) fn renumber(&mut self, places: &[u32]) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter_mut().for_each(|part| part.renumber(places)),
            Self::Atom { atom, .. } => *atom = places[*atom as usize],
        }
    }

    /// Calls `each` with every atom.
    pub(crate) fn each_atom(&self, each: &mut impl FnMut(u32)) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.each_atom(each)),
            Self::Atom { atom, .. } => each(*atom),
        }
    }
}

/// Lowers rules of one source.
pub(crate) struct Lowering<'p> {
    pub(crate) source: &'p SourceDef,
    pub(crate) columns: HashMap<&'p str, u32, FixedState>,
    pub(crate) atoms: Atoms,
}

impl<'p> Lowering<'p> {
    pub(crate) fn new(source: &'p SourceDef, fields: &'p [Arc<str>]) -> Self {
        let columns = fields.iter().enumerate().map(|(at, name)| (&**name, at as u32)).collect();
        Self { source, columns, atoms: Atoms::default() }
    }

    pub(crate) fn detection(&mut self, detection: &Detection) -> NormalForm {
        self.expr(&detection.condition, &detection.leaves)
    }

    fn expr(&mut self, expr: &Expr, leaves: &[Leaf]) -> NormalForm {
        match expr {
            Expr::And(parts) => NormalForm::all(parts.iter().map(|part| self.expr(part, leaves))),
            Expr::Or(parts) => NormalForm::any(parts.iter().map(|part| self.expr(part, leaves))),
            Expr::Not(part) => self.expr(part, leaves).negate(),
            Expr::Leaf(at) => match leaves.get(*at) {
                Some(Leaf { field: Some(field), test }) => {
                    let columns = self.resolve(field);
                    self.field(test, &columns)
                }
                Some(Leaf { field: None, test }) => self.keyword(test),
                None => NormalForm::FALSE,
            },
        }
    }

    /// The columns of a field; those that the batch lacks are always missing and left out.
    fn resolve(&self, field: &str) -> Vec<u32> {
        self.source.resolve(field).iter().filter_map(|name| self.columns.get(name).copied()).collect()
    }

    fn field(&mut self, test: &Test, columns: &[u32]) -> NormalForm {
        let atoms = &mut self.atoms;
        let mut each = |atom: &dyn Fn(u32) -> Atom| -> Vec<NormalForm> {
            columns.iter().map(|column| NormalForm::atom(atoms.intern(atom(*column)))).collect()
        };
        match test {
            Test::Null | Test::Exists(false) => NormalForm::all(each(&|column| Atom::Null { column })),
            Test::Exists(true) => NormalForm::all(each(&|column| Atom::Null { column })).negate(),
            Test::Not(inner) => {
                let comparable = NormalForm::any(each(&|column| Atom::Comparable { column }));
                NormalForm::all([comparable, self.field(inner, columns).negate()])
            }
            Test::FieldRef { other, how, cased } => {
                let others = self.resolve(other);
                let mut pairs = Vec::new();
                for &left in columns {
                    for &right in &others {
                        let atom = Atom::Related { left, right, how: *how, cased: *cased };
                        pairs.push(NormalForm::atom(self.atoms.intern(atom)));
                    }
                }
                NormalForm::any(pairs)
            }
            _ => {
                let test = normal(test);
                NormalForm::any(each(&|column| Atom::Scalar { column, test: test.clone() }))
            }
        }
    }

    fn keyword(&mut self, test: &Test) -> NormalForm {
        match test {
            Test::Null | Test::Exists(false) | Test::FieldRef { .. } => NormalForm::FALSE,
            Test::Not(inner) => {
                let there = Atom::Keyword { test: Test::Exists(true) };
                let there = NormalForm::atom(self.atoms.intern(there));
                NormalForm::all([there, self.keyword(inner).negate()])
            }
            _ => NormalForm::atom(self.atoms.intern(Atom::Keyword { test: normal(test) })),
        }
    }
}

/// One spelling for predicates that mean the same: numbers and booleans are plain texts, patterns are folded.
fn normal(test: &Test) -> Test {
    let text = |text: &str, cased| normal_pattern(&Pattern(vec![Piece::Literal(text.into())]), cased);
    match test {
        Test::Text { pattern, cased } => normal_pattern(pattern, *cased),
        Test::Number(digits) => text(digits, true),
        Test::Bool(truth) => text(if *truth { "true" } else { "false" }, false),
        other => other.clone(),
    }
}

fn normal_pattern(pattern: &Pattern, cased: bool) -> Test {
    let caseless = |c: char| c.is_ascii() && !c.is_ascii_alphabetic();
    let cased = cased
        && pattern.0.iter().any(|piece| match piece {
            Piece::Literal(text) => !text.chars().all(caseless),
            Piece::One | Piece::Many => false,
        });
    let mut pieces: Vec<Piece> = Vec::new();
    for piece in &pattern.0 {
        match (pieces.last_mut(), piece) {
            (_, Piece::Literal(text)) if text.is_empty() => {}
            (Some(Piece::Many), Piece::Many) => {}
            (Some(Piece::Literal(before)), Piece::Literal(text)) => {
                let text = if cased { text.to_string() } else { fold(text) };
                *before = format!("{before}{text}").into();
            }
            (_, Piece::Literal(text)) if !cased => pieces.push(Piece::Literal(fold(text).into())),
            (_, piece) => pieces.push(piece.clone()),
        }
    }
    Test::Text { pattern: Pattern(pieces), cased }
}

/// Atoms one of which is true whenever a condition holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pivot {
    /// The sum of their weights.
    pub(crate) cost: f32,
    pub(crate) atoms: Vec<u32>,
    /// The condition holds whenever one of them is true.
    pub(crate) proof: bool,
}

/// How an atom serves as a pivot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weight {
    /// Roughly, how likely it is to be true; `None` if it cannot be a pivot.
    pub(crate) cost: Option<f32>,
    /// Whether being reported means being true.
    pub(crate) proof: bool,
}

/// The cheapest pivot of a condition, and what is left to decide once it is true. `None` if nothing is required.
pub(crate) fn pivot(condition: &NormalForm, weight: &dyn Fn(u32) -> Weight) -> Option<(Pivot, NormalForm)> {
    let NormalForm::All(parts) = condition else {
        let pivot = required(condition, weight)?;
        let rest = if pivot.proof { NormalForm::TRUE } else { condition.clone() };
        return Some((pivot, rest));
    };
    let pivots = parts.iter().enumerate().filter_map(|(at, part)| Some((at, required(part, weight)?)));
    let (at, pivot) = pivots.min_by(|(_, a), (_, b)| a.cost.total_cmp(&b.cost))?;
    let kept = |other: &usize| !(pivot.proof && *other == at);
    let rest = NormalForm::all((0..parts.len()).filter(kept).map(|at| parts[at].clone()));
    Some((pivot, rest))
}

fn required(condition: &NormalForm, weight: &dyn Fn(u32) -> Weight) -> Option<Pivot> {
    match condition {
        NormalForm::Atom { negated: true, .. } => None,
        NormalForm::Atom { atom, .. } => {
            let Weight { cost, proof } = weight(*atom);
            Some(Pivot { cost: cost?, atoms: vec![*atom], proof })
        }
        NormalForm::All(parts) => {
            let pivots = parts.iter().filter_map(|part| required(part, weight));
            let mut best = pivots.min_by(|a, b| a.cost.total_cmp(&b.cost))?;
            best.proof = false;
            Some(best)
        }
        NormalForm::Any(parts) => {
            let mut all = Pivot { cost: 0.0, atoms: Vec::new(), proof: true };
            for part in parts {
                let pivot = required(part, weight)?;
                all.cost += pivot.cost;
                all.atoms.extend(pivot.atoms);
                all.proof &= pivot.proof;
            }
            all.atoms.sort_unstable();
            all.atoms.dedup();
            Some(all)
        }
    }
}

/// Decisions, each about one atom; built backwards, so that a decision leads to smaller indices only.
#[derive(Debug, Default)]
pub(crate) struct Code(Vec<Decision>);

#[derive(Debug, Clone, Copy)]
struct Decision {
    atom: u32,
    yes: u32,
    no: u32,
}

impl Code {
    /// The entry that is true at once.
    pub(crate) const HOLDS: u32 = u32::MAX;
    const FAILS: u32 = u32::MAX - 1;

    /// Adds a condition; returns its entry.
    pub(crate) fn add(&mut self, condition: &NormalForm) -> u32 {
        self.emit(condition, Self::HOLDS, Self::FAILS)
    }

    fn emit(&mut self, condition: &NormalForm, yes: u32, no: u32) -> u32 {
        match condition {
            NormalForm::All(parts) => parts.iter().rev().fold(yes, |next, part| self.emit(part, next, no)),
            NormalForm::Any(parts) => parts.iter().rev().fold(no, |next, part| self.emit(part, yes, next)),
            NormalForm::Atom { atom, negated } => {
                let (yes, no) = if *negated { (no, yes) } else { (yes, no) };
                self.0.push(Decision { atom: *atom, yes, no });
                self.0.len() as u32 - 1
            }
        }
    }

    /// Whether the condition at this entry holds.
    #[inline]
    pub(crate) fn holds(&self, entry: u32, mut truth: impl FnMut(u32) -> bool) -> bool {
        let mut at = entry;
        while let Some(decision) = self.0.get(at as usize) {
            at = if truth(decision.atom) { decision.yes } else { decision.no };
        }
        at == Self::HOLDS
    }
}
