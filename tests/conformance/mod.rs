//! Test material written by others, read in place through `VEDETTE_CORPUS`.

mod decode;
mod detect;
mod sigma;

pub(crate) use sigma::rule_files;

use std::path::{Path, PathBuf};

/// The folder of the material: `VEDETTE_CORPUS`, else `../shared/data` beside the workspace. `None`, and a line that says so, if it is not there.
pub(crate) fn corpus() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let root = std::env::var_os("VEDETTE_CORPUS").map_or(beside, PathBuf::from);
    if root.is_dir() {
        return Some(root);
    }
    let why = format!("no test material at {}; set VEDETTE_CORPUS to its folder", root.display());
    crate::skipped::say("conformance", &why);
    None
}
