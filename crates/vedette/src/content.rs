//! Schemas and rules, from the binary itself or from disk.
//!
//! In: paths. Out: [`Sources`] and rule files with their text, sorted by path, so that every run sees the same.
//! Invariant: what is built in is exactly what the repository's `schemas/` and `detections/` held at build time.

mod built_in;
mod found;

use std::{
    collections::BTreeSet,
    fs,
    panic::resume_unwind,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use vedette_decode::{Inspector, UNMAPPED};
use vedette_event::{Fields, SourceDef, Sources};
use vedette_sigma::{Lists, ReadFile, Rejection, RuleFile, RuleSet};

use built_in::{SCHEMAS, embedded};
pub use built_in::{built_in_playbooks, built_in_rules};
pub use found::{Found, list_name, look, playbooks, rules};
use found::{add_list, is_yaml, on_threads, sorted};

use crate::{
    config::MAX_DISORDER,
    pipeline,
    yaml::{self, FileFault, MAX_BYTES, Places},
};

/// Rules as text, with the lists they may refer to.
#[derive(Debug, Clone, Default)]
pub struct RuleText {
    /// The rule files, sorted by path.
    pub files: Vec<RuleFile>,
    /// The lists of all `lists/` folders.
    pub lists: Lists,
    /// Files that could not be read as rules or lists.
    pub unreadable: Vec<Rejection>,
}

impl RuleText {
    /// These files and lists.
    pub fn of(files: Vec<RuleFile>, lists: Lists) -> Self {
        Self { files, lists, unreadable: Vec::new() }
    }

    /// Parses, checks and lowers all of it, on all cores.
    pub fn load(&self, sources: &Sources) -> RuleSet {
        self.load_on(pipeline::cores(), sources)
    }

    /// The same, file by file on so many threads: that is two thirds of a start with thousands of rules.
    pub fn load_on(&self, threads: u16, sources: &Sources) -> RuleSet {
        let read = on_threads(threads, &self.files, |file| vedette_sigma::read(file, &self.lists, sources));
        self.joined(read, sources)
    }

    /// Joins what was read of each file; with what could not be read.
    fn joined(&self, read: Vec<ReadFile>, sources: &Sources) -> RuleSet {
        let mut rules = vedette_sigma::link(read, sources);
        rules.rejected.extend(self.unreadable.iter().cloned());
        rules.rejected.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        rules
    }

    /// One bad file does not stop the others.
    fn refuse(&mut self, fault: FileFault) {
        let (line, column) = fault.at.unwrap_or((1, 1));
        self.unreadable.push(Rejection {
            file: fault.file.into(),
            line,
            column,
            rule_id: None,
            code: "unreadable-file",
            message: fault.message,
            help: None,
        });
    }

    /// The text of a file, for carets under errors.
    pub fn text_of(&self, path: &str) -> &str {
        self.files.iter().find(|f| &*f.path == path).map_or("", |f| &f.text)
    }
}

/// Sources as text: `fields.yml` and the files of `sources/`, each with its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schemas {
    /// The canonical fields.
    pub fields: (String, String),
    /// A source each.
    pub sources: Vec<(String, String)>,
}

/// Those in `dir`, or the built-in ones.
pub fn schemas(dir: Option<&Path>) -> Result<Schemas> {
    let mut texts: Vec<(String, String)> = Vec::new();
    let fields;
    match dir {
        None => {
            fields = ("fields.yml".to_owned(), embedded(&SCHEMAS, "fields.yml")?.to_owned());
            let folder = SCHEMAS.get_dir("sources").context("the built-in schemas hold no sources/")?;
            for file in folder.files() {
                let name = file.path().display().to_string();
                let text = file.contents_utf8().with_context(|| format!("built-in {name} is no UTF-8"))?;
                texts.push((name, text.to_owned()));
            }
        }
        Some(dir) => {
            let path = dir.join("fields.yml");
            fields = (path.display().to_string(), yaml::read(&path, MAX_BYTES)?);
            for path in yaml_files(&dir.join("sources"))? {
                texts.push((path.display().to_string(), yaml::read(&path, MAX_BYTES)?));
            }
        }
    }
    Ok(Schemas { fields, sources: texts })
}

impl Schemas {
    /// Parses and checks all of them.
    pub fn parse(&self) -> Result<Sources> {
        let (name, text) = &self.fields;
        let fields: Fields = yaml::parse(name, text)?;
        let defs = self.sources.iter().map(|source| one_source(&fields, source)).collect::<Result<_>>()?;
        Ok(Sources::new(fields, defs))
    }
}

/// Parses and checks one source.
pub fn one_source(fields: &Fields, (name, text): &(String, String)) -> Result<SourceDef> {
    let def: SourceDef = yaml::parse(name, text)?;
    check_source(&def, fields, (name, &Places::of(name, text)))?;
    Ok(def)
}

/// All sources there are: those in `dir` (`fields.yml`, `sources/*.yml`), or the built-in ones.
pub fn sources(dir: Option<&Path>) -> Result<Sources> {
    schemas(dir)?.parse()
}

/// Checks what the types of a source's definition cannot: a name that is written wrong would be missed in silence.
fn check_source(def: &SourceDef, fields: &Fields, (file, places): (&str, &Places)) -> Result<()> {
    if Path::new(file).file_stem().and_then(|s| s.to_str()) != Some(&*def.name) {
        return Err(places.wrong("name", format!("`{}` must be the file's own name", def.name)));
    }
    for (key, span) in [("disorder", def.disorder), ("future", def.future)] {
        if span > MAX_DISORDER {
            return Err(places.wrong(key, format!("`{span}` is more than {MAX_DISORDER}")));
        }
    }
    Inspector::new(def, fields, [0; 32]).map_err(|e| places.wrong("time_zone", e))?;
    if def.own_logsource() {
        // Its fields are those that its records have.
        return Ok(());
    }
    let named = |path: String, name: &str| match fields.kind(name) {
        Some(_) => Ok(()),
        None => {
            let what = format!(
                "fields.yml has no field `{name}`; use one that it has, or add it there with its type"
            );
            Err(places.wrong(&path, what))
        }
    };
    for name in def.fields.keys() {
        let path = format!("fields.{name}");
        if name == UNMAPPED {
            return Err(places.wrong(&path, "it holds what no field takes; map another field"));
        }
        named(path, name)?;
    }
    for (at, name) in def.entity.iter().enumerate() {
        named(format!("entity[{at}]"), name)?;
    }
    if let Some(name) = &def.weight {
        named("weight".into(), name)?;
    }
    for (written, names) in &def.taxonomy {
        for name in names.names() {
            named(format!("taxonomy.{written}"), name)?;
        }
    }
    Ok(())
}

/// All sources there are for the commands that need no configuration: those of `schemas/` in the working folder, else
/// the built-in ones.
pub fn sources_here() -> Result<Sources> {
    let here = Path::new("schemas");
    sources(here.join("fields.yml").is_file().then_some(here))
}

/// The rule files of these paths, and the sources as [`sources_here`] gives them, side by side if there are threads for it.
pub fn found_and_sources(threads: u16, paths: &[PathBuf]) -> Result<(Found, Sources)> {
    if threads < 2 {
        return Ok((Found::at(paths)?, sources_here()?));
    }
    thread::scope(|scope| {
        let sources = scope.spawn(sources_here);
        let found = Found::at(paths)?;
        Ok((found, sources.join().unwrap_or_else(|panic| resume_unwind(panic))?))
    })
}

/// The sources of these names only.
pub fn only(sources: &Sources, names: &[&str]) -> Result<Sources> {
    let known = || sources.defs.iter().map(|d| &*d.name).collect::<Vec<_>>().join(", ");
    let mut defs = Vec::new();
    for name in names {
        let Some(ix) = sources.find(name) else {
            bail!("there is no source `{name}`; there are: {}", known())
        };
        if !defs.iter().any(|d: &SourceDef| &*d.name == *name) {
            defs.push(sources.get(ix).clone());
        }
    }
    Ok(Sources::new(sources.fields.clone(), defs))
}

/// Sources, and those that only newer ones have, with the fields that these need: a version of before knows nothing of a source that was
/// added since, and its topics are read nonetheless.
pub fn completed(mut sources: Sources, newer: &Sources) -> Sources {
    let known: BTreeSet<_> = sources.defs.iter().map(|def| def.name.clone()).collect();
    let added: Vec<SourceDef> = newer.defs.iter().filter(|def| !known.contains(&def.name)).cloned().collect();
    if added.is_empty() {
        return sources;
    }
    for (name, field) in &newer.fields.0 {
        sources.fields.0.entry(name.clone()).or_insert_with(|| field.clone());
    }
    sources.defs.extend(added);
    Sources::new(sources.fields, sources.defs)
}

fn yaml_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = sorted(dir).with_context(|| format!("cannot read the folder `{}`", dir.display()))?;
    Ok(entries.iter().map(fs::DirEntry::path).filter(|p| is_yaml(p)).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_source_that_names_what_is_not_there_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sources")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("fields.yml", embedded(&SCHEMAS, "fields.yml").unwrap());
        let head = "name: till\ndescription: d\nlogsource: {category: pos}\nfuture: 10s\n";
        let said = |rest: &str| {
            write("sources/till.yml", &format!("{head}{rest}"));
            sources(Some(folder.path())).map_err(|e| e.to_string()).err().unwrap_or_default()
        };
        let good = "form: api_json\ndisorder: 10s\nentity: [user.name]\n";
        assert_eq!(said(&format!("{good}fields: {{user.name: who}}\nweight: http.request.bytes")), "");
        for (text, place) in [
            ("fields: {user.nam: who}", "8:20: fields.user.nam: "),
            ("taxonomy: {who: user.nam}", "8:17: taxonomy.who: "),
            ("weight: user.nam", "8:9: weight: "),
        ] {
            let said = said(&format!("{good}{text}"));
            let wanted = format!("till.yml:{place}fields.yml has no field `user.nam`; use one that it has");
            assert!(said.contains(&wanted), "{said}");
        }
        let own = said(&format!("{good}fields: {{event.unmapped: who}}"));
        assert!(own.contains("till.yml:8:26: fields.event.unmapped: it holds what no field takes"), "{own}");
        let entity = said("form: api_json\ndisorder: 10s\nentity: [user.name, usr.nam]");
        assert!(entity.contains("till.yml:7:21: entity[1]: fields.yml has no field `usr.nam`"), "{entity}");
        assert_eq!(said("form: json\ndisorder: 10s\nentity: [usr.nam]"), "", "fields as they are");
        let zone = said(&format!("{good}time_zone: Mars/X"));
        assert!(zone.contains("till.yml:8:12: time_zone: "), "{zone}");
        let late = said("form: json\ndisorder: 99d\nentity: []");
        assert!(late.contains("till.yml:6:11: disorder: `99d` is more than 1d"), "{late}");
        write("fields.yml", "a: {type: txt, description: d}");
        let fields = said(good);
        assert!(fields.contains("/fields.yml:1:11: "), "{fields}");
    }
}
