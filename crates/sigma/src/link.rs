//! Joins drafts into a rule set: unique ids, references, order, who emits, what each rule means.
//!
//! In: drafts and faults, in the order of files and documents. Out: [`RuleSet`].
//! Invariants: a correlation is placed after all it refers to, and otherwise the order of files and documents is kept;
//! a correlation over anything refused is refused; no recursion, so chains and cycles of any length cost no stack.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use vedette_event::{RuleIx, SourceIx, Sources};

use crate::{
    Correlation, Detection, KeyPart, Rejection, Rule, RuleKind, RuleSet,
    correlation::{Alias, RawCorrelation},
    document::{Body, Draft, Head, Label},
    fault::{Fault, Place, nearest, shown},
    lint,
    meaning::{self, Meaning},
};

/// Longest chain of correlations over correlations.
const MAX_CHAIN: usize = 16;

/// Most references of a correlation and of all correlations below it, each counted once. Each event that one of its
/// detections matches is tried at each of them, and a tree is built for each rule that raises alerts: without a bound a
/// file of 4 MiB could ask for billions.
const MAX_TREE: usize = 4096;

/// Most references of all such trees of a rule set together.
const MAX_TREES: usize = 1 << 20;

/// Among how many documents of its file the name nearest to an unknown one is looked for, and for how many of these.
const MAX_ADVICE: usize = 64;

/// Collects documents, then joins them.
#[derive(Default)]
pub(crate) struct Linker {
    items: Vec<Item>,
    /// Every id's first document.
    ids: BTreeMap<Arc<str>, usize>,
    /// Every name's documents.
    names: BTreeMap<Arc<str>, Named>,
    /// How many unknown names were met.
    unknown: Cell<usize>,
    rejected: Vec<Rejection>,
    warnings: Vec<Rejection>,
}

/// The documents of one name: the first, and whether there are more; of all files, and by file.
#[derive(Default)]
struct Named {
    all: Option<(usize, bool)>,
    by_file: BTreeMap<Arc<str>, (usize, bool)>,
}

/// Why a reference names no document.
enum Unfound {
    Unknown,
    /// Several have the name; the first of them.
    Ambiguous(usize),
}

/// A document and what became of it.
struct Item {
    label: Label,
    /// Taken out when it is placed; `None` too if the document was refused.
    draft: Option<Draft>,
    /// The documents it refers to and where, in the order written.
    references: Vec<(usize, Place)>,
    emits: bool,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Waiting,
    Refused,
    Off,
    Placed(RuleIx),
}

/// What ids of scheduled hunts begin with, as their alerts name them.
const HUNTS: &str = "hunt:";

/// Why no rule may have an id of a scheduled hunt: its alerts would be taken for those of the hunt.
fn reserved(label: &Label) -> Fault {
    let message = format!("the id {} is one of a scheduled hunt", shown(&label.id));
    Fault::new(label.id_at.unwrap_or(label.at), "reserved-id", message)
        .help("give the rule an id that does not begin with `hunt:`")
}

/// What is known of a placed rule beside the rule.
struct Placed {
    /// Sources whose events it may see.
    sources: BTreeSet<SourceIx>,
    /// Correlations above detections.
    chain: usize,
}

impl Linker {
    /// Takes a document, read or refused.
    pub fn add(&mut self, label: Label, draft: Result<Draft, Fault>) {
        let position = self.items.len();
        let first = self.ids.get(&label.id).and_then(|at| self.items.get(*at)).map(|item| &item.label);
        let draft = match first {
            Some(first) => {
                let message =
                    format!("the id {} is taken by {}:{}", shown(&label.id), first.file, first.at.line);
                Err(Fault::new(label.id_at.unwrap_or(label.at), "duplicate-id", message)
                    .help("give the rule an id of its own"))
            }
            None => {
                self.ids.insert(label.id.clone(), position);
                if label.id.starts_with(HUNTS) { Err(reserved(&label)) } else { draft }
            }
        };
        if let Some(name) = &label.name {
            let named = self.names.entry(name.clone()).or_default();
            named.all = Some(named.all.map_or((position, false), |(first, _)| (first, true)));
            let here = named.by_file.entry(label.file.clone());
            here.and_modify(|(_, several)| *several = true).or_insert((position, false));
        }
        self.items.push(Item {
            label,
            draft: None,
            references: Vec::new(),
            emits: true,
            fate: Fate::Waiting,
        });
        match draft {
            Ok(draft) => self.items[position].draft = Some(draft),
            Err(fault) => self.refuse(position, fault),
        }
    }

    /// Takes a file that is no YAML.
    pub fn reject_file(&mut self, fault: Fault, file: &Arc<str>) {
        self.rejected.push(fault.reject(file, None));
    }

    fn refuse(&mut self, position: usize, fault: Fault) {
        let item = &mut self.items[position];
        item.draft = None;
        item.fate = Fate::Refused;
        self.rejected.push(fault.reject(&item.label.file, Some(item.label.id.clone())));
    }

    /// Resolves what the documents refer to, and places them.
    pub fn finish(mut self, sources: &Sources) -> RuleSet {
        self.resolve_references();
        self.decide_emission();
        let mut output = Output {
            sources,
            rules: Vec::new(),
            placed: Vec::new(),
            walks: 0,
            visited: Vec::new(),
            trees: 0,
        };
        let mut waiting: Vec<usize> = vec![0; self.items.len()];
        let mut dependants: Vec<Vec<usize>> = vec![Vec::new(); self.items.len()];
        for (position, item) in self.items.iter().enumerate() {
            for target in item.references.iter().map(|(target, _)| *target).collect::<BTreeSet<_>>() {
                waiting[position] += 1;
                dependants[target].push(position);
            }
        }
        let mut ready: BTreeSet<usize> = (0..self.items.len()).filter(|p| waiting[*p] == 0).collect();
        while let Some(position) = ready.pop_first() {
            self.place(position, &mut output);
            for dependant in std::mem::take(&mut dependants[position]) {
                waiting[dependant] -= 1;
                if waiting[dependant] == 0 {
                    ready.insert(dependant);
                }
            }
        }
        self.refuse_cycles();
        self.rejected.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        self.warnings.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        RuleSet { rules: output.rules, rejected: self.rejected, warnings: self.warnings }
    }

    fn resolve_references(&mut self) {
        for position in 0..self.items.len() {
            let item = &self.items[position];
            let Some(Draft { body: Body::Correlation(raw), .. }) = &item.draft else { continue };
            let resolved: Result<Vec<_>, Fault> = raw
                .rules
                .iter()
                .map(|(name, at)| Ok((self.find(name, &item.label.file, *at)?, *at)))
                .collect();
            let resolved = resolved.and_then(|references| match repeated(&references) {
                Some(at) => {
                    Err(Fault::new(at, "repeated-rule", "the correlation refers to this rule already")
                        .help("list each rule once"))
                }
                None => Ok(references),
            });
            match resolved {
                Ok(references) => self.items[position].references = references,
                Err(fault) => self.refuse(position, fault),
            }
        }
    }

    /// The document that an id or a name stands for: an id written as such, a name in the same file, a name elsewhere.
    fn look_up(&self, name: &str, file: &str) -> Result<usize, Unfound> {
        let by_id = self.ids.get(name).copied();
        let called = |position: &usize| self.items[*position].label.name.as_deref() == Some(name);
        if let Some(id) = by_id.filter(|id| !called(id)) {
            return Ok(id);
        }
        let named = self.names.get(name);
        let here = named.and_then(|named| named.by_file.get(file));
        match here.or(named.and_then(|named| named.all.as_ref())) {
            Some((only, false)) => Ok(*only),
            Some((first, true)) => Err(Unfound::Ambiguous(*first)),
            None => Err(Unfound::Unknown),
        }
    }

    /// The same, or what is wrong with the reference that stands at `at`.
    fn find(&self, name: &str, file: &str, at: Place) -> Result<usize, Fault> {
        self.look_up(name, file).map_err(|unfound| match unfound {
            Unfound::Unknown => {
                let fault =
                    Fault::new(at, "unknown-rule", format!("no rule has the id or name {}", shown(name)));
                match self.nearest(name, file) {
                    Some(near) => fault.help(format!("did you mean `{near}`?")),
                    None => fault.help("load the file that holds it together with this one"),
                }
            }
            Unfound::Ambiguous(first) => {
                let label = &self.items[first].label;
                let message = format!(
                    "several rules have the name {}; one is {}:{}",
                    shown(name),
                    label.file,
                    label.at.line
                );
                Fault::new(at, "ambiguous-rule", message).help("refer to the rule by its id")
            }
        })
    }

    /// The id or name of a document of the file that is nearest to an unknown one; of the first unknown ones only.
    fn nearest(&self, name: &str, file: &str) -> Option<&str> {
        self.unknown.set(self.unknown.get() + 1);
        if self.unknown.get() > MAX_ADVICE {
            return None;
        }
        let here = self.items.iter().filter(|item| &*item.label.file == file).take(MAX_ADVICE);
        let names = here.flat_map(|item| [Some(&item.label.id), item.label.name.as_ref()]).flatten();
        nearest(name, &names.map(|n| &**n).collect::<Vec<_>>())
    }

    /// `generate` governs the rules referred to directly in the same file; one `true` is enough.
    ///
    /// It is read from the labels, so that a refused correlation does not set its rules loose.
    fn decide_emission(&mut self) {
        let mut governed: BTreeMap<usize, bool> = BTreeMap::new();
        for item in &self.items {
            for name in &item.label.governs {
                if let Ok(target) = self.look_up(name, &item.label.file)
                    && self.items[target].label.file == item.label.file
                {
                    *governed.entry(target).or_default() |= item.label.generate;
                }
            }
        }
        for (position, emits) in governed {
            self.items[position].emits = emits;
        }
    }

    fn place(&mut self, position: usize, output: &mut Output<'_>) {
        if self.items[position].fate != Fate::Waiting {
            return;
        }
        let references = self.items[position].references.clone();
        for (target, at) in &references {
            let other = &self.items[*target].label;
            let (code, what) = match self.items[*target].fate {
                Fate::Placed(_) => continue,
                Fate::Off => ("refers-to-off", "is switched off"),
                Fate::Refused | Fate::Waiting => ("refers-to-refused", "was refused"),
            };
            let message = format!("the rule {} ({}:{}) {what}", shown(&other.id), other.file, other.at.line);
            return self.refuse(position, Fault::new(*at, code, message));
        }
        let Some(Draft { mut head, body, meaning }) = self.items[position].draft.take() else { return };
        let children: Vec<(RuleIx, usize, Place)> = references
            .iter()
            .filter_map(|(target, at)| match self.items[*target].fate {
                Fate::Placed(ix) => Some((ix, *target, *at)),
                _ => None,
            })
            .collect();
        if let Err(fault) = output.admit(&children, head.label.at, self.items[position].emits) {
            return self.refuse(position, fault);
        }
        let mut warnings = std::mem::take(&mut head.warnings);
        let lowered = match body {
            Body::Detection(detection) => Ok(RuleKind::Detection(detection)),
            Body::Correlation(raw) => self
                .correlation(&raw, &children, &head.label.file, output, &mut warnings)
                .map(RuleKind::Correlation),
        };
        let kind = match lowered {
            Ok(kind) => kind,
            Err(fault) => return self.refuse(position, fault),
        };
        if let Some(at) = head.off {
            warnings.push(Fault::new(at, "switched-off", "the rule is switched off and does not run"));
        }
        let (file, id) = (head.label.file.clone(), head.label.id.clone());
        self.warnings.extend(warnings.into_iter().map(|warning| warning.reject(&file, Some(id.clone()))));
        if head.off.is_some() {
            self.items[position].fate = Fate::Off;
            return;
        }
        let emits = self.items[position].emits;
        self.items[position].fate = Fate::Placed(output.push(head, kind, meaning, emits));
    }

    fn correlation(
        &self,
        raw: &RawCorrelation,
        children: &[(RuleIx, usize, Place)],
        file: &str,
        output: &Output<'_>,
        warnings: &mut Vec<Fault>,
    ) -> Result<Correlation, Fault> {
        for (ix, _, at) in children {
            if let Some(RuleKind::Correlation(child)) = output.rules.get(ix.0 as usize).map(|rule| &rule.kind)
                && child.judged()
            {
                let message =
                    "a chain over a correlation that is judged when its window ends is not possible";
                return Err(Fault::new(*at, "chain-over-judged", message)
                    .help("only `gt` and `gte` are decided at an event"));
            }
            if output.placed[ix.0 as usize].chain >= MAX_CHAIN {
                let message = format!("correlations over correlations go at most {MAX_CHAIN} levels deep");
                return Err(Fault::new(*at, "chain-too-long", message));
            }
        }
        let mut correlation = Correlation {
            kind: raw.kind.clone(),
            rules: children.iter().map(|(ix, ..)| *ix).collect(),
            group_by: raw
                .group_by
                .iter()
                .map(|(name, _)| KeyPart { name: name.clone(), fields: Vec::new() })
                .collect(),
            timespan: raw.timespan,
            condition: raw.condition.clone(),
        };
        if correlation.kind == crate::CorrelationKind::Temporal && correlation.condition.is_empty() {
            correlation.condition = vec![(crate::Cmp::Gte, children.len() as u64)];
        }
        for alias in &raw.aliases {
            let fields = self.alias(alias, children, file)?;
            match correlation.group_by.iter_mut().find(|part| part.name == alias.name) {
                Some(part) => part.fields = fields,
                None => {
                    let message = format!("the group key does not use the alias {}", shown(&alias.name));
                    warnings.push(Fault::new(alias.at, "unused-alias", message));
                }
            }
        }
        for (part, (_, at)) in correlation.group_by.iter().zip(&raw.group_by) {
            output.refuse_list(part, &correlation.rules, *at)?;
        }
        lint::correlation(&correlation, raw, warnings);
        output.warn_of_resolutions(&correlation, raw.kind_at, warnings);
        Ok(correlation)
    }

    fn alias(
        &self,
        alias: &Alias,
        children: &[(RuleIx, usize, Place)],
        file: &str,
    ) -> Result<Vec<(RuleIx, Arc<str>)>, Fault> {
        let mut fields: Vec<(RuleIx, Arc<str>)> = Vec::new();
        for (name, at, field) in &alias.fields {
            let target = self.find(name, file, *at)?;
            let Some((ix, ..)) = children.iter().find(|(_, position, _)| *position == target) else {
                let message = format!("the correlation does not refer to the rule {}", shown(name));
                return Err(Fault::new(*at, "alias-of-other-rule", message)
                    .help("add it to `rules`, or remove it here"));
            };
            if fields.iter().any(|(other, _)| other == ix) {
                return Err(Fault::new(*at, "repeated-rule", "the alias has a field for this rule already"));
            }
            fields.push((*ix, field.clone()));
        }
        Ok(fields)
    }

    /// What still waits refers to itself, or to something that does.
    fn refuse_cycles(&mut self) {
        let waiting: BTreeSet<usize> =
            (0..self.items.len()).filter(|p| self.items[*p].fate == Fate::Waiting).collect();
        let next: BTreeMap<usize, (usize, Place)> = waiting
            .iter()
            .filter_map(|position| {
                let references = &self.items[*position].references;
                let target = references.iter().copied().find(|(target, _)| waiting.contains(target))?;
                Some((*position, target))
            })
            .collect();
        let circular = circular(&next);
        for (position, (target, at)) in next {
            let other = &self.items[target].label;
            let fault = if circular.contains(&position) {
                let message = format!("the correlation refers to itself, by way of {}", shown(&other.id));
                Fault::new(at, "cycle", message).help("a chain must end at detections")
            } else {
                let message =
                    format!("the rule {} ({}:{}) was refused", shown(&other.id), other.file, other.at.line);
                Fault::new(at, "refers-to-refused", message)
            };
            self.refuse(position, fault);
        }
    }
}

/// The positions from which following `next` leads back to where it started.
fn circular(next: &BTreeMap<usize, (usize, Place)>) -> BTreeSet<usize> {
    let mut walks: BTreeMap<usize, usize> = BTreeMap::new();
    let mut out = BTreeSet::new();
    for start in next.keys() {
        let mut path = Vec::new();
        let mut at = *start;
        while let Some((target, _)) = next.get(&at).filter(|_| !walks.contains_key(&at)) {
            walks.insert(at, *start);
            path.push(at);
            at = *target;
        }
        if walks.get(&at) == Some(start) {
            out.extend(path.into_iter().skip_while(|step| *step != at));
        }
    }
    out
}

fn repeated(references: &[(usize, Place)]) -> Option<Place> {
    let mut seen = BTreeSet::new();
    references.iter().find(|(target, _)| !seen.insert(*target)).map(|(_, at)| *at)
}

/// The rules placed so far.
struct Output<'a> {
    sources: &'a Sources,
    rules: Vec<Rule>,
    placed: Vec<Placed>,
    /// How many trees were walked, and by rule the last walk on which it was met.
    walks: usize,
    visited: Vec<usize>,
    /// References of all trees of rules that raise alerts.
    trees: usize,
}

impl Output<'_> {
    /// Counts the references of the tree that the next rule and all below it make; refuses too many.
    fn admit(&mut self, children: &[(RuleIx, usize, Place)], at: Place, emits: bool) -> Result<(), Fault> {
        self.walks += 1;
        self.visited.resize(self.rules.len(), 0);
        let mut references = children.len();
        let mut ahead: Vec<RuleIx> = children.iter().map(|(ix, ..)| *ix).collect();
        while let Some(ix) = ahead.pop().filter(|_| references <= MAX_TREE) {
            let at = ix.0 as usize;
            let (Some(visited), Some(rule)) = (self.visited.get_mut(at), self.rules.get(at)) else {
                continue;
            };
            if let RuleKind::Correlation(correlation) = &rule.kind
                && std::mem::replace(visited, self.walks) != self.walks
            {
                references += correlation.rules.len();
                ahead.extend(&correlation.rules);
            }
        }
        let help = "let it refer to fewer correlations, or raise alerts (`generate`) at fewer levels";
        if references > MAX_TREE {
            let message = format!(
                "the correlation and those below it refer to more than {MAX_TREE} rules, each counted once"
            );
            return Err(Fault::new(at, "tree-too-large", message).help(help));
        }
        self.trees += if emits { references } else { 0 };
        if self.trees > MAX_TREES {
            let message = format!("the correlations of all files refer to more than {MAX_TREES} rules");
            return Err(Fault::new(at, "tree-too-large", message).help(help));
        }
        Ok(())
    }

    /// Adds a rule; `meaning` is that of a detection.
    fn push(&mut self, head: Head, kind: RuleKind, meaning: Option<[u8; 32]>, emits: bool) -> RuleIx {
        let ix = RuleIx(self.rules.len() as u32);
        let placed = match &kind {
            RuleKind::Detection(detection) => {
                Placed { sources: applicable(detection, self.sources), chain: 0 }
            }
            RuleKind::Correlation(correlation) => {
                let children = correlation.rules.iter().map(|child| &self.placed[child.0 as usize]);
                Placed {
                    sources: children.clone().flat_map(|child| child.sources.iter().copied()).collect(),
                    chain: children.map(|child| child.chain).max().unwrap_or(0) + 1,
                }
            }
        };
        let meaning = match &kind {
            // Its draft has one.
            RuleKind::Detection(_) => meaning.unwrap_or_default(),
            RuleKind::Correlation(correlation) => {
                let children: Vec<_> = correlation
                    .rules
                    .iter()
                    .map(|child| {
                        let meaning = &self.rules[child.0 as usize].meaning;
                        (*child, *meaning, Meaning::new(self.sources, &self.placed[child.0 as usize].sources))
                    })
                    .collect();
                meaning::correlation(correlation, &head.extras, &children)
            }
        };
        self.placed.push(placed);
        self.rules.push(Rule {
            id: head.label.id,
            name: head.label.name,
            title: head.title,
            description: head.description,
            level: head.level,
            tags: head.tags,
            false_positives: head.false_positives,
            file: head.label.file,
            line: head.label.at.line,
            emits,
            kind,
            extras: head.extras,
            meaning,
            tests: head.tests,
            text: head.label.text,
        });
        ix
    }

    /// Refuses a key part that is a list in a source that one of the rules may look at.
    fn refuse_list(&self, part: &KeyPart, rules: &[RuleIx], at: Place) -> Result<(), Fault> {
        for rule in rules {
            let field = part.field_of(*rule);
            for source in &self.placed[rule.0 as usize].sources {
                let def = self.sources.get(*source);
                let list =
                    |name: &&str| self.sources.fields.kind(name) == Some(vedette_event::FieldType::List);
                if let Some(name) = def.resolve(field).iter().find(|name| list(name)) {
                    let message = format!("{} is a list (`{name}` of source `{}`)", shown(field), def.name);
                    return Err(Fault::new(at, "list-in-key", message)
                        .help("group by a field that has one value for each event"));
                }
            }
        }
        Ok(())
    }

    fn warn_of_resolutions(&self, correlation: &Correlation, at: Place, warnings: &mut Vec<Fault>) {
        if correlation.kind != crate::CorrelationKind::TemporalOrdered {
            return;
        }
        let sources = correlation.rules.iter().flat_map(|rule| &self.placed[rule.0 as usize].sources);
        let defs: BTreeSet<SourceIx> = sources.copied().collect();
        lint::resolutions(defs.into_iter().map(|ix| self.sources.get(ix)), at, warnings);
    }
}

/// The sources whose events a detection may apply to.
pub(crate) fn applicable(detection: &Detection, sources: &Sources) -> BTreeSet<SourceIx> {
    let fits = sources.iter().filter(|(_, def)| def.concerns(&detection.logsource));
    fits.map(|(ix, _)| ix).collect()
}
