//! The rules that can apply to one kind of event, ready to run.
//!
//! In: all conditions and atoms of a program, the logsource an event gives itself, a [`Sample`]. Out: [`Class`]: a filter for each
//! field with pivots, the rules that each pivot wakes, and code for what is left to decide. At level `trace` it tells
//! each of its decisions, which says why a rule is dear: it is looked at for every event, or for many.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use vedette_event::RuleIx;

use crate::{
    condition::{Atom, Code, NormalForm, Weight, pivot},
    filter::{Buckets, Filter},
    literal::{Probe, Site},
    program::{AtomPlan, Program},
    training::Sample,
};

/// Pivots told of one rule.
const MOST_SHOWN: usize = 8;

/// What an event (or a rule) names of product, category and service: 0 for nothing, 1 for what no rule names.
pub(crate) type Names = [u16; 3];

/// Whether a rule applies to an event: unless both name a key and differ.
pub(crate) fn applies(rule: Names, event: Names) -> bool {
    rule.iter().zip(event).all(|(rule, event)| *rule == 0 || event == 0 || *rule == event)
}

/// A detection rule as a program keeps it.
#[derive(Debug)]
pub(crate) struct ProgramRule {
    pub(crate) ix: RuleIx,
    /// What people call it.
    pub(crate) title: Arc<str>,
    pub(crate) names: Names,
    pub(crate) condition: NormalForm,
}

/// The compiled rules of one class of events.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) rules: Vec<ClassRule>,
    pub(crate) code: Code,
    /// Fields with atoms to look for.
    pub(crate) fields: Vec<ClassField>,
    /// By atom: the rules that it wakes.
    pub(crate) wakes: Buckets<u32>,
    /// Rules that nothing wakes: they are decided for every event.
    pub(crate) always: Vec<u32>,
    /// Over the text of the event: keyword atoms that may hold.
    pub(crate) keywords: Option<Filter>,
    /// All atoms in `keywords`.
    pub(crate) keyword_atoms: Vec<u32>,
    /// Bit set: the atom is decided by a field's filter.
    eager: Vec<u64>,
    /// Bit set: the keyword atom is in `keywords`, so that it is false if not reported.
    searched: Vec<u64>,
}

/// A rule of a class.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClassRule {
    pub(crate) ix: RuleIx,
    pub(crate) names: Names,
    pub(crate) entry: u32,
}

/// A field of a class.
#[derive(Debug)]
pub(crate) struct ClassField {
    pub(crate) column: u32,
    atoms: Vec<u32>,
    /// Built when the field first has a value: of the hundreds of fields that SigmaHQ names, events of a class have some dozens, and
    /// to build all filters took a fifth of the time in which 60,000 Windows events are evaluated.
    filter: OnceLock<Filter>,
}

impl ClassField {
    /// Finds what may hold of the field's values.
    #[inline]
    pub(crate) fn filter(&self, program: &Program) -> &Filter {
        let probe = |atom: &u32| Some((*atom, &program.atoms.get(*atom as usize)?.probe));
        self.filter.get_or_init(|| Filter::new(self.atoms.iter().filter_map(probe)))
    }
}

impl Class {
    fn empty(program: &Program) -> Self {
        Self {
            rules: Vec::new(),
            code: Code::default(),
            fields: Vec::new(),
            wakes: Buckets::default(),
            always: Vec::new(),
            keywords: None,
            keyword_atoms: Vec::new(),
            eager: vec![0; program.atoms.len().div_ceil(64)],
            searched: vec![0; program.atoms.len().div_ceil(64)],
        }
    }

    /// Compiles the rules that apply to events which name this. Of several possible pivots a rule gets the one least
    /// likely to be true by the sample.
    pub(crate) fn trained(program: &Program, names: Names, sample: &Sample) -> Self {
        let weight = |atom: u32| sample.weight(atom, program.atoms[atom as usize].weight);
        let mut class = Self::empty(program);
        class.compile(program, names, &weight, true);
        class.build_filters(program);
        class
    }

    /// Compiles all rules, before any event has been seen: pivots are guessed, and all atoms that could be pivots are decided by
    /// filters, so that what holds of an event is a sample of what holds of its class.
    pub(crate) fn general(program: &Program) -> Self {
        let mut class = Self::empty(program);
        class.compile(program, [0; 3], &|atom| program.atoms[atom as usize].weight, false);
        for (at, plan) in program.atoms.iter().enumerate() {
            if plan.weight.cost.is_some() && plan.probe != Probe::Always {
                set(&mut class.eager, at as u32);
            }
        }
        class.build_filters(program);
        class
    }

    fn compile(&mut self, program: &Program, names: Names, weight: &dyn Fn(u32) -> Weight, trained: bool) {
        let (mut wakes, mut others) = (Vec::new(), Vec::new());
        for rule in program.rules.iter().filter(|rule| applies(rule.names, names)) {
            if rule.condition == NormalForm::Any(Vec::new()) {
                continue;
            }
            let at = self.rules.len() as u32;
            let rest = match pivot(&rule.condition, weight) {
                Some((pivot, rest)) => {
                    tracing::trace!(
                        rule = %rule.title, trained, share = pivot.cost,
                        at = %Shown(program, &pivot.atoms), "looked at where one of these may hold"
                    );
                    wakes.extend(pivot.atoms.iter().map(|atom| (u64::from(*atom), at)));
                    rest
                }
                None => {
                    tracing::trace!(rule = %rule.title, "looked at for every event: no part of it that must hold can be searched for");
                    self.always.push(at);
                    rule.condition.clone()
                }
            };
            rest.each_atom(&mut |atom| self.note_eager(program, atom));
            rest.each_atom(&mut |atom| others.push(atom));
            let entry = self.code.add(&rest);
            self.rules.push(ClassRule { ix: rule.ix, names: rule.names, entry });
        }
        wakes.iter().for_each(|(atom, _)| set(&mut self.eager, *atom as u32));
        let pivots: Vec<u32> = wakes.iter().map(|(atom, _)| *atom as u32).collect();
        self.search_other_keywords(program, &pivots, &others);
        self.wakes = Buckets::new(wakes);
    }

    /// Atoms that a filter finds at little cost are decided with the pivots; others when a rule asks for them.
    fn note_eager(&mut self, program: &Program, atom: u32) {
        if program.atoms[atom as usize].eager {
            set(&mut self.eager, atom);
        }
    }

    /// Where the text of events is searched for keywords that wake rules, other keywords are looked for in the same pass,
    /// so long as they are no shorter: of those that are not there nobody need ask.
    fn search_other_keywords(&mut self, program: &Program, pivots: &[u32], others: &[u32]) {
        let shortest = |atom: &u32| match &program.atoms[*atom as usize] {
            AtomPlan { atom: Atom::Keyword { .. }, probe: Probe::Literals { any_of, .. }, .. } => {
                any_of.iter().map(String::len).min()
            }
            _ => None,
        };
        let Some(floor) = pivots.iter().filter_map(shortest).min() else { return };
        for atom in others {
            if shortest(atom).is_some_and(|len| len >= floor.max(4)) {
                set(&mut self.eager, *atom);
            }
        }
    }

    /// Whether an atom is decided by a field's filter.
    #[inline]
    pub(crate) fn is_eager(&self, atom: u32) -> bool {
        is_set(&self.eager, atom)
    }

    /// Whether a keyword atom that [`Class::keywords`] does not report is false.
    #[inline]
    pub(crate) fn is_searched(&self, atom: u32) -> bool {
        is_set(&self.searched, atom)
    }

    fn build_filters(&mut self, program: &Program) {
        let mut columns: Vec<Vec<u32>> = vec![Vec::new(); program.columns.len()];
        let mut keywords = Vec::new();
        for (at, plan) in program.atoms.iter().enumerate() {
            let at = at as u32;
            if !self.is_eager(at) {
                continue;
            }
            match plan {
                AtomPlan { atom: Atom::Scalar { column, .. }, .. } => columns[*column as usize].push(at),
                AtomPlan { atom: Atom::Keyword { .. }, probe, .. } => {
                    self.keyword_atoms.push(at);
                    keywords.push((at, probe));
                    self.eager[at as usize / 64] &= !(1 << (at % 64));
                    set(&mut self.searched, at);
                }
                _ => {}
            }
        }
        for (column, atoms) in columns.into_iter().enumerate() {
            if !atoms.is_empty() {
                self.fields.push(ClassField { column: column as u32, atoms, filter: OnceLock::new() });
            }
        }
        self.keywords = (!keywords.is_empty()).then(|| Filter::new(keywords));
    }
}

/// Atoms, as people read them.
struct Shown<'p>(&'p Program, &'p [u32]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(program, atoms) = *self;
        for (n, plan) in atoms.iter().filter_map(|atom| program.atoms.get(*atom as usize)).enumerate() {
            if n == MOST_SHOWN {
                return write!(f, " or {} more", atoms.len() - n);
            }
            let field = match &plan.atom {
                Atom::Scalar { column, .. } => program.columns.get(*column as usize).map_or("", |name| name),
                _ => "any text",
            };
            let or = if n > 0 { " or " } else { "" };
            match &plan.probe {
                Probe::Literals { site, any_of, .. } => write!(f, "{or}{field} {} {any_of:?}", site.verb())?,
                Probe::Network(network) => write!(f, "{or}{field} in {network}")?,
                Probe::Always => write!(f, "{or}{field} has any value")?,
            }
        }
        Ok(())
    }
}

fn set(bits: &mut [u64], at: u32) {
    bits[at as usize / 64] |= 1 << (at % 64);
}

#[inline]
fn is_set(bits: &[u64], at: u32) -> bool {
    bits.get(at as usize / 64).is_some_and(|bits| bits & (1 << (at % 64)) != 0)
}

/// How an atom serves as a pivot, guessed from what it looks for.
pub(crate) fn weight(atom: &Atom, probe: &Probe) -> Weight {
    let likely = |site: &Site, literal: &String| {
        let len = literal.len() as f32;
        match site {
            Site::Whole if literal.bytes().all(|b| b.is_ascii_digit()) => 0.3 / (1.0 + len),
            Site::Whole => 0.3 / (1.0 + len).powf(1.5),
            Site::Start | Site::End => 0.6 / (1.0 + len).powf(1.5),
            Site::Anywhere => 1.0 / (1.0 + len).powf(1.5),
        }
    };
    let cost = match (atom, probe) {
        (Atom::Scalar { .. }, Probe::Literals { site, any_of, .. }) => {
            Some(any_of.iter().map(|literal| likely(site, literal)).sum())
        }
        (Atom::Scalar { .. }, Probe::Always) => Some(2.0),
        // An address in ten, if it is a wide one; unlike literals, many networks make one pass.
        (Atom::Scalar { .. }, Probe::Network(_)) => Some(0.1),
        (Atom::Keyword { .. }, Probe::Literals { any_of, .. }) => {
            Some(0.05 + any_of.iter().map(|literal| likely(&Site::Anywhere, literal)).sum::<f32>())
        }
        _ => None,
    };
    Weight { cost, proof: matches!(atom, Atom::Scalar { .. }) }
}

/// What the raw text of an event must hold for a keyword to be in one of its strings: the longest part of each literal
/// that JSON never escapes, so long as the text hides no characters ([`crate::json::hides_characters`]).
pub(crate) fn raw_probe(probe: Probe) -> Probe {
    let plain = |c: char| c.is_ascii() && !c.is_ascii_control() && c != '"' && c != '\\';
    let Probe::Literals { any_of, ascii_only, .. } = probe else { return Probe::Always };
    let parts: Option<Vec<String>> = any_of
        .iter()
        .map(|literal| {
            let longest = literal.split(|c| !plain(c)).max_by_key(|part| part.len())?;
            (!longest.is_empty()).then(|| longest.to_owned())
        })
        .collect();
    match parts {
        Some(any_of) => Probe::Literals { site: Site::Anywhere, any_of, proof: false, ascii_only },
        None => Probe::Always,
    }
}
