//! Rules compiled for one source.
//!
//! In: the rule set, the source and the names of the batch's columns. Out: [`Program`], shared by threads.
//! Invariants: identical predicates of all rules are one atom; which classes have been compiled, and when, changes speed
//! alone. A regular expression that cannot be compiled matches nothing: the rule loader refuses such rules.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};
use vedette_event::{EventBatch, Kind, RuleIx, SourceDef, SourceIx, Sources, source::Form};
use vedette_sigma::{Detection, RuleKind, RuleSet, Test};

use crate::{
    class::{Class, Names, ProgramRule, raw_probe, weight},
    condition::{Atom, Atoms, Lowering, Weight},
    literal::{Probe, Site},
    matcher::Matcher,
    training::Training,
    work::Prices,
};

/// The canonical columns that the rules which can apply to a source need; with `product`, `category` and `service` where
/// events name their own logsource.
#[must_use]
pub fn needed_fields(rules: &RuleSet, source: &SourceDef) -> BTreeSet<Arc<str>> {
    // Rules name a few hundred fields, ten thousands of times.
    let mut written: HashSet<&str, FixedState> = HashSet::default();
    for (_, detection) in applicable(rules, source) {
        for leaf in &detection.leaves {
            if let Some(field) = &leaf.field {
                written.insert(field);
                other_fields(&leaf.test, &mut |field| written.extend([field]));
            }
        }
    }
    let columns = written.into_iter().flat_map(|field| source.resolve(field));
    let mut needed: BTreeSet<Arc<str>> = columns.map(Arc::from).collect();
    if source.own_logsource() {
        needed.extend(["product", "category", "service"].map(Arc::from));
    }
    needed
}

/// Whether some rule that can apply to a source searches its records for keywords.
#[must_use]
pub fn searches_records(rules: &RuleSet, source: &SourceDef) -> bool {
    applicable(rules, source).any(|(_, detection)| detection.leaves.iter().any(|leaf| leaf.field.is_none()))
}

/// Calls `add` with each field that a predicate refers to beside its own.
fn other_fields<'t>(test: &'t Test, add: &mut impl FnMut(&'t str)) {
    match test {
        Test::FieldRef { other, .. } => add(other),
        Test::Not(inner) => other_fields(inner, add),
        _ => {}
    }
}

/// The detection rules that can apply to events of a source.
pub(crate) fn applicable<'r>(
    rules: &'r RuleSet,
    source: &SourceDef,
) -> impl Iterator<Item = (RuleIx, &'r Detection)> {
    rules.iter().filter_map(move |(ix, rule)| match &rule.kind {
        RuleKind::Detection(detection) if source.concerns(&detection.logsource) => Some((ix, detection)),
        _ => None,
    })
}

/// Classes compiled at most; events of further ones are looked at with all rules.
const MAX_CLASSES: usize = 128;

/// Rules of a piece at least: some two milliseconds of work, and a thread takes a tenth of that to start. In tests each rule is one.
const RULES_A_PIECE: usize = if cfg!(test) { 1 } else { 256 };

/// What events name that name nothing: all rules apply to them.
const NOTHING: Names = [0; 3];

/// An atom with all that is known about it.
#[derive(Debug)]
pub(crate) struct AtomPlan {
    pub(crate) atom: Atom,
    /// Made when a text is first looked at with it. Of SigmaHQ's ten thousands most never are: where finding a literal is proof nobody asks.
    matcher: OnceLock<Matcher>,
    pub(crate) probe: Probe,
    pub(crate) weight: Weight,
    /// Its field's filter finds it at so little cost that it is decided before any rule asks.
    pub(crate) eager: bool,
}

impl AtomPlan {
    fn new(atom: Atom) -> Self {
        let probe = match &atom {
            Atom::Scalar { test, .. } => Probe::of(test),
            Atom::Keyword { test } => raw_probe(Probe::of(test)),
            _ => Probe::Always,
        };
        let eager = match (&atom, &probe) {
            (Atom::Scalar { .. }, Probe::Literals { site: Site::Anywhere, any_of, proof: true, .. }) => {
                any_of.iter().all(|literal| literal.len() >= 4)
            }
            (Atom::Scalar { .. }, Probe::Literals { proof, .. }) => *proof,
            (Atom::Scalar { .. }, Probe::Network(_)) => true,
            _ => false,
        };
        Self { weight: weight(&atom, &probe), atom, matcher: OnceLock::new(), probe, eager }
    }

    /// What decides it of a text.
    #[inline]
    pub(crate) fn matcher(&self) -> &Matcher {
        self.matcher.get_or_init(|| match &self.atom {
            Atom::Scalar { test, .. } | Atom::Keyword { test } => Matcher::new(test),
            _ => Matcher::Constant(false),
        })
    }
}

/// All detection rules that can apply to one source, shared by threads. What is compiled is compiled once for all of them: a thread that
/// compiled for itself would have nothing to gain from being one of several until it has (a quarter of a second with all of SigmaHQ).
#[derive(Debug)]
pub struct Program {
    pub(crate) rules: Vec<ProgramRule>,
    pub(crate) atoms: Vec<AtomPlan>,
    /// The columns of a batch, by name.
    pub(crate) columns: Vec<Arc<str>>,
    /// Where `product`, `category` and `service` are, if events name their own logsource.
    pub(crate) own: Option<[Option<usize>; 3]>,
    /// Keywords see the record as one text.
    pub(crate) whole_record: bool,
    /// What rules name of each key, lower case.
    names: [HashMap<String, u16, FixedState>; 3],
    /// What all of it costs.
    pub(crate) prices: Prices,
    /// For events of classes that are not compiled yet.
    general: OnceLock<Arc<Class>>,
    classes: Mutex<HashMap<Names, Arc<Training>, FixedState>>,
}

/// Who runs pieces of work side by side: this crate starts no thread. Lowering SigmaHQ's 3,000 rules takes 23 ms in one piece and 18 in
/// two: what the pieces have in common is found as they are joined.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    pieces: usize,
    run: fn(usize, &(dyn Fn(usize) + Sync)),
}

impl Spread {
    /// One piece after the other, on the caller's thread.
    pub const HERE: Self = Self::new(1, |pieces, work| (0..pieces).for_each(work));

    /// So many pieces at most; `run` calls what it is given once for each of so many, by number.
    #[must_use]
    pub const fn new(pieces: usize, run: fn(usize, &(dyn Fn(usize) + Sync))) -> Self {
        Self { pieces, run }
    }

    /// What comes of each of these slices, in their order.
    fn over<T: Sync, R: Send + Sync>(&self, items: &[T], each: impl Fn(&[T]) -> R + Sync) -> Vec<R> {
        let pieces = self.pieces.min(items.len() / RULES_A_PIECE).max(1);
        let slices: Vec<&[T]> = items.chunks(items.len().div_ceil(pieces).max(1)).collect();
        let done: Vec<OnceLock<R>> = slices.iter().map(|_| OnceLock::new()).collect();
        (self.run)(slices.len(), &|piece| {
            if let (Some(slice), Some(done)) = (slices.get(piece), done.get(piece)) {
                done.get_or_init(|| each(slice));
            }
        });
        let of = |(slice, done): (&[T], OnceLock<R>)| done.into_inner().unwrap_or_else(|| each(slice));
        slices.into_iter().zip(done).map(of).collect()
    }
}

/// Some rules, lowered.
struct Part {
    rules: Vec<ProgramRule>,
    atoms: Atoms,
    prices: Prices,
}

impl Part {
    /// Takes in the rules behind its own, as if all had been lowered one after the other.
    fn append(mut self, mut behind: Self) -> Self {
        let places = self.atoms.append(behind.atoms);
        behind.rules.iter_mut().for_each(|rule| rule.condition.renumber(&places));
        self.rules.append(&mut behind.rules);
        self.prices.append(behind.prices);
        self
    }
}

impl Program {
    /// Compiles the rules for a source whose batches have these columns, in this order (a superset of [`needed_fields`]).
    #[must_use]
    pub fn compile(rules: &RuleSet, source: SourceIx, sources: &Sources, fields: &[Arc<str>]) -> Self {
        Self::compile_on(Spread::HERE, rules, sources.get(source), fields)
    }

    /// The same, rules side by side.
    #[must_use]
    pub fn compile_on(spread: Spread, rules: &RuleSet, source: &SourceDef, fields: &[Arc<str>]) -> Self {
        Self::of(spread, rules, applicable(rules, source), source, fields)
    }

    /// Compiles one rule alone, to see what it costs; `None` if it cannot apply to the source. The columns are those of all rules.
    #[must_use]
    pub fn alone(rules: &RuleSet, rule: RuleIx, source: &SourceDef, fields: &[Arc<str>]) -> Option<Self> {
        let RuleKind::Detection(detection) = &rules.get(rule).kind else { return None };
        let applies = source.concerns(&detection.logsource);
        applies.then(|| Self::of(Spread::HERE, rules, [(rule, detection)], source, fields))
    }

    fn of<'r>(
        spread: Spread,
        rules: &'r RuleSet,
        detections: impl IntoIterator<Item = (RuleIx, &'r Detection)>,
        source: &SourceDef,
        fields: &[Arc<str>],
    ) -> Self {
        let mut names: [HashMap<String, u16, FixedState>; 3] = Default::default();
        let named = detections.into_iter().map(|(ix, detection)| {
            let logsource = &detection.logsource;
            let keys = [&logsource.product, &logsource.category, &logsource.service];
            let mut ids = [0; 3];
            if source.own_logsource() {
                for ((id, key), known) in ids.iter_mut().zip(keys).zip(&mut names) {
                    *id = key.as_ref().map_or(0, |key| intern(known, key));
                }
            }
            (ix, ids, detection)
        });
        let named: Vec<(RuleIx, Names, &Detection)> = named.collect();
        let parts = spread.over(&named, |named| {
            let mut lowering = Lowering::new(source, fields);
            let mut prices = Prices::new(fields.len());
            let rule = |(ix, names, detection): &(RuleIx, Names, &Detection)| {
                prices.add((*ix, *names), detection, source, |name| lowering.columns.get(name).copied());
                let title = rules.get(*ix).title.clone();
                ProgramRule { ix: *ix, title, names: *names, condition: lowering.detection(detection) }
            };
            Part { rules: named.iter().map(rule).collect(), atoms: lowering.atoms, prices }
        });
        let Part { rules, atoms, prices } = parts.into_iter().reduce(Part::append).unwrap_or_else(|| Part {
            rules: Vec::new(),
            atoms: Atoms::default(),
            prices: Prices::new(fields.len()),
        });
        let own = source.own_logsource().then(|| {
            ["product", "category", "service"].map(|key| fields.iter().position(|field| **field == *key))
        });
        Self {
            rules,
            atoms: atoms.list.into_iter().map(AtomPlan::new).collect(),
            columns: fields.to_vec(),
            own,
            whole_record: source.form == Form::PanosCsv,
            names,
            prices,
            general: OnceLock::new(),
            classes: Mutex::default(),
        }
    }

    /// The number of what an event names of a key: 1 if no rule names it.
    pub(crate) fn name(&self, key: usize, text: &str) -> u16 {
        self.names[key].get(&text.to_lowercase()).copied().unwrap_or(1)
    }

    /// What an event names of product, category and service.
    pub(crate) fn names_of(&self, batch: &EventBatch, row: usize) -> Names {
        let mut names = [0; 3];
        for (key, column) in self.own.iter().flatten().enumerate() {
            let cell = column.and_then(|at| batch.columns().get(at)).map(|column| column.cell(row));
            if let Some(cell) = cell.filter(|cell| cell.kind == Kind::Text) {
                names[key] = self.name(key, cell.text);
            }
        }
        names
    }

    /// All rules, which reports what a class's sample is made of.
    pub(crate) fn general(&self) -> &Arc<Class> {
        self.general.get_or_init(|| Arc::new(Class::general(self)))
    }

    /// The class of events that name this; beyond a limit the one of events that name nothing, whose rules include all others'.
    pub(crate) fn training(&self, names: Names) -> Arc<Training> {
        let mut classes = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
        let names = if classes.len() < MAX_CLASSES || classes.contains_key(&names) { names } else { NOTHING };
        Arc::clone(classes.entry(names).or_insert_with(|| Arc::new(Training::new(names))))
    }

    /// Classes of events that were seen, and how many of them are compiled.
    #[cfg(test)]
    pub(crate) fn classes(&self) -> (usize, usize) {
        let classes = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
        (classes.len(), classes.values().filter(|training| training.class().is_some()).count())
    }
}

fn intern(known: &mut HashMap<String, u16, FixedState>, key: &str) -> u16 {
    let next = u16::try_from(known.len() + 2).unwrap_or(u16::MAX);
    *known.entry(key.to_lowercase()).or_insert(next)
}
