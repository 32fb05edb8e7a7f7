//! Schemas and rules, from the binary itself or from disk.
//!
//! In: paths. Out: [`Sources`] and rule files with their text, sorted by path, so that every run sees the same.
//! Invariant: what is built in is exactly what the repository's `schemas/` and `detections/` held at build time.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use include_dir::{Dir, include_dir};
use vedette_event::{Fields, SourceDef, Sources};
use vedette_sigma::{Lists, Rejection, RuleFile, RuleSet};

use crate::config;

static SCHEMAS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../schemas");
static DETECTIONS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../detections");

/// Rule files beyond this are no rules.
const MAX_RULE_BYTES: u64 = 4 << 20;
/// Folders nested deeper than this are not looked into.
const MAX_DEPTH: usize = 16;

/// Rules as text, with the lists they may refer to.
#[derive(Debug, Default)]
pub struct RuleText {
    /// The rule files, sorted by path.
    pub files: Vec<RuleFile>,
    /// The lists of all `lists/` folders.
    pub lists: Lists,
    /// Files that could not be read as rules or lists.
    pub unreadable: Vec<Rejection>,
}

impl RuleText {
    /// Parses, checks and lowers all of it.
    pub fn load(&self, sources: &Sources) -> RuleSet {
        let mut rules = vedette_sigma::load(&self.files, &self.lists, sources);
        rules.rejected.extend(self.unreadable.iter().cloned());
        rules.rejected.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        rules
    }

    /// One bad file does not stop the others.
    fn refuse(&mut self, file: &str, why: &anyhow::Error) {
        self.unreadable.push(Rejection {
            file: file.into(),
            line: 1,
            column: 1,
            rule_id: None,
            code: "unreadable-file",
            message: format!("{why:#}"),
            help: None,
        });
    }

    /// The text of a file, for carets under errors.
    pub fn text_of(&self, path: &str) -> &str {
        self.files.iter().find(|f| &*f.path == path).map_or("", |f| &f.text)
    }
}

/// All sources there are: those in `dir` (`fields.yml`, `sources/*.yml`), or the built-in ones.
pub fn sources(dir: Option<&Path>) -> Result<Sources> {
    let mut texts: Vec<(String, String)> = Vec::new();
    let fields_text;
    match dir {
        None => {
            fields_text = embedded(&SCHEMAS, "fields.yml")?.to_owned();
            let folder = SCHEMAS.get_dir("sources").context("the built-in schemas hold no sources/")?;
            for file in folder.files() {
                let name = file.path().display().to_string();
                let text = file.contents_utf8().with_context(|| format!("built-in {name} is no UTF-8"))?;
                texts.push((name, text.to_owned()));
            }
        }
        Some(dir) => {
            let path = dir.join("fields.yml");
            fields_text = read(&path)?;
            for path in yaml_files(&dir.join("sources"))? {
                texts.push((path.display().to_string(), read(&path)?));
            }
        }
    }
    let fields: Fields = config::parse("fields.yml", &fields_text)?;
    let mut defs = Vec::new();
    for (name, text) in texts {
        let def: SourceDef = config::parse(&name, &text)?;
        if Path::new(&name).file_stem().and_then(|s| s.to_str()) != Some(&*def.name) {
            bail!("{name}: `name: {}` must be the file's own name", def.name);
        }
        defs.push(def);
    }
    Ok(Sources::new(fields, defs))
}

/// All sources there are for the commands that need no configuration: those of `schemas/` in the working folder, else
/// the built-in ones.
pub fn sources_here() -> Result<Sources> {
    let here = Path::new("schemas");
    sources(here.join("fields.yml").is_file().then_some(here))
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

/// Reads rule files and folders. `playbooks/` and `lists/` hold no rules; lists are read for placeholders.
///
/// # Errors
/// If a path is not there, or if there is no rule file at all.
pub fn rules(paths: &[PathBuf]) -> Result<RuleText> {
    let mut text = RuleText::default();
    for path in paths {
        if path.is_dir() {
            walk(path, 0, &mut text)?;
        } else if path.exists() {
            add(path, None, &mut text);
        } else {
            bail!("there is no rule file or folder `{}`", path.display());
        }
    }
    if text.files.is_empty() && text.unreadable.is_empty() {
        let paths: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
        bail!("no rule file (*.yml) in {}", paths.join(", "));
    }
    text.files.sort_by(|a, b| a.path.cmp(&b.path));
    text.files.dedup_by(|a, b| a.path == b.path);
    Ok(text)
}

/// The detections that come with the binary.
pub fn built_in_rules() -> Result<RuleText> {
    let mut text = RuleText::default();
    embedded_walk(&DETECTIONS, &mut text)?;
    text.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(text)
}

fn embedded<'a>(dir: &'a Dir<'_>, path: &str) -> Result<&'a str> {
    dir.get_file(path)
        .and_then(include_dir::File::contents_utf8)
        .with_context(|| format!("the built-in {path} is missing"))
}

fn embedded_walk(dir: &Dir<'_>, text: &mut RuleText) -> Result<()> {
    for file in dir.files().filter(|f| is_yaml(f.path())) {
        let name = format!("detections/{}", file.path().display());
        let content = file.contents_utf8().with_context(|| format!("built-in {name} is no UTF-8"))?;
        match file.path().parent().and_then(Path::file_name).and_then(|n| n.to_str()) {
            Some("playbooks") => {}
            Some("lists") => add_list(file.path(), &name, content, &mut text.lists)?,
            _ => text.files.push(RuleFile { path: name.into(), text: content.to_owned() }),
        }
    }
    dir.dirs().try_for_each(|d| embedded_walk(d, text))
}

fn walk(dir: &Path, depth: usize, text: &mut RuleText) -> Result<()> {
    if depth > MAX_DEPTH {
        bail!("{}: folders nested deeper than {MAX_DEPTH}", dir.display());
    }
    let kind = dir.file_name().and_then(|n| n.to_str());
    for entry in
        std::fs::read_dir(dir).with_context(|| format!("cannot read the folder `{}`", dir.display()))?
    {
        let path = entry.with_context(|| format!("cannot read the folder `{}`", dir.display()))?.path();
        if path.is_dir() {
            walk(&path, depth + 1, text)?;
        } else if is_yaml(&path) {
            add(&path, kind, text);
        }
    }
    Ok(())
}

/// Takes one file of a folder of that kind.
fn add(path: &Path, kind: Option<&str>, text: &mut RuleText) {
    let name = path.display().to_string();
    let added = match kind {
        Some("playbooks") => Ok(()),
        Some("lists") => read(path).and_then(|content| add_list(path, &name, &content, &mut text.lists)),
        _ => {
            read(path).map(|content| text.files.push(RuleFile { path: name.as_str().into(), text: content }))
        }
    };
    if let Err(why) = added {
        text.refuse(&name, &why);
    }
}

/// A list is a YAML sequence of texts, named after its file.
fn add_list(path: &Path, name: &str, content: &str, lists: &mut Lists) -> Result<()> {
    let values: Vec<String> = config::parse(name, content)?;
    let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_owned();
    if lists.insert(stem.clone(), values).is_some() {
        bail!("{name}: there is another list `{stem}`");
    }
    Ok(())
}

fn yaml_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(dir).with_context(|| format!("cannot read the folder `{}`", dir.display()))?;
    let mut paths: Vec<_> = entries.filter_map(|e| e.ok().map(|e| e.path())).filter(|p| is_yaml(p)).collect();
    paths.sort();
    Ok(paths)
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "yml" || e == "yaml")
}

fn read(path: &Path) -> Result<String> {
    let about = std::fs::metadata(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    if about.len() > MAX_RULE_BYTES {
        bail!("{}: longer than {MAX_RULE_BYTES} bytes", path.display());
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_unreadable_file_does_not_stop_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let lists = folder.path().join("lists");
        std::fs::create_dir(&lists).unwrap();
        std::fs::write(folder.path().join("binary.yml"), b"title: \xff").unwrap();
        std::fs::write(lists.join("broken.yml"), "a: b").unwrap();
        std::fs::write(folder.path().join("good.yml"), "title: t\n").unwrap();
        let text = rules(&[folder.path().to_owned()]).unwrap();
        assert_eq!(text.files.len(), 1);
        let refused: Vec<_> = text.unreadable.iter().map(|r| (r.code, r.message.contains("UTF-8"))).collect();
        assert_eq!(refused.len(), 2, "{:?}", text.unreadable);
        assert!(refused.contains(&("unreadable-file", true)), "{:?}", text.unreadable);
    }

    #[test]
    fn no_rules_at_all_is_wrong_use() {
        let folder = tempfile::tempdir().unwrap();
        let empty = rules(&[folder.path().to_owned()]).unwrap_err();
        assert!(empty.to_string().starts_with("no rule file (*.yml) in "), "{empty}");
        assert!(rules(&[folder.path().join("nowhere")]).is_err());
    }
}
