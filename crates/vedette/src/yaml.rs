//! YAML files of ours: read and parsed within bounds, and where each value in them stands.
//!
//! In: paths and text. Out: values, and errors that name the file, the line and the column.
//! Invariants: a file that never ends is read no further than the bound; an error quotes nothing of the file but the
//! value that is wrong. The bounds are below the library's own, with which a small file could take seconds.

use std::{collections::BTreeMap, fmt, fs::File, io::Read as _, path::Path};

use anyhow::{Error, anyhow};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{MessageFormatter as _, Options, Spanned, UserMessageFormatter};

/// Configurations, schemas and lists beyond this are none.
pub const MAX_BYTES: usize = 1 << 20;

/// What is wrong with a file.
#[derive(Debug)]
pub struct FileFault {
    /// The file.
    pub file: String,
    /// Line and column from 1, where there is such a place.
    pub at: Option<(usize, usize)>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, at, message } = self;
        match at {
            Some((line, column)) => write!(f, "{file}:{line}:{column}: {message}"),
            None => write!(f, "{file}: {message}"),
        }
    }
}

impl std::error::Error for FileFault {}

/// Reads a text of at most so many bytes.
pub fn read(path: &Path, most: usize) -> Result<String, FileFault> {
    let fault = |at, message| FileFault { file: path.display().to_string(), at, message };
    let mut bytes = Vec::new();
    // What a file says of its length is not to be relied on.
    File::open(path)
        .and_then(|file| file.take(most as u64 + 1).read_to_end(&mut bytes))
        .map_err(|e| fault(None, format!("cannot be read: {e}")))?;
    if bytes.len() > most {
        return Err(fault(None, format!("is longer than {most} bytes")));
    }
    String::from_utf8(bytes).map_err(|e| {
        let good = String::from_utf8_lossy(&e.as_bytes()[..e.utf8_error().valid_up_to()]);
        let last = good.rsplit('\n').next().unwrap_or_default();
        let at = (good.matches('\n').count() + 1, last.chars().count() + 1);
        fault(Some(at), "this byte is no UTF-8; save the file as UTF-8".into())
    })
}

/// Parses YAML within bounds; an error names file, line and column, and quotes nothing else of the file.
pub fn parse<T: DeserializeOwned>(name: &str, text: &str) -> Result<T, FileFault> {
    let fault = |at, message| FileFault { file: name.to_owned(), at, message };
    if text.len() > MAX_BYTES {
        return Err(fault(None, format!("is longer than {MAX_BYTES} bytes")));
    }
    serde_saphyr::from_str_with_options(text, options()).map_err(|e| {
        let at = e.location().map(|at| (at.line() as usize, at.column() as usize));
        // Not with the lines around it: one of them may hold a password.
        fault(at, UserMessageFormatter.format_message(&e).into_owned())
    })
}

fn options() -> Options {
    let mut options = Options::default();
    let mut budget = serde_saphyr::Budget::default();
    (budget.max_nodes, budget.max_depth, budget.max_aliases) = (20_000, 32, 100);
    options.budget = Some(budget);
    options.with_snippet = false;
    options
}

/// Where each value of a file stands, by its path, such as `kafka.topics[0].source`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places(BTreeMap<String, String>);

impl Places {
    /// The places of a file that could be parsed.
    pub fn of(name: &str, text: &str) -> Self {
        let mut places = BTreeMap::from([(String::new(), name.to_owned())]);
        if let Ok(root) = serde_saphyr::from_str_with_options::<Spanned<Node>>(text, options()) {
            enter(name, String::new(), &root.value, &mut places);
        }
        Self(places)
    }

    /// Says that the value of that path comes from elsewhere.
    pub fn replace(&mut self, path: &str, place: &str) {
        self.0.insert(path.to_owned(), place.to_owned());
    }

    /// A fault of one value says which, unless it does already.
    pub fn named(&self, fault: FileFault) -> FileFault {
        let Some((line, column)) = fault.at else { return fault };
        let place = format!("{}:{line}:{column}", fault.file);
        // Of a list and its first entry, which stand at one place, the entry, whose path is longer.
        let own =
            self.0.iter().filter(|(path, own)| !path.is_empty() && **own == place).map(|(path, _)| path);
        match own.max_by_key(|path| path.len()) {
            Some(path) if !fault.message.starts_with(path.as_str()) => {
                FileFault { message: format!("{path}: {}", fault.message), ..fault }
            }
            _ => fault,
        }
    }

    /// What is wrong with the value of that path, with the place of it, or of what it is missing in.
    pub fn wrong(&self, path: &str, what: impl fmt::Display) -> Error {
        let mut known = path;
        while !self.0.contains_key(known) && !known.is_empty() {
            known = known.rfind(['.', '[']).map_or("", |end| &known[..end]);
        }
        match self.0.get(known) {
            Some(place) => anyhow!("{place}: {path}: {what}"),
            None => anyhow!("{path}: {what}"),
        }
    }
}

fn enter(name: &str, path: String, node: &Node, places: &mut BTreeMap<String, String>) {
    for (step, below) in &node.0 {
        let path =
            if path.is_empty() { step.trim_start_matches('.').to_owned() } else { format!("{path}{step}") };
        let at = below.referenced;
        places.insert(path.clone(), format!("{name}:{}:{}", at.line(), at.column()));
        enter(name, path, &below.value, places);
    }
}

/// A value's parts, each with the step that leads to it: `.key` or `[0]`.
struct Node(Vec<(String, Spanned<Node>)>);

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Parts)
    }
}

struct Parts;

macro_rules! leaf {
    ($($visit:ident: $kind:ty),*) => {
        $(fn $visit<E>(self, _: $kind) -> Result<Node, E> {
            Ok(Node(Vec::new()))
        })*
    };
}

impl<'de> Visitor<'de> for Parts {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    leaf!(visit_bool: bool, visit_i64: i64, visit_i128: i128, visit_u64: u64, visit_u128: u128, visit_f64: f64, visit_str: &str);

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node(Vec::new()))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node(Vec::new()))
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Node, D::Error> {
        from.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut parts = Vec::new();
        while let Some(part) = list.next_element()? {
            parts.push((format!("[{}]", parts.len()), part));
        }
        Ok(Node(parts))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut parts = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            parts.push((format!(".{key}"), map.next_value()?));
        }
        Ok(Node(parts))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_value_has_its_place() {
        let text = "a:\n  b: [1, {c: x, d: null}]\n  e.f: true\n";
        let places = Places::of("x.yml", text);
        let said = |path| places.wrong(path, "no").to_string();
        assert_eq!(said("a.b[1].c"), "x.yml:2:14: a.b[1].c: no");
        assert_eq!(said("a.b[1].d"), "x.yml:2:20: a.b[1].d: no");
        assert_eq!(said("a.e.f"), "x.yml:3:8: a.e.f: no");
        assert_eq!(said("a.b[0].z"), "x.yml:2:7: a.b[0].z: no", "what it is missing in");
        assert_eq!(said("g.h"), "x.yml: g.h: no");
        assert_eq!(Places::default().wrong("g", "no").to_string(), "g: no");
    }

    #[test]
    fn reading_ends_where_no_file_should() {
        let endless = read(Path::new("/dev/zero"), 1_000).unwrap_err().to_string();
        assert_eq!(endless, "/dev/zero: is longer than 1000 bytes");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("latin1.yml");
        std::fs::write(&path, b"title: t\nauthor: \xc3\xa9caf\xe9").unwrap();
        let said = read(&path, 1_000).unwrap_err().to_string();
        assert!(said.ends_with("latin1.yml:2:13: this byte is no UTF-8; save the file as UTF-8"), "{said}");
    }
}
