//! The invariants of the architecture, enforced by machine: dependency arrows, purity, readable files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Who may depend on whom among our crates; nothing else is allowed. `vedette` wires, `vedette-tests` tests.
const ARROWS: &[(&str, &[&str])] = &[
    ("vedette-event", &[]),
    ("vedette-sigma", &["vedette-event"]),
    ("vedette-simulate", &["vedette-event"]),
    ("vedette-decode", &["vedette-event"]),
    ("vedette-detect", &["vedette-event", "vedette-sigma"]),
    ("vedette-correlate", &["vedette-event", "vedette-sigma"]),
    (
        "vedette-engine",
        &["vedette-event", "vedette-sigma", "vedette-decode", "vedette-detect", "vedette-correlate"],
    ),
    ("vedette-respond", &["vedette-event", "vedette-sigma"]),
    ("vedette-ingest", &["vedette-event"]),
    ("vedette-store", &["vedette-event"]),
    ("vedette-hunt", &["vedette-event", "vedette-sigma", "vedette-store"]),
    ("vedette-act", &["vedette-event", "vedette-ingest", "vedette-respond", "vedette-store"]),
    ("vedette-api", &["vedette-event", "vedette-sigma", "vedette-respond", "vedette-store", "vedette-act"]),
];

/// Crates that do no I/O and so need none of these.
const PURE: &[&str] = &[
    "vedette-event",
    "vedette-sigma",
    "vedette-decode",
    "vedette-detect",
    "vedette-correlate",
    "vedette-engine",
    "vedette-respond",
];
const IMPURE: &[&str] = &["tokio", "mio", "rdkafka", "sqlx", "axum", "hyper"];
/// What a pure crate may not name itself; libraries below it (arrow's hash tables) use it where it decides nothing.
const RANDOM: &[&str] = &["rand", "getrandom", "fastrand"];

/// Lines of a source file; of a test file.
const MAX_LINES: (usize, usize) = (600, 1_000);
/// Lines of a function.
const MAX_FUNCTION: usize = 80;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What this machine builds. Asked for one platform only, because a machine that has just run the tests holds the crates
/// of no other: without the filter, cargo would want to download those of Windows and Android first.
fn metadata() -> Value {
    let cargo = |args: &[&str]| {
        let output = Command::new(env!("CARGO")).args(args).current_dir(root()).output().expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("cargo writes UTF-8")
    };
    let version = cargo(&["--version", "--verbose"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("cargo names its host");
    let said =
        cargo(&["metadata", "--format-version", "1", "--offline", "--locked", "--filter-platform", host]);
    serde_json::from_str(&said).expect("cargo metadata writes JSON")
}

/// Normal dependencies of each package, by name.
fn normal_dependencies(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let array = |v: &Value| v.as_array().cloned().unwrap_or_default();
    let names: BTreeMap<String, String> =
        array(&metadata["packages"]).iter().map(|p| (text(&p["id"]), text(&p["name"]))).collect();
    let mut all = BTreeMap::new();
    for node in array(&metadata["resolve"]["nodes"]) {
        let normal = array(&node["deps"])
            .iter()
            .filter(|d| array(&d["dep_kinds"]).iter().any(|k| k["kind"].is_null()))
            .filter_map(|d| names.get(&text(&d["pkg"])).cloned())
            .collect();
        if let Some(name) = names.get(&text(&node["id"])) {
            all.entry(name.clone()).or_insert_with(BTreeSet::new).extend::<BTreeSet<String>>(normal);
        }
    }
    all
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let dependencies = normal_dependencies(&metadata());
    for (name, allowed) in ARROWS {
        let ours = dependencies[*name].iter().filter(|d| d.starts_with("vedette"));
        for dependency in ours {
            assert!(allowed.contains(&dependency.as_str()), "{name} must not depend on {dependency}");
        }
    }
    let known: BTreeSet<&str> =
        ARROWS.iter().map(|(name, _)| *name).chain(["vedette", "vedette-tests"]).collect();
    let ours = dependencies.keys().filter(|name| name.starts_with("vedette"));
    for name in ours {
        assert!(known.contains(name.as_str()), "{name} has no entry in the table of arrows");
    }
}

#[test]
fn pure_crates_reach_no_runtime_and_no_randomness() {
    let dependencies = normal_dependencies(&metadata());
    for name in PURE {
        let mut reached = BTreeSet::new();
        let mut open = vec![(*name).to_owned()];
        while let Some(next) = open.pop() {
            for dependency in dependencies.get(&next).into_iter().flatten() {
                if reached.insert(dependency.clone()) {
                    open.push(dependency.clone());
                }
            }
        }
        for banned in IMPURE {
            assert!(!reached.contains(*banned), "{name} reaches {banned}");
        }
        for banned in RANDOM {
            assert!(!dependencies[*name].contains(*banned), "{name} names {banned}");
        }
    }
}

fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![root().join("crates"), root().join("tests"), root().join("fuzz")];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && path.file_name().is_some_and(|n| n != "target") {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    assert!(files.len() > 20, "the sources were not found below {}", root().display());
    files
}

/// In the API: who may not name what. Use cases know no face, and no face knows another.
const ROOMS: &[(&str, &[&str])] = &[
    (
        "desk",
        &[
            "axum", "askama", "http", "hyper", "console", "mcp", "routes", "router", "server", "guard",
            "params",
        ],
    ),
    ("routes", &["askama", "console", "mcp", "router", "server"]),
    ("console", &["routes", "mcp", "router", "server"]),
    ("mcp", &["routes", "console", "router", "server"]),
    ("sign_in", &["axum", "askama", "console", "mcp", "routes", "router", "server", "guard"]),
    ("app.rs", &["axum", "desk", "sign_in", "console", "mcp", "routes", "router", "server", "guard"]),
    ("relay", &["axum", "app", "desk", "sign_in", "console", "mcp", "routes", "router", "server", "guard"]),
    ("proof", &["axum", "app", "desk", "sign_in", "console", "mcp", "routes", "router", "server", "guard"]),
];

/// The lines that take something from one of these: by a path, or as a part of a `use`.
fn naming<'a>(source: &'a str, names: &'a [&str]) -> impl Iterator<Item = &'a str> {
    let named = |line: &str, name: &str| {
        let path = line
            .match_indices(&format!("{name}::"))
            .any(|(at, _)| !line[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_'));
        let part = line.starts_with("use ")
            && line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == name);
        path || part || line.trim() == format!("{name},")
    };
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.filter(move |line| names.iter().any(|name| named(line, name)))
}

#[test]
fn naming_is_seen_however_it_is_written() {
    for line in ["use axum::Json;", "    axum::Json,", "    console,", "    routes::{", "crate::routes::a();"]
    {
        assert_eq!(naming(line, &["axum", "console", "routes"]).count(), 1, "{line}");
    }
    for line in [
        "//! no axum::Json here",
        "let console = 1;",
        "use axum_extra::Json;",
        "fn routes() {",
        "not_axum::a()",
    ] {
        assert_eq!(naming(line, &["axum", "console", "routes"]).count(), 0, "{line}");
    }
}

#[test]
fn use_cases_know_no_face_and_no_face_knows_another() {
    let base = root().join("crates/api/src");
    let mut wrong = Vec::new();
    for (room, names) in ROOMS {
        let files: Vec<_> = sources().into_iter().filter(|path| path.starts_with(base.join(room))).collect();
        assert!(!files.is_empty(), "{room} was not found");
        for path in files {
            let content = fs::read_to_string(&path).expect("a source file is readable");
            let shown = path.strip_prefix(&base).unwrap_or(&path).display().to_string();
            wrong.extend(naming(&content, names).map(|line| format!("{shown}: {}", line.trim())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_is_short_and_says_what_it_is() {
    let mut wrong = Vec::new();
    for path in sources() {
        let content = fs::read_to_string(&path).expect("a source file is readable");
        let shown = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
        let is_test = shown.starts_with("tests/") || shown.contains("/benches/") || shown.contains("test");
        let max = if is_test { MAX_LINES.1 } else { MAX_LINES.0 };
        let lines = content.lines().count();
        if lines > max {
            wrong.push(format!("{shown}: {lines} lines, at most {max}"));
        }
        if !content.starts_with("//!") && !content.starts_with("#!") {
            wrong.push(format!("{shown}: does not open with `//!`"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// True of a line on which a function begins, whoever may see it and however it is called.
fn begins_function(code: &str) -> bool {
    let mut rest = code;
    if let Some(seen) = rest.strip_prefix("pub") {
        let inside = seen.strip_prefix('(').and_then(|scope| scope.split_once(')'));
        rest = inside.map_or(seen, |(_, after)| after).trim_start();
    }
    while let Some(after) =
        ["const ", "async ", "unsafe ", "extern \"C\" "].iter().find_map(|word| rest.strip_prefix(word))
    {
        rest = after;
    }
    rest.starts_with("fn ")
}

#[test]
fn functions_are_seen_whoever_may_call_them() {
    for code in [
        "fn a() {",
        "pub fn a() {",
        "pub(crate) async fn a() {",
        "pub(super) const fn a() {",
        "pub(in crate::keys) fn a() {",
        "const fn a() {}",
        "unsafe extern \"C\" fn a() {",
    ] {
        assert!(begins_function(code), "{code}");
    }
    for code in ["const A: fn() = a;", "pub struct Fn;", "fnord();", "public fn", "// fn a() {"] {
        assert!(!begins_function(code), "{code}");
    }
}

#[test]
fn functions_are_short() {
    let mut wrong = Vec::new();
    for path in sources() {
        let content = fs::read_to_string(&path).expect("a source file is readable");
        let shown = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
        let mut open: Option<(usize, usize, &str)> = None;
        for (at, line) in content.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let code = line.trim_start();
            if open.is_none() && begins_function(code) {
                open = Some((at, indent, code));
            }
            if let Some((from, depth, head)) = open
                && indent == depth
                && (code == "}" || (at == from && code.ends_with('}')) || code.ends_with(';'))
            {
                if at - from + 1 > MAX_FUNCTION {
                    wrong.push(format!("{shown}:{}: {} lines: {head}", from + 1, at - from + 1));
                }
                open = None;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Bytes of all scripts of the console together: pages are whole without them, and are there at once with them.
const MAX_SCRIPTS: u64 = 30 * 1024;

#[test]
fn the_scripts_of_the_console_stay_small() {
    let folder = root().join("dashboards/console/assets");
    let files =
        fs::read_dir(&folder).expect("the console's files").map(|entry| entry.expect("a file").path());
    let scripts: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "js")).collect();
    assert!(!scripts.is_empty(), "the scripts were not found in {}", folder.display());
    let size = |path: &PathBuf| fs::metadata(path).expect("a script").len();
    let all: u64 = scripts.iter().map(size).sum();
    assert!(all <= MAX_SCRIPTS, "the console's scripts have {all} bytes, at most {MAX_SCRIPTS}");
}

#[test]
fn pure_crates_carry_the_lints_that_keep_them_pure() {
    let first =
        fs::read_to_string(root().join("crates/event/clippy.toml")).expect("crates/event/clippy.toml");
    assert!(first.contains("std::time::SystemTime::now"));
    for name in PURE {
        let path = root().join("crates").join(name.trim_start_matches("vedette-")).join("clippy.toml");
        let own = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(own, first, "{} differs from that of event", path.display());
    }
}

#[test]
fn members_stand_in_the_order_of_the_data_flow() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let at = |name: &str| manifest.find(&format!("\"crates/{name}\"")).unwrap_or_else(|| panic!("{name}"));
    let flow = [
        "event",
        "ingest",
        "decode",
        "sigma",
        "detect",
        "correlate",
        "engine",
        "respond",
        "store",
        "act",
        "hunt",
        "api",
        "vedette",
    ];
    for pair in flow.windows(2) {
        assert!(at(pair[0]) < at(pair[1]), "{} stands before {}", pair[1], pair[0]);
    }
}
