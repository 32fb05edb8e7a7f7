//! Rule files on disk: found, read, parsed.
//!
//! In: paths of files and folders. Out: [`Found`], and of it [`RuleText`] and rules, in the order of paths.
//! Invariants: what cannot be read is a rejection of its own and stops nothing else; no folder is walked through twice, and none forever.

use std::{
    collections::BTreeSet,
    fs::{DirEntry, FileType},
    io, iter,
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Result, bail};
use vedette_event::Sources;
use vedette_sigma::{Lists, RuleFile, RuleSet};

use super::RuleText;
use crate::{
    pipeline,
    yaml::{self, FileFault},
};

/// Rule files beyond this are no rules.
const MAX_RULE_BYTES: usize = 4 << 20;
/// A thread for fewer files than this costs more than it saves.
const FILES_A_THREAD: usize = 32;
/// Folders nested deeper than this are not looked into.
const MAX_DEPTH: usize = 16;

/// Reads rule files and folders, on all cores. `playbooks/` and `lists/` hold no rules; lists are read for placeholders.
///
/// # Errors
/// If a path is not there, or if there is no rule file at all.
pub fn rules(paths: &[PathBuf]) -> Result<RuleText> {
    Ok(Found::at(paths)?.read(pipeline::cores()))
}

/// The playbook files of all `playbooks/` in these folders. What cannot be walked through, [`rules`] tells.
pub fn playbooks(paths: &[PathBuf]) -> RuleText {
    let mut found = Found::default();
    paths.iter().filter(|path| path.is_dir()).for_each(|path| found.walk(path, &mut Vec::new()));
    Found { rules: found.playbooks, ..Found::default() }.read(1)
}

/// Rule files that were found, before any of them is read.
#[derive(Debug, Default)]
pub struct Found {
    rules: Vec<PathBuf>,
    lists: Vec<PathBuf>,
    playbooks: Vec<PathBuf>,
    /// Folders of lists that were walked through.
    lists_of: BTreeSet<PathBuf>,
    refused: Vec<FileFault>,
}

impl Found {
    /// Those of files and folders.
    ///
    /// # Errors
    /// If a path is not there, or if there is no rule file at all.
    pub fn at(paths: &[PathBuf]) -> Result<Self> {
        let mut found = Self::default();
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
        if found.rules.is_empty() && found.refused.is_empty() {
            let paths: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
            bail!("no rule file (*.yml) in {}", paths.join(", "));
        }
        Ok(found)
    }

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

    /// Reads all of them, on so many threads: with thousands of files that is a tenth of a start.
    pub fn read(self, threads: u16) -> RuleText {
        self.each(threads, |_, _| ()).0
    }

    /// Reads, parses, checks and lowers all of them, file by file on so many threads. One that parses leaves the disk to the others:
    /// reading alone, they wait for each other in the file system half of the time.
    pub fn load(self, threads: u16, sources: &Sources) -> (RuleText, RuleSet) {
        let (text, read) = self.each(threads, |file, lists| vedette_sigma::read(file, lists, sources));
        let rules = text.joined(read, sources);
        (text, rules)
    }

    /// Reads all of them; what comes of each rule file, in their order.
    fn each<R: Send>(self, threads: u16, of: impl Fn(&RuleFile, &Lists) -> R + Sync) -> (RuleText, Vec<R>) {
        let mut text = RuleText::default();
        self.refused.into_iter().for_each(|fault| text.refuse(fault));
        for path in self.lists {
            let name = path.display().to_string();
            let content = yaml::read(&path, MAX_RULE_BYTES);
            let added = content.and_then(|content| add_list(&path, &name, &content, &mut text.lists));
            added.unwrap_or_else(|fault| text.refuse(fault));
        }
        let named = self.rules.into_iter().map(|path| (Arc::from(path.display().to_string()), path));
        let mut named: Vec<(Arc<str>, PathBuf)> = named.collect();
        named.sort_by(|(a, _), (b, _)| a.cmp(b));
        named.dedup_by(|(a, _), (b, _)| a == b);
        let read = on_threads(threads, &named, |(name, path)| {
            let file = RuleFile { path: name.clone(), text: yaml::read(path, MAX_RULE_BYTES)? };
            let of = of(&file, &text.lists);
            Ok((file, of))
        });
        let mut all = Vec::with_capacity(read.len());
        for read in read {
            match read {
                Ok((file, of)) => {
                    text.files.push(file);
                    all.push(of);
                }
                Err(fault) => text.refuse(fault),
            }
        }
        text.unreadable.sort_by(|a, b| a.file.cmp(&b.file));
        (text, all)
    }
}

/// What comes of each item, in their order, on so many threads at most.
pub fn on_threads<T: Sync, R: Send>(threads: u16, items: &[T], each: impl Fn(&T) -> R + Sync) -> Vec<R> {
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
pub fn sorted(dir: &Path) -> io::Result<Vec<DirEntry>> {
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
pub fn add_list(path: &Path, name: &str, content: &str, lists: &mut Lists) -> Result<(), FileFault> {
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

pub fn is_yaml(path: &Path) -> bool {
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
    fn no_rules_at_all_is_wrong_use() {
        let folder = tempfile::tempdir().unwrap();
        let empty = rules(&[folder.path().to_owned()]).unwrap_err();
        assert!(empty.to_string().starts_with("no rule file (*.yml) in "), "{empty}");
        assert!(rules(&[folder.path().join("nowhere")]).is_err());
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
        let sources = super::super::sources(None).unwrap();
        let expected = vedette_sigma::load(&text.files, &text.lists, &sources);
        assert!(text.files.len() > FILES_A_THREAD * 2 && expected.rejected.len() > 100);
        for threads in 1..8 {
            let loaded = text.load_on(threads, &sources);
            assert_eq!(format!("{:?}", loaded.rules), format!("{:?}", expected.rules));
            assert_eq!(format!("{:?}", loaded.rejected), format!("{:?}", expected.rejected));
        }
    }
}
