//! Documents: metadata, ids, what a rule means, what is refused as a whole.

use rstest::rstest;

use super::*;

const PLAIN: &str = "title: t\nlogsource: {category: firewall}\ndetection: {s: {src_ip: 1}, condition: s}\n";

#[test]
fn metadata_is_kept_and_custom_keys_are_allowed() {
    let rule = only(
        "title: ' A title '\nid: 5\nname: n\nstatus: test\ndescription: |\n  two\n  lines\nauthor: x\nlevel: high\n\
         tags: [attack.t1110, a]\nfalsepositives: some\nrelated: [{id: x, type: similar}]\nours: {any: [thing]}\n\
         logsource: {Product: x}\ndetection: {s: {f: 1}, condition: s}\n"
            .replace("Product", "product")
            .as_str(),
    );
    assert_eq!((&*rule.id, rule.name.as_deref(), &*rule.title), ("5", Some("n"), "A title"));
    assert_eq!(rule.description.as_deref(), Some("two\nlines\n"));
    assert_eq!(rule.level.name(), "high");
    assert_eq!(rule.tags.len(), 2);
    assert_eq!(rule.false_positives, ["some".into()]);
    assert_eq!((&*rule.file, rule.line, rule.emits), ("rules/0.yml", 1, true));
}

#[test]
fn an_id_is_the_id_else_the_name_else_path_and_number() {
    let id = |head: &str| only(&format!("{head}{PLAIN}")).id.to_string();
    assert_eq!(id("id: i\nname: n\n"), "i");
    assert_eq!(id("name: n\n"), "n");
    assert_eq!(id(""), "rules/0.yml#1");
    let set = load_texts(&[&format!("---\n---\n{PLAIN}---\n{PLAIN}")]);
    let ids: Vec<&str> = set.rules.iter().map(|r| &*r.id).collect();
    assert_eq!(ids, ["rules/0.yml#2", "rules/0.yml#3"]);
}

#[test]
fn the_later_of_two_equal_ids_is_refused_and_the_first_is_named() {
    let set = load_texts(&[&format!("id: x\n{PLAIN}"), &format!("name: x\n{PLAIN}")]);
    assert_eq!(set.rules.len(), 1);
    let rejection = &set.rejected[0];
    assert_eq!(
        (&*rejection.file, rejection.line, rejection.column, rejection.code),
        ("rules/1.yml", 1, 7, "duplicate-id")
    );
    assert_eq!(rejection.message, "the id `x` is taken by rules/0.yml:1");
}

#[test]
fn a_missing_level_is_medium() {
    assert_eq!(only(PLAIN).level, vedette_event::Severity::Medium);
}

#[rstest]
#[case("level: severe\n", "unknown-level")]
#[case("timespan: 5m\n", "meaningless-key")]
#[case("condition: s\n", "meaningless-key")]
#[case("generate: true\n", "meaningless-key")]
#[case("taxonomy: cim\n", "unknown-taxonomy")]
#[case("action: repeat\n", "not-supported")]
#[case("filter: {}\n", "not-supported")]
#[case("id: hunt:7\n", "reserved-id")]
#[case("title: again\n", "duplicate-key")]
#[case("correlation: {}\n", "not-a-rule")]
#[case("tags: {a: b}\n", "wrong-type")]
fn refused_beside_a_detection(#[case] head: &str, #[case] code: &str) {
    assert_eq!(refused(&format!("{head}{PLAIN}")).2, code);
}

#[rstest]
#[case("- a\n", "wrong-type")]
#[case("just text\n", "wrong-type")]
#[case("title: t\n", "not-a-rule")]
#[case("title: t\ndetection: {s: {f: 1}, condition: s}\n", "missing-logsource")]
#[case("logsource: {product: x}\ndetection: {s: {f: 1}, condition: s}\n", "missing-title")]
#[case("title: t\nlogsource: {produkt: x}\ndetection: {s: {f: 1}, condition: s}\n", "unknown-logsource-key")]
#[case("title: t\nlogsource: {product: x}\ncorrelation: {type: temporal}\n", "meaningless-key")]
#[case("title: 'x\n", "yaml-syntax")]
#[case("", "no-rule")]
#[case("\n# title: t\n\n", "no-rule")]
#[case("---\n# one\n---\n---\n", "no-rule")]
fn refused_as_a_whole(#[case] text: &str, #[case] code: &str) {
    assert_eq!(refused(text).2, code);
}

#[test]
fn what_stands_behind_an_action_is_refused_with_it() {
    let set = load_texts(&[&format!("{PLAIN}---\naction: global\nlevel: high\n---\n{PLAIN}")]);
    assert_eq!(set.rules.len(), 1);
    assert_eq!(
        set.rejected.iter().map(|r| (r.line, r.code)).collect::<Vec<_>>(),
        [(5, "not-supported"), (8, "not-supported")]
    );
}

#[test]
fn one_bad_file_does_not_stop_the_others() {
    let set = load_texts(&["a: [", PLAIN, "a: {b: c: d}"]);
    assert_eq!((set.rules.len(), set.rejected.len()), (1, 2));
}

#[test]
fn questionable_detections_are_warned_of() {
    let codes = |text: &str| load_texts(&[text]).warnings.iter().map(|w| w.code).collect::<Vec<_>>();
    assert_eq!(
        codes("title: t\nlogsource: {definition: x}\ndetection: {s: {f: 1}, condition: s}\n"),
        ["every-source"]
    );
    assert_eq!(codes(&rule_with("  s: {f: 1}\n  condition: not s\n")), ["only-excludes"]);
    assert_eq!(
        codes(&rule_with("  s: {f: 1}\n  t: {f: null}\n  condition: not s or t\n")),
        ["only-excludes"]
    );
    assert!(codes(&rule_with("  s: {f: 1}\n  t: {f: null}\n  condition: t and not s\n")).is_empty());
    assert_eq!(
        codes(&rule_with("  s: {f: 1}\n  t: {f: 2}\n  _u: {f: 3}\n  condition: s\n")),
        ["unused-identifier"]
    );
    assert_eq!(codes(&format!("tittle: x\n{PLAIN}")), ["unknown-key"]);
}

/// The meanings of all rules.
fn meanings(texts: &[&str]) -> Vec<[u8; 32]> {
    let set = load_texts(texts);
    assert_eq!(set.rejected, []);
    set.rules.iter().map(|r| r.meaning).collect()
}

#[test]
fn the_meaning_ignores_what_a_rule_is_called() {
    let other = "title: other\nid: z\nlevel: high\ntags: [a]\nlogsource: {category: FIREWALL, definition: d}\n\
                 detection: {x: {src_ip: 1}, unused: {g: 1}, condition: (x)}\nvedette: {risk: {score: 3}, summary: s}\n";
    assert_eq!(meanings(&[PLAIN]), meanings(&[other]));
}

#[rstest]
#[case("src_ip: 1", "src_ip: 2")]
#[case("src_ip: 1", "src_ip: '1'")]
#[case("src_ip: 1", "dst_ip: 1")]
#[case("condition: s", "condition: not s")]
#[case("firewall", "api")]
#[case("title: t\n", "title: t\nvedette: {entity: src_ip}\n")]
#[case("title: t\n", "title: t\nvedette: {emit: {rearm: 5m}}\n")]
#[case("title: t\n", "title: t\nvedette: {emit: {update: 5m}}\n")]
fn the_meaning_tells_what_fires_differently(#[case] from: &str, #[case] to: &str) {
    let changed = PLAIN.replace(from, to);
    assert_ne!(changed, PLAIN);
    assert_ne!(meanings(&[PLAIN]), meanings(&[&changed]));
}

#[test]
fn the_meaning_of_a_correlation_follows_its_rules_and_parameters() {
    let base = format!(
        "name: a\n{PLAIN}---\ntitle: c\ncorrelation: {{type: event_count, rules: [a], group-by: [src_ip], timespan: 5m, condition: {{gte: 5}}}}\n"
    );
    let first = meanings(&[&base])[1];
    assert_eq!(
        first,
        meanings(&[&base
            .replace("title: c", "title: d")
            .replace("name: a", "name: q")
            .replace("[a]", "[q]")])[1]
    );
    for (from, to) in [
        ("gte: 5", "gte: 6"),
        ("gte", "gt"),
        ("5m", "6m"),
        ("group-by: [src_ip], ", ""),
        ("src_ip: 1", "src_ip: 2"),
    ] {
        assert_ne!(first, meanings(&[&base.replace(from, to)])[1], "{from}");
    }
}

#[test]
fn the_meaning_knows_a_lists_name_and_not_its_content() {
    let text = rule_with("  s: {f|expand: '%l%', g|cidr|expand: '%n%'}\n  condition: s\n");
    let meaning = |list: &[&str], text: &str| {
        let files = [RuleFile { path: "f".into(), text: text.to_owned() }];
        let entries: Vec<String> = list.iter().map(|e| (*e).to_owned()).collect();
        let lists = Lists::from([
            ("l".to_owned(), entries.clone()),
            ("k".to_owned(), entries),
            ("n".to_owned(), Vec::new()),
        ]);
        load(&files, &lists, &sources()).rules[0].meaning
    };
    assert_eq!(meaning(&["a"], &text), meaning(&["b", "c"], &text));
    assert_ne!(meaning(&["a"], &text), meaning(&["a"], &text.replace("%l%", "%k%")));
}

#[test]
fn the_meaning_follows_the_field_mapping() {
    let files = [RuleFile { path: "f".into(), text: PLAIN.to_owned() }];
    let meaning = |sources: &Sources| load(&files, &Lists::new(), sources).rules[0].meaning;
    let first = meaning(&sources());
    let mut other = sources();
    other.defs.retain(|def| &*def.name != "api");
    assert_eq!(first, meaning(&other), "a source that the rule does not look at");
    let mut other = sources();
    other.defs[2]
        .taxonomy
        .insert("src_ip".to_owned(), vedette_event::source::OneOrMany::One("client.ip".to_owned()));
    assert_ne!(first, meaning(&other));
    let mut other = sources();
    other.fields.0.clear();
    assert_ne!(first, meaning(&other));
}
