//! The rule corpus: all of it loads, but for what needs a list that nobody ships or is not supported yet.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use vedette_event::Sources;
use vedette_sigma::{Lists, RuleFile, RuleKind, RuleSet, load};

/// Every rule file below a folder of the corpus, sorted by path; `None` if there is no corpus.
pub(crate) fn rule_files(folder: &str) -> Option<Vec<RuleFile>> {
    let root = super::corpus()?.join(folder);
    let mut files = Vec::new();
    collect(&root, &root, &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!files.is_empty(), "{} has no rules", root.display());
    Some(files)
}

fn collect(root: &Path, dir: &Path, files: &mut Vec<RuleFile>) {
    for entry in std::fs::read_dir(dir).expect("the folder is readable") {
        let path = entry.expect("the folder is readable").path();
        if path.is_dir() {
            collect(root, &path, files);
        } else if path.extension().is_some_and(|e| e == "yml") {
            let text = std::fs::read_to_string(&path).expect("a rule is text");
            let name = path.strip_prefix(root).expect("below the root").display().to_string();
            files.push(RuleFile { path: Arc::from(name), text });
        }
    }
}

/// How many rejections there are of each code.
fn codes(set: &RuleSet) -> BTreeMap<&'static str, usize> {
    let mut codes = BTreeMap::new();
    for rejection in &set.rejected {
        *codes.entry(rejection.code).or_default() += 1;
    }
    codes
}

#[test]
fn the_whole_community_corpus_loads_but_for_two_rules_without_their_list() {
    let Some(files) = rule_files("sigmahq") else { return };
    let set = load(&files, &Lists::new(), &Sources::default());
    assert_eq!(files.len(), 3754);
    assert_eq!(codes(&set), BTreeMap::from([("unknown-list", 2)]), "{:#?}", set.rejected);
    assert!(set.rejected.iter().all(|r| r.message.contains("`%known_cdcs%`")), "{:?}", set.rejected);
    assert_eq!(set.rules.len(), 3752);
    let only_excluding = set.warnings.iter().filter(|w| w.code == "only-excludes").count();
    assert_eq!((set.warnings.len(), only_excluding), (4, 4), "{:#?}", set.warnings);

    let lists = Lists::from([("known_cdcs".to_owned(), vec!["dc01".to_owned()])]);
    let set = load(&files, &lists, &Sources::default());
    assert_eq!((set.rules.len(), set.rejected.len()), (3754, 0));
}

#[test]
fn the_corpus_loads_the_same_twice_and_each_rule_has_its_own_meaning() {
    let Some(files) = rule_files("sigmahq") else { return };
    let meanings = |set: &RuleSet| -> Vec<(Arc<str>, [u8; 32])> {
        set.rules.iter().map(|rule| (rule.id.clone(), rule.meaning)).collect()
    };
    let set = load(&files, &Lists::new(), &Sources::default());
    assert_eq!(meanings(&set), meanings(&load(&files, &Lists::new(), &Sources::default())));
    let mut alike: BTreeMap<[u8; 32], Vec<&str>> = BTreeMap::new();
    for rule in &set.rules {
        alike.entry(rule.meaning).or_default().push(&rule.id);
    }
    let alike: Vec<_> = alike.into_values().filter(|ids| ids.len() > 1).collect();
    assert!(alike.len() < 10, "rules that mean the same: {alike:?}");
}

#[test]
fn correlation_and_filter_documents_are_read_or_refused_for_the_right_reason() {
    let Some(files) = rule_files("sigma/documents") else { return };
    let set = load(&files, &Lists::new(), &Sources::default());
    // Rules of other files that nobody ships; types and filters that come later; two examples with the id of another.
    let expected = [("duplicate-id", 2), ("not-supported", 5), ("unknown-rule", 4)];
    assert_eq!(codes(&set), BTreeMap::from(expected), "{:#?}", set.rejected);
    assert_eq!(set.rules.len(), 7);

    let alone = |name: &str| -> RuleSet {
        let file = files.iter().find(|f| f.path.ends_with(name)).expect("the document is there");
        load(std::slice::from_ref(file), &Lists::new(), &Sources::default())
    };
    let set = alone("pySigma/correlation_rule.yml");
    assert_eq!((set.rules.len(), set.rejected.len()), (6, 0));
    let correlations = set.rules.iter().filter(|r| matches!(r.kind, RuleKind::Correlation(_))).count();
    assert_eq!(correlations, 3);
    assert!(set.rules.iter().all(|r| r.emits == matches!(r.kind, RuleKind::Correlation(_))));
    assert_eq!(alone("rules__rule_ecs.yml").rules.len(), 1);
}

#[test]
fn rules_of_other_engines_tests_load_or_are_refused_for_what_comes_later() {
    let Some(corpus) = super::corpus() else { return };
    let text =
        std::fs::read_to_string(corpus.join("sigma/eval_cases.ndjson")).expect("the cases are readable");
    let mut refused = BTreeMap::new();
    for line in text.lines() {
        let case: serde_json::Value = serde_json::from_str(line).expect("a case is JSON");
        let id = case["id"].as_str().expect("a case has an id").to_owned();
        let rule = case["rule_yaml"].as_str().expect("a case has a rule").to_owned();
        let file = RuleFile { path: id.as_str().into(), text: rule };
        for rejection in load(&[file], &Lists::new(), &Sources::default()).rejected {
            let known = matches!(rejection.code, "not-supported" | "unknown-list");
            assert!(known, "{id}: {rejection:?}");
            refused.entry(rejection.code).or_insert_with(Vec::new).push(id.clone());
        }
    }
    // Placeholders filled from the event; filters, date parts and `action:`.
    assert_eq!(refused["unknown-list"].len(), 4, "{refused:#?}");
}

#[test]
fn every_ruling_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("detections/README.md")).expect("the page is there");
    let mut sources = String::new();
    for folder in ["crates/sigma/src", "crates/sigma/src/tests"] {
        for entry in std::fs::read_dir(root.join(folder)).expect("the crate is there").flatten() {
            sources.push_str(&std::fs::read_to_string(entry.path()).unwrap_or_default());
        }
    }
    let rows =
        page.split("## Rulings").nth(1).expect("the rulings").lines().filter(|l| l.starts_with("| ")).skip(1);
    let mut named = 0;
    for row in rows {
        let cell = row.trim_end_matches(['|', ' ']).rsplit('|').next().unwrap_or_default();
        for test in cell.split(',').map(|t| t.trim().trim_matches('`')) {
            assert!(sources.contains(&format!("fn {test}(")), "no test is called {test}: {row}");
            named += 1;
        }
    }
    assert!(named > 40, "{named} tests are named");
}

#[test]
fn the_rule_on_the_page_for_writers_loads() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("detections/README.md")).expect("the page is there");
    let example =
        page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let file = RuleFile { path: "README.md".into(), text: example.to_owned() };
    let set = load(&[file], &Lists::new(), &Sources::default());
    assert!(set.rejected.is_empty() && set.warnings.is_empty(), "{:?} {:?}", set.rejected, set.warnings);
    assert_eq!(
        set.rules.iter().map(|r| (r.emits, r.tests.len())).collect::<Vec<_>>(),
        [(false, 0), (true, 2)]
    );
}
