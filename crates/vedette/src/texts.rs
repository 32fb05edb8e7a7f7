//! What a version of the rules is made of, as text: rule files, lists, sources.
//!
//! In: what stands on disk now, and the texts of the version before. Out: [`TakenUp`]: the texts from now on, compiled as far as they
//! can be, and what was refused of what stands on disk.
//! Invariants: a file that is refused keeps the text that was good before; nothing that was good and did not change is lost by a
//! change elsewhere: such a change is refused as a whole; the same texts give the same version.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use vedette_event::{Fields, Sources};
use vedette_sigma::{Rejection, RuleFile, RuleSet, ir::Rule};

use crate::{
    content::{self, RuleText, Schemas},
    yaml,
};

/// Rounds of putting back what was good before. One does as a rule; what is put back may be refused for what is new beside it.
const ROUNDS: usize = 4;
/// Packed texts beyond this when unpacked are damaged.
const MOST: u64 = 1 << 30;

/// The texts of one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Texts {
    /// Rule files by path.
    rules: BTreeMap<String, String>,
    /// Lists by name: their values.
    lists: BTreeMap<String, Vec<String>>,
    /// Sources.
    schemas: Schemas,
    /// Files of rules or lists of which something was refused and which had nothing good before.
    refused: BTreeSet<String>,
}

/// Something that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedText {
    /// Where and why.
    pub what: Rejection,
    /// The file's text from before is in force.
    pub kept: bool,
}

/// Texts, taken up.
#[derive(Debug)]
pub struct TakenUp {
    /// The texts in force.
    pub texts: Texts,
    /// Their rules. Those that were refused and are not in force are in there, too.
    pub rules: RuleSet,
    /// All their sources.
    pub sources: Sources,
    /// All that was refused of what stands on disk.
    pub refused: Vec<RefusedText>,
}

impl Texts {
    /// Packs them for the store.
    pub fn pack(&self) -> Result<Vec<u8>> {
        Ok(zstd::encode_all(&serde_json::to_vec(self)?[..], 3)?)
    }

    /// Unpacks what was packed.
    pub fn unpack(packed: &[u8]) -> Result<Self> {
        use std::io::Read as _;
        let mut text = Vec::new();
        zstd::Decoder::new(packed)?.take(MOST).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// Compiles them as they are: they were taken before. `adjust` is what the configuration says of sources.
    pub fn load(&self, adjust: impl Fn(Sources) -> Result<Sources>) -> Result<(RuleSet, Sources)> {
        let sources = adjust(self.schemas.parse()?)?;
        Ok((self.rule_text().load(&sources), sources))
    }

    /// The text of a rule file, for carets under errors.
    pub fn text_of(&self, path: &str) -> &str {
        self.rules.get(path).map_or("", String::as_str)
    }

    /// Whether both say the same, though it may be written otherwise, with other comments, say. `rules` are those of both.
    pub fn says_the_same(&self, other: &Self, rules: (&RuleSet, &RuleSet)) -> Result<bool> {
        if self == other {
            return Ok(true);
        }
        Ok(self.lists == other.lists
            && self.refused == other.refused
            && said(rules.0) == said(rules.1)
            && self.schemas.parse()? == other.schemas.parse()?)
    }

    fn rule_text(&self) -> RuleText {
        let file =
            |(path, text): (&String, &String)| RuleFile { path: path.as_str().into(), text: text.clone() };
        RuleText::of(self.rules.iter().map(file).collect(), self.lists.clone())
    }

    /// Names of lists and of source files that are not the same in both.
    pub fn differences(&self, other: &Self) -> (Vec<String>, Vec<String>) {
        let names: BTreeSet<&String> = self.lists.keys().chain(other.lists.keys()).collect();
        let lists = names.into_iter().filter(|name| self.lists.get(*name) != other.lists.get(*name));
        let schemas = |of: &Self| -> BTreeMap<String, String> {
            of.schemas.sources.iter().chain([&of.schemas.fields]).cloned().collect()
        };
        let (own, others) = (schemas(self), schemas(other));
        let names: BTreeSet<&String> = own.keys().chain(others.keys()).collect();
        let sources = names.into_iter().filter(|name| own.get(*name) != others.get(*name));
        (lists.cloned().collect(), sources.cloned().collect())
    }
}

/// All that alerts and people see of rules, by id, but lists and lines.
fn said(rules: &RuleSet) -> BTreeMap<&str, impl PartialEq> {
    let of = |rule: &Rule| {
        let Rule {
            name, title, description, level, tags, false_positives, file, emits, extras, meaning, ..
        } = rule.clone();
        (meaning, emits, name, title, description, level, tags, false_positives, file, extras)
    };
    rules.rules.iter().map(|rule| (&*rule.id, of(rule))).collect()
}

/// Takes up what stands on disk, after the texts before, if there are any.
///
/// # Errors
/// If nothing of it can be taken up: then what was in force stays so.
pub fn take(
    disk: RuleText,
    schemas: Schemas,
    before: Option<&Texts>,
    adjust: impl Fn(Sources) -> Result<Sources>,
) -> Result<TakenUp> {
    let mut refused = Vec::new();
    let schemas = mend_schemas(schemas, before, &mut refused);
    let sources = adjust(schemas.parse()?)?;
    let mut text = disk;
    if let Some(before) = before {
        put_back_unreadable(&mut text, before, &mut refused);
    }
    let mut rules = text.load(&sources);
    if let Some(before) = before {
        for _ in 0..ROUNDS {
            if !put_back_refused(&mut text, &rules, before, &mut refused) {
                break;
            }
            rules = text.load(&sources);
        }
        let lost = |rejection: &&Rejection| {
            // Texts from before empty files were refused name none.
            let good = !before.refused.contains(&*rejection.file) && rejection.code != vedette_sigma::NO_RULE;
            let same =
                before.rules.get(&*rejection.file).is_some_and(|old| old == text.text_of(&rejection.file));
            good && same
        };
        if let Some(lost) = rules.rejected.iter().find(lost) {
            bail!("{lost}; this file did not change, so what changed beside it is not taken up");
        }
    }
    let still = rules.rejected.iter().map(|what| RefusedText { what: what.clone(), kept: false });
    refused.extend(still);
    let texts = Texts {
        rules: text.files.iter().map(|file| (file.path.to_string(), file.text.clone())).collect(),
        refused: rules.rejected.iter().map(|rejection| rejection.file.to_string()).collect(),
        lists: text.lists,
        schemas,
    };
    Ok(TakenUp { texts, rules, sources, refused })
}

/// Sources that cannot be used keep what they were.
fn mend_schemas(mut schemas: Schemas, before: Option<&Texts>, refused: &mut Vec<RefusedText>) -> Schemas {
    let Some(Texts { schemas: before, .. }) = before else { return schemas };
    let fields = |schemas: &Schemas| yaml::parse::<Fields>(&schemas.fields.0, &schemas.fields.1);
    if let Err(fault) = fields(&schemas) {
        refused.push(kept(&fault.file, fault.at, fault.message));
        schemas.fields = before.fields.clone();
    }
    let Ok(fields) = fields(&schemas) else { return schemas };
    for source in &mut schemas.sources {
        let Err(error) = content::one_source(&fields, source) else { continue };
        if let Some(old) = before.sources.iter().find(|(name, _)| *name == source.0)
            && content::one_source(&fields, old).is_ok()
        {
            let at = error.downcast_ref::<yaml::FileFault>().and_then(|fault| fault.at);
            refused.push(kept(&source.0, at, format!("{error:#}")));
            *source = old.clone();
        }
    }
    // One that is gone while others rest on it is missed by whoever names it.
    schemas
}

/// A file that is refused for this, and keeps what it said before.
pub fn kept(file: &str, at: Option<(usize, usize)>, message: String) -> RefusedText {
    let (line, column) = at.unwrap_or((1, 1));
    let code = "unreadable-file";
    let what = Rejection { file: file.into(), line, column, rule_id: None, code, message, help: None };
    RefusedText { what, kept: true }
}

/// Files and lists that cannot be read keep what they were.
fn put_back_unreadable(text: &mut RuleText, before: &Texts, refused: &mut Vec<RefusedText>) {
    for what in std::mem::take(&mut text.unreadable) {
        let list = content::list_name(&what.file).filter(|name| before.lists.contains_key(name));
        if let Some(old) = before.rules.get(&*what.file) {
            text.files.push(RuleFile { path: what.file.clone(), text: old.clone() });
        } else if let Some(name) = list.filter(|name| !text.lists.contains_key(name)) {
            let old = before.lists.get(&name).cloned().unwrap_or_default();
            text.lists.insert(name, old);
        } else {
            text.unreadable.push(what);
            continue;
        }
        refused.push(RefusedText { what, kept: true });
    }
    text.files.sort_by(|a, b| a.path.cmp(&b.path));
}

/// Files of which something is refused get their text from before, if that was good; whether there was any.
fn put_back_refused(
    text: &mut RuleText,
    rules: &RuleSet,
    before: &Texts,
    refused: &mut Vec<RefusedText>,
) -> bool {
    let bad: BTreeSet<&str> = rules.rejected.iter().map(|rejection| &*rejection.file).collect();
    let mut any = false;
    for file in text.files.iter_mut().filter(|file| bad.contains(&*file.path)) {
        let old = before.rules.get(&*file.path).filter(|_| !before.refused.contains(&*file.path));
        let Some(old) = old.filter(|old| **old != file.text) else { continue };
        let of_file = rules.rejected.iter().filter(|rejection| rejection.file == file.path);
        refused.extend(of_file.map(|what| RefusedText { what: what.clone(), kept: true }));
        file.text.clone_from(old);
        any = true;
    }
    any
}

/// What the rules of two versions differ in, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Not there before.
    pub new: Vec<String>,
    /// They mean something else now.
    pub changed: Vec<String>,
    /// Not there any more.
    pub removed: Vec<String>,
}

impl Difference {
    /// Of two rule sets.
    pub fn of(before: &RuleSet, now: &RuleSet) -> Self {
        let by_id = |rules: &RuleSet| -> BTreeMap<String, ([u8; 32], bool)> {
            rules.rules.iter().map(|rule| (rule.id.to_string(), (rule.meaning, rule.emits))).collect()
        };
        let (before, now) = (by_id(before), by_id(now));
        let mut difference = Self::default();
        for (id, meaning) in &now {
            match before.get(id) {
                None => difference.new.push(id.clone()),
                Some(old) if old != meaning => difference.changed.push(id.clone()),
                Some(_) => {}
            }
        }
        difference.removed = before.into_keys().filter(|id| !now.contains_key(id)).collect();
        difference
    }
}

#[cfg(test)]
#[path = "texts_tests.rs"]
mod tests;
