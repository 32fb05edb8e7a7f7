//! One document: its metadata, and whether it is a detection or a correlation.
//!
//! In: a YAML document. Out: a [`Draft`], checked as far as it can be by itself, with its warnings. What it refers
//! to is resolved by [`crate::link`].

use std::sync::Arc;

use vedette_event::{LogSource, Severity, Sources};

use crate::{
    Detection, Extras, Lists, RuleTest,
    budget::FileBudget,
    correlation::{self, RawCorrelation},
    detection::{self, Placeholders},
    extension,
    fault::{Fault, Place, did_you_mean, nearest, shown},
    link, lint,
    meaning::{self, Meaning},
    yaml::{self, Document, Entry, Node},
};

/// A document as far as it can be read by itself.
#[derive(Debug)]
pub(crate) struct Draft {
    pub head: Head,
    pub body: Body,
    /// What a detection means. It is told here because files are read on all cores and joined on one; what a correlation means follows
    /// from the rules it refers to.
    pub meaning: Option<[u8; 32]>,
}

/// What a document says beside what it looks for.
#[derive(Debug)]
pub(crate) struct Head {
    pub label: Label,
    pub title: Arc<str>,
    pub description: Option<Arc<str>>,
    pub level: Severity,
    pub tags: Arc<[Arc<str>]>,
    pub false_positives: Vec<Arc<str>>,
    pub extras: Extras,
    pub tests: Vec<RuleTest>,
    /// `vedette: mode: off`, and where it says so.
    pub off: Option<Place>,
    pub warnings: Vec<Fault>,
}

/// What a document is called, readable even where the rest is not.
#[derive(Debug, Clone)]
pub(crate) struct Label {
    pub file: Arc<str>,
    pub at: Place,
    pub id: Arc<str>,
    /// Whether `id` was written, not made up.
    pub id_at: Option<Place>,
    pub name: Option<Arc<str>>,
    /// The rules a correlation refers to, and whether it lets them raise alerts of their own.
    pub governs: Vec<Arc<str>>,
    pub generate: bool,
    /// The document as it stands in the file.
    pub text: Arc<str>,
}

/// The two sorts of rule.
#[derive(Debug)]
pub(crate) enum Body {
    Detection(Detection),
    Correlation(RawCorrelation),
}

/// Most keys of a document, custom ones included.
const MAX_KEYS: usize = 200;

/// Keys of Sigma and ours, for advice on misspelt ones.
const KNOWN: [&str; 23] = [
    "title",
    "id",
    "name",
    "related",
    "taxonomy",
    "status",
    "description",
    "license",
    "author",
    "references",
    "date",
    "modified",
    "tags",
    "scope",
    "logsource",
    "detection",
    "correlation",
    "filter",
    "fields",
    "falsepositives",
    "level",
    "generate",
    "vedette",
];

/// Keys that belong inside `correlation:` or `detection:`.
const MISPLACED: [(&str, &str); 8] = [
    ("timespan", "correlation"),
    ("timeframe", "correlation"),
    ("group-by", "correlation"),
    ("rules", "correlation"),
    ("aliases", "correlation"),
    ("type", "correlation"),
    ("condition", "detection"),
    ("selection", "detection"),
];

/// Reads a document's id and name, if it has any.
pub(crate) fn label(document: &Document, file: &Arc<str>, text_of: &str) -> Label {
    let entries = document.root.map("").unwrap_or_default();
    let text = |key| {
        let entry = yaml::find(entries, key)?;
        let text = entry.value.text(key).ok()?.trim();
        (!text.is_empty()).then(|| (Arc::<str>::from(text), entry.value.at))
    };
    let name = text("name");
    let (id, id_at) = match (text("id"), &name) {
        (Some((id, at)), _) => (id, Some(at)),
        (None, Some((name, at))) => (name.clone(), Some(*at)),
        (None, None) => (format!("{file}#{}", document.number).into(), None),
    };
    let (governs, generate) = correlation::governs(entries);
    Label {
        file: file.clone(),
        at: document.root.at,
        id,
        id_at,
        name: name.map(|(name, _)| name),
        governs,
        generate,
        text: text_of.into(),
    }
}

/// The line of a document's `action:`, which changes the documents after it.
pub(crate) fn action(document: &Document) -> Option<usize> {
    yaml::find(document.root.map("").ok()?, "action").map(|entry| entry.key_at.line)
}

/// Refuses a document that stands behind an `action:` in its file, since it may lack what that adds.
pub(crate) fn below(action: Option<usize>, document: &Document) -> Result<(), Fault> {
    match action {
        Some(line) if self::action(document).is_none() => {
            let message =
                format!("`action` on line {line} would change this document, and is not part of Sigma 2.1");
            Err(Fault::new(document.root.at, "not-supported", message)
                .help("write each rule out in a document of its own"))
        }
        _ => Ok(()),
    }
}

/// Reads a document.
pub(crate) fn read(
    document: &Document,
    label: Label,
    (lists, sources): (&Lists, &Sources),
    budget: &mut FileBudget,
) -> Result<Draft, Fault> {
    let root = &document.root;
    let entries = root.map("a document")?;
    if let Some(entry) = yaml::find(entries, "filter") {
        return Err(Fault::new(entry.key_at, "not-supported", "filter rules are not supported yet")
            .help("add the exception to the rule's own condition with `and not`"));
    }
    if let Some(entry) = yaml::find(entries, "action") {
        return Err(Fault::new(entry.key_at, "not-supported", "`action` is not part of Sigma 2.1")
            .help("write each rule out in a document of its own"));
    }
    taxonomy(yaml::find(entries, "taxonomy"))?;
    let detection = yaml::find(entries, "detection");
    let correlation = yaml::find(entries, "correlation");
    let mut warnings = Vec::new();
    if let Some(entry) = entries.get(MAX_KEYS) {
        let message = format!("a document has at most {MAX_KEYS} keys");
        return Err(Fault::new(entry.key_at, "too-many-names", message));
    }
    for entry in entries {
        check_key(entry, &mut warnings)?;
    }
    let (body, symbolic) = match (detection, correlation) {
        (Some(_), Some(both)) => {
            let message = "a document is a detection or a correlation, not both";
            return Err(Fault::new(both.key_at, "not-a-rule", message)
                .help("put a line `---` between two documents of a file"));
        }
        (Some(detection), None) => read_detection(detection, entries, lists, budget, &mut warnings)?,
        (None, Some(node)) => (Body::Correlation(read_correlation(node, entries)?), None),
        (None, None) => {
            return Err(Fault::new(
                root.at,
                "not-a-rule",
                "the document has neither `detection` nor `correlation`",
            )
            .help("add one of them; files that hold no rules belong in another folder"));
        }
    };
    let extension = match yaml::find(entries, "vedette") {
        Some(entry) => extension::read(&entry.value, &body, budget)?,
        None => extension::Extension::default(),
    };
    let title = yaml::find(entries, "title")
        .ok_or_else(|| Fault::new(root.at, "missing-title", "the rule has no `title`"))?;
    let description = yaml::find(entries, "description").filter(|entry| !entry.value.is_null());
    let head = Head {
        title: title.value.text("`title`")?.trim().into(),
        description: description.map(|e| e.value.text("`description`")).transpose()?.map(Arc::from),
        level: level(yaml::find(entries, "level"))?,
        tags: texts(yaml::find(entries, "tags"))?.into(),
        false_positives: texts(yaml::find(entries, "falsepositives"))?,
        label,
        extras: extension.extras,
        tests: extension.tests,
        off: extension.off,
        warnings,
    };
    let meaning = match &body {
        Body::Detection(detection) => {
            let mapping = Meaning::new(sources, &link::applicable(detection, sources));
            Some(meaning::detection(symbolic.as_ref().unwrap_or(detection), &head.extras, &mapping))
        }
        Body::Correlation(_) => None,
    };
    Ok(Draft { head, body, meaning })
}

fn check_key(entry: &Entry, warnings: &mut Vec<Fault>) -> Result<(), Fault> {
    let key = entry.key.as_str();
    if let Some((_, home)) = MISPLACED.iter().find(|(name, _)| *name == key) {
        return Err(Fault::new(
            entry.key_at,
            "meaningless-key",
            format!("{} means nothing here", shown(key)),
        )
        .help(format!("it belongs inside `{home}:`")));
    }
    if !KNOWN.contains(&key)
        && let Some(name) = nearest(key, &KNOWN).filter(|_| key.len() > 3)
    {
        let message = format!("the key {} is not Sigma's and changes nothing", shown(key));
        warnings
            .push(Fault::new(entry.key_at, "unknown-key", message).help(format!("did you mean `{name}`?")));
    }
    Ok(())
}

/// The detection, and the same with placeholders unexpanded, where there are any: what the rule means.
fn read_detection(
    entry: &Entry,
    entries: &[Entry],
    lists: &Lists,
    budget: &mut FileBudget,
    warnings: &mut Vec<Fault>,
) -> Result<(Body, Option<Detection>), Fault> {
    if let Some(generate) = yaml::find(entries, "generate") {
        return Err(Fault::new(
            generate.key_at,
            "meaningless-key",
            "`generate` means nothing on a detection",
        )
        .help("it belongs in the correlation that refers to this rule"));
    }
    let Some(source) = yaml::find(entries, "logsource") else {
        return Err(Fault::new(entry.key_at, "missing-logsource", "the rule has no `logsource`")
            .help("name at least one of product, category, service"));
    };
    let logsource = logsource(&source.value)?;
    let lowered = detection::lower(&entry.value, Placeholders::Lists(lists), budget)?;
    lint::detection(&lowered, &logsource, source.key_at, warnings);
    let symbolic = if lowered.expanded {
        let symbolic = detection::lower(&entry.value, Placeholders::Symbolic, budget)?;
        Some(Detection {
            logsource: logsource.clone(),
            condition: symbolic.condition,
            leaves: symbolic.leaves,
        })
    } else {
        None
    };
    let detection = Detection { logsource, condition: lowered.condition, leaves: lowered.leaves };
    Ok((Body::Detection(detection), symbolic))
}

fn read_correlation(entry: &Entry, entries: &[Entry]) -> Result<RawCorrelation, Fault> {
    if let Some(source) = yaml::find(entries, "logsource") {
        let message = "`logsource` means nothing on a correlation";
        return Err(Fault::new(source.key_at, "meaningless-key", message)
            .help("the rules it refers to say which events they look at"));
    }
    if let Some(generate) = yaml::find(entries, "generate") {
        generate.value.boolean("`generate`")?;
    }
    correlation::read(&entry.value)
}

fn logsource(node: &Node) -> Result<LogSource, Fault> {
    let mut out = LogSource::default();
    if node.is_null() {
        return Ok(out);
    }
    for entry in node.map("`logsource`")? {
        let slot = match entry.key.as_str() {
            "product" => &mut out.product,
            "category" => &mut out.category,
            "service" => &mut out.service,
            "definition" => continue,
            other => {
                let message = format!("{} is no key of a log source", shown(other));
                return Err(Fault::new(entry.key_at, "unknown-logsource-key", message)
                    .help(did_you_mean(other, &["product", "category", "service", "definition"])));
            }
        };
        if !entry.value.is_null() {
            *slot = Some(entry.value.text("a key of `logsource`")?.trim().to_owned());
        }
    }
    Ok(out)
}

/// Refuses names of fields that no source definition knows.
fn taxonomy(entry: Option<&Entry>) -> Result<(), Fault> {
    let Some(entry) = entry.filter(|e| !e.value.is_null()) else { return Ok(()) };
    match entry.value.text("`taxonomy`")? {
        "sigma" | "ecs" => Ok(()),
        other => {
            let message = format!("field names of the taxonomy {} are not known here", shown(other));
            Err(Fault::new(entry.value.at, "unknown-taxonomy", message).help("known are: sigma, ecs"))
        }
    }
}

fn level(entry: Option<&Entry>) -> Result<Severity, Fault> {
    let Some(entry) = entry.filter(|e| !e.value.is_null()) else { return Ok(Severity::Medium) };
    let name = entry.value.text("`level`")?.trim();
    Severity::parse(&name.to_ascii_lowercase()).ok_or_else(|| {
        Fault::new(entry.value.at, "unknown-level", format!("there is no level {}", shown(name)))
            .help(did_you_mean(name, &Severity::ALL.map(Severity::name)))
    })
}

/// A list of texts, one text, or nothing.
fn texts(entry: Option<&Entry>) -> Result<Vec<Arc<str>>, Fault> {
    let Some(entry) = entry.filter(|e| !e.value.is_null()) else { return Ok(Vec::new()) };
    let items = entry.value.items(&format!("`{}`", entry.key))?.iter();
    items.map(|item| item.text("an item").map(Arc::from)).collect()
}
