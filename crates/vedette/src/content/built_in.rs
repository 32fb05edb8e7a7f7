//! What comes with the binary: schemas, detections and playbooks, as the repository held them when it was built.
//!
//! In: nothing. Out: texts, by the paths that they have in the repository.

use std::path::Path;

use anyhow::{Context as _, Result};
use include_dir::{Dir, include_dir};
use vedette_sigma::RuleFile;

use super::{RuleText, add_list, is_yaml};

/// Fields and sources.
pub static SCHEMAS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../schemas");
static DETECTIONS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../detections");

/// The playbooks that come with the binary.
pub fn built_in_playbooks() -> RuleText {
    let mut text = RuleText::default();
    for file in DETECTIONS.get_dir("playbooks").into_iter().flat_map(Dir::files) {
        let path = format!("detections/{}", file.path().display()).into();
        text.files.extend(file.contents_utf8().map(|content| RuleFile { path, text: content.to_owned() }));
    }
    text
}

/// The detections that come with the binary.
pub fn built_in_rules() -> Result<RuleText> {
    let mut text = RuleText::default();
    embedded_walk(&DETECTIONS, &mut text)?;
    text.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(text)
}

/// The text of a file.
pub fn embedded<'a>(dir: &'a Dir<'_>, path: &str) -> Result<&'a str> {
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
