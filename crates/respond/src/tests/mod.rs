//! Tests of the crate as a whole.
#![allow(clippy::unwrap_used)]

mod guards;
mod hostile;
mod language;
mod sequences;
mod shipped;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, LazyLock},
};

use vedette_event::{Fields, RuleRef, Severity, SourceDef, Sources, Value};
use vedette_sigma::{Lists, RuleFile, RuleSet};

use crate::{PlaybookSet, gate::Policy, load};

pub(crate) fn rule(id: &str, level: Severity) -> RuleRef {
    RuleRef {
        id: id.into(),
        title: id.into(),
        level,
        kind: "single".into(),
        version: "v".into(),
        tags: Arc::from([]),
    }
}

pub(crate) fn key(parts: &[(&str, &str)]) -> BTreeMap<Arc<str>, Value> {
    parts.iter().map(|(name, value)| ((*name).into(), Value::Text((*value).into()))).collect()
}

/// The YAML files of a folder of the repository, sorted.
#[expect(clippy::disallowed_methods, reason = "a test reads the repository's own files")]
fn files(folder: &str) -> Vec<RuleFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut paths: Vec<_> =
        fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let yaml = paths.into_iter().filter(|path| path.extension().is_some_and(|e| e == "yml"));
    let name = |path: &Path| format!("{folder}/{}", path.file_name().unwrap().display());
    yaml.map(|path| RuleFile { path: name(&path).into(), text: fs::read_to_string(path).unwrap() }).collect()
}

/// The project's own sources and rules, read once.
fn content() -> (Sources, RuleSet) {
    static CONTENT: LazyLock<(Sources, RuleSet)> = LazyLock::new(read_content);
    CONTENT.clone()
}

fn read_content() -> (Sources, RuleSet) {
    let parse = |file: &RuleFile| serde_saphyr::from_str::<SourceDef>(&file.text).unwrap();
    let fields = files("schemas").into_iter().find(|file| file.path.ends_with("fields.yml")).unwrap();
    let fields: Fields = serde_saphyr::from_str(&fields.text).unwrap();
    let sources = Sources::new(fields, files("schemas/sources").iter().map(parse).collect());
    let folders = ["detections/correlations", "detections/rules/firewall", "detections/rules/waf"];
    let rules: Vec<RuleFile> = folders.into_iter().flat_map(files).collect();
    let rules = vedette_sigma::load(&rules, &Lists::new(), &sources);
    assert!(rules.rejected.is_empty(), "{:?}", rules.rejected);
    (sources, rules)
}

/// Reads playbooks over the project's own rules.
fn read(texts: &[&str]) -> PlaybookSet {
    let (sources, rules) = content();
    let file = |(at, text): (usize, &&str)| RuleFile {
        path: format!("playbooks/{at}.yml").into(),
        text: (*text).to_owned(),
    };
    let files: Vec<RuleFile> = texts.iter().enumerate().map(file).collect();
    load(&files, &rules, &sources, &Policy::default())
}

/// A playbook with this trigger and these steps.
fn text(trigger: &str, steps: &str) -> String {
    format!(
        "title: t\nid: 7f1f0f7e-8a44-4a3e-9c51-0d7bb2d2a001\nname: t\ndate: 2026-11-28\ntrigger: {trigger}\nsteps:\n{steps}"
    )
}
