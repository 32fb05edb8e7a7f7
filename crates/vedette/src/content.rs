//! Schemas and rules, from the binary itself or from disk.
//!
//! In: paths. Out: [`Sources`] and rule files with their text, sorted by path, so that every run sees the same.
//! Invariant: what is built in is exactly what the repository's `schemas/` and `detections/` held at build time.

mod built_in;

use std::{
    collections::BTreeSet,
    fs::{DirEntry, FileType},
    io, iter,
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use vedette_decode::{Inspector, UNMAPPED};
use vedette_event::{Fields, SourceDef, Sources};
use vedette_sigma::{Lists, Rejection, RuleFile, RuleSet};

use built_in::{SCHEMAS, embedded};
pub use built_in::{built_in_playbooks, built_in_rules};

use crate::{
    config::MAX_DISORDER,
    pipeline,
    yaml::{self, FileFault, MAX_BYTES, Places},
};

/// Rule files beyond this are no rules.
const MAX_RULE_BYTES: usize = 4 << 20;
/// A thread for fewer files than this costs more than it saves.
const FILES_A_THREAD: usize = 32;
/// Folders nested deeper than this are not looked into.
const MAX_DEPTH: usize = 16;

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

/// Reads rule files and folders, on all cores. `playbooks/` and `lists/` hold no rules; lists are read for placeholders.
///
/// # Errors
/// If a path is not there, or if there is no rule file at all.
pub fn rules(paths: &[PathBuf]) -> Result<RuleText> {
    rules_on(pipeline::cores(), paths)
}

/// The same on so many threads: with thousands of files that is a tenth of a start.
pub fn rules_on(threads: u16, paths: &[PathBuf]) -> Result<RuleText> {
    let mut found = Found::default();
    for path in paths {
        if path.is_dir() {
            found.walk(path, &mut Vec::new());
        } else if path.exists() {
            found.rules.push(path.clone());
            let lists = path.with_file_name("lists");
            if lists.is_dir() {
                found.walk(&lists, &mut Vec::new());
            }
        } else {
            bail!("there is no rule file or folder `{}`", path.display());
        }
    }
    let text = found.read(threads);
    if text.files.is_empty() && text.unreadable.is_empty() {
        let paths: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
        bail!("no rule file (*.yml) in {}", paths.join(", "));
    }
    Ok(text)
}

/// The playbook files of all `playbooks/` in these folders. What cannot be walked through, [`rules`] tells.
pub fn playbooks(paths: &[PathBuf]) -> RuleText {
    let mut found = Found::default();
    paths.iter().filter(|path| path.is_dir()).for_each(|path| found.walk(path, &mut Vec::new()));
    Found { rules: found.playbooks, ..Found::default() }.read(1)
}

/// Files that were found, before any of them is read.
#[derive(Default)]
struct Found {
    rules: Vec<PathBuf>,
    lists: Vec<PathBuf>,
    playbooks: Vec<PathBuf>,
    /// Folders of lists that were walked through.
    lists_of: BTreeSet<PathBuf>,
    refused: Vec<FileFault>,
}

impl Found {
    /// Takes all files of a folder and of those in it. `above` are the folders that it is in, without links.
    fn walk(&mut self, dir: &Path, above: &mut Vec<PathBuf>) {
        let fault = |message: String| FileFault { file: dir.display().to_string(), at: None, message };
        let no_folder = |e: io::Error| fault(format!("this folder cannot be read: {e}"));
        let (own, entries) = match dir.canonicalize().and_then(|own| Ok((own, sorted(dir)?))) {
            Ok(read) => read,
            Err(e) => return self.refused.push(no_folder(e)),
        };
        if above.contains(&own) {
            let back = "this link leads back to a folder that it is in; remove it";
            return self.refused.push(fault(back.into()));
        }
        if above.len() > MAX_DEPTH {
            let deep = format!("folders are nested deeper than {MAX_DEPTH}; move this one up");
            return self.refused.push(fault(deep));
        }
        let kind = dir.file_name().and_then(|n| n.to_str());
        if kind == Some("lists") && !self.lists_of.insert(own.clone()) {
            return;
        }
        above.push(own);
        for entry in entries {
            let path = entry.path();
            match kind_of(&entry) {
                Ok(kind) if kind.is_dir() => self.walk(&path, above),
                _ if !is_yaml(&path) => {}
                // A pipe would be waited for until somebody writes into it.
                Ok(kind) if !kind.is_file() => self.refused.push(FileFault {
                    file: path.display().to_string(),
                    at: None,
                    message: "this is no regular file; remove it".into(),
                }),
                _ => match kind {
                    Some("playbooks") => self.playbooks.push(path),
                    Some("lists") => self.lists.push(path),
                    _ => self.rules.push(path),
                },
            }
        }
        above.pop();
    }

    /// Reads all of them.
    fn read(self, threads: u16) -> RuleText {
        let mut text = RuleText::default();
        self.refused.into_iter().for_each(|fault| text.refuse(fault));
        for path in self.lists {
            let name = path.display().to_string();
            let content = yaml::read(&path, MAX_RULE_BYTES);
            let added = content.and_then(|content| add_list(&path, &name, &content, &mut text.lists));
            added.unwrap_or_else(|fault| text.refuse(fault));
        }
        let contents = on_threads(threads, &self.rules, |path| yaml::read(path, MAX_RULE_BYTES));
        for (path, content) in self.rules.iter().zip(contents) {
            match content.map(|text| RuleFile { path: path.display().to_string().into(), text }) {
                Ok(file) => text.files.push(file),
                Err(fault) => text.refuse(fault),
            }
        }
        text.files.sort_by(|a, b| a.path.cmp(&b.path));
        text.files.dedup_by(|a, b| a.path == b.path);
        text.unreadable.sort_by(|a, b| a.file.cmp(&b.file));
        text
    }
}

/// What comes of each item, in their order, on so many threads at most.
fn on_threads<T: Sync, R: Send>(threads: u16, items: &[T], each: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = usize::from(threads).min(items.len().div_ceil(FILES_A_THREAD)).max(1);
    let next = AtomicUsize::new(0);
    let some = || {
        let taken = iter::from_fn(|| {
            let at = next.fetch_add(1, Ordering::Relaxed);
            Some((at, items.get(at)?))
        });
        taken.map(|(at, item)| (at, each(item))).collect::<Vec<_>>()
    };
    let mut done = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(some)).collect();
        let mut done = some();
        for other in others {
            done.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, of)| of).collect()
}

/// What a folder holds, by name.
fn sorted(dir: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = std::fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_cached_key(DirEntry::file_name);
    Ok(entries)
}

/// What an entry is, or what it leads to. The folder says it of all but links: to ask the file system of each of three thousand rules
/// takes as long as opening a third of them.
fn kind_of(entry: &DirEntry) -> io::Result<FileType> {
    let kind = entry.file_type()?;
    if kind.is_symlink() { std::fs::metadata(entry.path()).map(|found| found.file_type()) } else { Ok(kind) }
}

/// A list is a YAML sequence of texts, named after its file.
fn add_list(path: &Path, name: &str, content: &str, lists: &mut Lists) -> Result<(), FileFault> {
    let values: Vec<String> = yaml::parse(name, content).map_err(|fault| FileFault {
        message: format!("{}; a list is a YAML sequence of texts, such as `- one`", fault.message),
        ..fault
    })?;
    let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_owned();
    if lists.contains_key(&stem) {
        let message = format!("there is another list `{stem}`; rename one");
        return Err(FileFault { file: name.to_owned(), at: None, message });
    }
    lists.insert(stem, values);
    Ok(())
}

/// The name of the list that a file of that path holds, if it is one.
pub fn list_name(path: &str) -> Option<String> {
    let path = Path::new(path);
    let folder = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    let name = path.file_stem().and_then(|stem| stem.to_str());
    name.filter(|_| folder == Some("lists")).map(str::to_owned)
}

/// How rule paths and the folder of schemas look from outside: equal as long as no file in them was written, put in or removed. Links
/// are followed, so that it is seen when one leads elsewhere (as a Kubernetes config map changes).
pub fn look(rules: &[PathBuf], schemas: Option<&Path>) -> [u8; 32] {
    let mut seen = Vec::new();
    for path in rules.iter().map(PathBuf::as_path).chain(schemas) {
        look_at(path, &mut Vec::new(), &mut seen);
        if path.is_file() {
            look_at(&path.with_file_name("lists"), &mut Vec::new(), &mut seen);
        }
    }
    vedette_event::raw::record_hash(Some(&seen))
}

/// `above` are the folders that it is in, by device and number: a link back to one of them is not followed.
fn look_at(path: &Path, above: &mut Vec<(u64, u64)>, seen: &mut Vec<u8>) {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(meta) = std::fs::metadata(path) else { return };
    seen.extend_from_slice(path.as_os_str().as_encoded_bytes());
    let own = (meta.dev(), meta.ino());
    if meta.is_dir() {
        seen.push(b'/');
        if above.len() <= MAX_DEPTH && !above.contains(&own) {
            above.push(own);
            sorted(path).unwrap_or_default().iter().for_each(|entry| look_at(&entry.path(), above, seen));
            above.pop();
        }
    } else if is_yaml(path) {
        for number in [meta.ino() as i64, meta.len() as i64, meta.mtime(), meta.mtime_nsec()] {
            seen.extend_from_slice(&number.to_le_bytes());
        }
    }
}

fn yaml_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = sorted(dir).with_context(|| format!("cannot read the folder `{}`", dir.display()))?;
    Ok(entries.iter().map(DirEntry::path).filter(|p| is_yaml(p)).collect())
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("yml") || e.eq_ignore_ascii_case("yaml"))
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
        let refused: Vec<_> =
            text.unreadable.iter().map(|r| (r.line, r.column, r.message.as_str())).collect();
        let utf8 = "this byte is no UTF-8; save the file as UTF-8";
        assert_eq!(refused[0], (1, 8, utf8));
        assert_eq!((refused[1].0, refused[1].1), (1, 1));
        assert!(refused[1].2.ends_with("a list is a YAML sequence of texts, such as `- one`"), "{refused:?}");
    }

    #[test]
    fn one_unreadable_folder_does_not_stop_the_others() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("below");
        std::fs::create_dir(&below).unwrap();
        symlink(folder.path(), below.join("again")).unwrap();
        symlink("nowhere", below.join("gone.yml")).unwrap();
        symlink(folder.path(), below.join("once more")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(below.join("pipe.yml")).unwrap();
        std::fs::write(below.join("LOUD.YML"), "title: t\n").unwrap();
        let text = rules(&[folder.path().to_owned()]).unwrap();
        assert_eq!(text.files.len(), 1, "{:?}", text.files);
        let refused: Vec<_> = text.unreadable.iter().map(|r| r.message.as_str()).collect();
        assert!(refused[0].starts_with("this link leads back"), "{refused:?}");
        assert!(refused[1].starts_with("cannot be read: No such file"), "{refused:?}");
        assert!(refused[2].starts_with("this link leads back"), "{refused:?}");
        assert_eq!(refused[3], "this is no regular file; remove it");
        assert_eq!(refused.len(), 4, "{refused:?}");
        let mut seen = Vec::new();
        look_at(folder.path(), &mut Vec::new(), &mut seen);
        assert!(seen.len() < 2_000, "each folder is looked at once: {}", seen.len());
    }

    #[test]
    fn lists_beside_a_rule_are_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let lists = folder.path().join("lists");
        std::fs::create_dir(&lists).unwrap();
        std::fs::write(lists.join("admins.yml"), "- ann\n").unwrap();
        let rule = folder.path().join("r.yml");
        std::fs::write(&rule, "title: t\n").unwrap();
        for paths in [vec![rule.clone()], vec![rule.clone(), folder.path().to_owned(), rule]] {
            let text = rules(&paths).unwrap();
            assert_eq!(text.lists["admins"], ["ann"]);
            assert!(text.unreadable.is_empty(), "{:?}", text.unreadable);
            assert_eq!(text.files.len(), 1);
        }
    }

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

    #[test]
    fn files_read_on_several_threads_are_joined_in_their_order() {
        let rule = |n: usize| {
            let detection = "detection: {s: {a: 1}, condition: s}";
            // Some share an id, some a name; one is no YAML.
            let text = match n {
                70 => "title: [".to_owned(),
                _ => format!(
                    "title: t\nid: {}\nname: n{}\nlogsource: {{product: p}}\n{detection}\n",
                    n % 90,
                    n % 7
                ),
            };
            RuleFile { path: format!("{n:03}.yml").into(), text }
        };
        let text = RuleText { files: (0..200).map(rule).collect(), ..RuleText::default() };
        let sources = sources(None).unwrap();
        let expected = vedette_sigma::load(&text.files, &text.lists, &sources);
        assert!(text.files.len() > FILES_A_THREAD * 2 && expected.rejected.len() > 100);
        for threads in 1..8 {
            let loaded = text.load_on(threads, &sources);
            assert_eq!(format!("{:?}", loaded.rules), format!("{:?}", expected.rules));
            assert_eq!(format!("{:?}", loaded.rejected), format!("{:?}", expected.rejected));
        }
    }

    #[test]
    fn no_rules_at_all_is_wrong_use() {
        let folder = tempfile::tempdir().unwrap();
        let empty = rules(&[folder.path().to_owned()]).unwrap_err();
        assert!(empty.to_string().starts_with("no rule file (*.yml) in "), "{empty}");
        assert!(rules(&[folder.path().join("nowhere")]).is_err());
    }
}
