//! What is taken of texts that were read: a refused file keeps its last good text, and a change breaks no file that did not change.
#![allow(clippy::unwrap_used)]
use super::*;

fn rule(id: &str, value: &str) -> String {
    format!(
        "title: {id}\nname: {id}\nid: {id}\nlogsource: {{category: api}}\n\
         detection:\n  a:\n    x: {value}\n  condition: a\n"
    )
}

fn disk(files: &[(&str, &str)], lists: &[(&str, &str)]) -> RuleText {
    let files = files.iter().map(|(path, text)| RuleFile { path: (*path).into(), text: (*text).to_owned() });
    let lists = lists.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()]));
    RuleText::of(files.collect(), lists.collect())
}

fn schemas() -> Schemas {
    content::schemas(None).unwrap()
}

fn take_all(disk: RuleText, before: Option<&Texts>) -> Result<TakenUp> {
    take(disk, schemas(), before, Ok)
}

fn ids(taken: &TakenUp) -> Vec<&str> {
    taken.rules.rules.iter().map(|rule| &*rule.id).collect()
}

#[test]
fn a_refused_file_keeps_what_was_good_before() {
    let (a, b) = (rule("a", "1"), rule("b", "1"));
    let first = take_all(disk(&[("a.yml", &a), ("b.yml", &b)], &[]), None).unwrap();
    assert!(first.refused.is_empty());
    let (bad, changed) = ("title: a\ndetection: 5\n", rule("b", "2"));
    let second = take_all(disk(&[("a.yml", bad), ("b.yml", &changed)], &[]), Some(&first.texts)).unwrap();
    assert_eq!(ids(&second), ["a", "b"]);
    let told = |taken: &TakenUp| -> Vec<(String, bool)> {
        taken.refused.iter().map(|r| (r.what.file.to_string(), r.kept)).collect()
    };
    assert!(!second.refused.is_empty() && told(&second).iter().all(|r| *r == ("a.yml".to_owned(), true)));
    let difference = Difference::of(&first.rules, &second.rules);
    assert_eq!(difference, Difference { changed: vec!["b".to_owned()], ..Difference::default() });
    // Its text from before survives as many versions as it takes, and a restart.
    let stored = Texts::unpack(&second.texts.pack().unwrap()).unwrap();
    assert_eq!(stored, second.texts);
    let third = take_all(disk(&[("a.yml", bad)], &[]), Some(&stored)).unwrap();
    assert_eq!(ids(&third), ["a"]);
    // What was never good is refused, and what is mended is taken.
    let never = take_all(disk(&[("a.yml", bad)], &[]), None).unwrap();
    assert!(ids(&never).is_empty() && told(&never).iter().all(|(_, kept)| !kept));
    assert_eq!(ids(&take_all(disk(&[("a.yml", &a)], &[]), Some(&never.texts)).unwrap()), ["a"]);
    // What is gone is gone.
    assert!(ids(&take_all(disk(&[("b.yml", &b)], &[]), Some(&first.texts)).unwrap()) == ["b"]);
}

/// An editor or a copy truncates a file before it writes it: that takes no rule away, deleting the file does.
#[test]
fn an_emptied_file_keeps_what_was_good_before() {
    let (a, b) = (rule("a", "1"), rule("b", "1"));
    let first = take_all(disk(&[("a.yml", &a), ("b.yml", &b)], &[]), None).unwrap();
    for emptied in ["", "# title: a\n\n"] {
        let second = take_all(disk(&[("a.yml", emptied), ("b.yml", &b)], &[]), Some(&first.texts)).unwrap();
        assert_eq!((ids(&second), second.texts == first.texts), (vec!["a", "b"], true), "{emptied:?}");
        let [refused] = &second.refused[..] else { panic!("{:?}", second.refused) };
        assert!(refused.kept && &*refused.what.file == "a.yml", "{refused:?}");
    }
    assert_eq!(ids(&take_all(disk(&[("b.yml", &b)], &[]), Some(&first.texts)).unwrap()), ["b"]);
    // One that never held a rule keeps nothing, and is in nobody's way.
    let never = take_all(disk(&[("a.yml", &a), ("c.yml", "")], &[]), None).unwrap();
    assert_eq!((ids(&never), never.refused.len(), never.refused[0].kept), (vec!["a"], 1, false));
    let changed = rule("a", "2");
    for empty in ["", "# nothing\n"] {
        let then = take_all(disk(&[("a.yml", &changed), ("c.yml", empty)], &[]), Some(&never.texts)).unwrap();
        assert_eq!(Difference::of(&never.rules, &then.rules).changed, ["a"], "{empty:?}");
        // Texts of a version before empty files were refused.
        let mut accepted = never.texts.clone();
        accepted.refused.clear();
        let then = take_all(disk(&[("a.yml", &changed), ("c.yml", empty)], &[]), Some(&accepted)).unwrap();
        assert_eq!(Difference::of(&never.rules, &then.rules).changed, ["a"], "{empty:?}");
    }
}

#[test]
fn what_would_break_a_file_that_did_not_change_is_refused_as_a_whole() {
    let chain = "title: c\nid: c\ncorrelation:\n  type: event_count\n  rules: [a]\n  group-by: [x]\n  \
                 timespan: 1m\n  condition:\n    gte: 2\n";
    let (a, b) = (rule("a", "1"), rule("b", "1"));
    let first = take_all(disk(&[("a.yml", &a), ("c.yml", chain)], &[]), None).unwrap();
    assert_eq!(ids(&first), ["a", "c"], "{:?}", first.refused);
    let refused = take_all(disk(&[("b.yml", &b), ("c.yml", chain)], &[]), Some(&first.texts)).unwrap_err();
    assert!(refused.to_string().starts_with("c.yml:"), "{refused}");
    assert!(refused.to_string().ends_with("what changed beside it is not taken up"), "{refused}");
}

#[test]
fn lists_and_sources_keep_what_was_good_before() {
    let expands = rule("a", "1").replace("x: 1", "x|expand: '%names%'");
    let first = take_all(disk(&[("a.yml", &expands)], &[("names", "ann")]), None).unwrap();
    assert_eq!(ids(&first), ["a"], "{:?}", first.refused);
    let mut unreadable = disk(&[("a.yml", &expands)], &[]);
    let what = kept("rules/lists/names.yml", Some((2, 1)), "no list".to_owned()).what;
    unreadable.unreadable.push(what);
    let second = take_all(unreadable, Some(&first.texts)).unwrap();
    assert_eq!((ids(&second), second.texts == first.texts, second.refused[0].kept), (vec!["a"], true, true));
    let longer = take_all(disk(&[("a.yml", &expands)], &[("names", "bob")]), Some(&first.texts)).unwrap();
    assert_eq!(first.texts.differences(&longer.texts), (vec!["names".to_owned()], Vec::new()));
    assert_eq!(Difference::of(&first.rules, &longer.rules), Difference::default(), "the same meaning");

    let mut broken = schemas();
    broken.sources[0].1.push_str("\nno_such_key: 1\n");
    let third =
        take(disk(&[("a.yml", &expands)], &[("names", "ann")]), broken, Some(&first.texts), Ok).unwrap();
    assert_eq!((third.texts == first.texts, third.refused.len(), third.refused[0].kept), (true, 1, true));
    assert_eq!(&*third.refused[0].what.file, schemas().sources[0].0);
}

#[test]
fn what_is_only_written_otherwise_says_the_same() {
    let (a, b) = (rule("a", "1"), rule("b", "'%l%'").replace("x:", "x|expand:"));
    let take =
        |a: &str, list: &str| take_all(disk(&[("a.yml", a), ("b.yml", &b)], &[("l", list)]), None).unwrap();
    let first = take(&a, "v");
    let same =
        |other: &TakenUp| first.texts.says_the_same(&other.texts, (&first.rules, &other.rules)).unwrap();
    let commented = take(&format!("# why\r\n{}", a.replace('\n', "\r\n")), "v");
    assert!(commented.texts != first.texts && same(&commented));
    assert!(same(&first));
    let titled = a.replace("title: a", "title: A");
    let tagged = format!("{a}tags: [attack.t1110]\n");
    let level = format!("{a}level: high\n");
    for other in
        [take(&rule("a", "2"), "v"), take(&titled, "v"), take(&tagged, "v"), take(&level, "v"), take(&a, "w")]
    {
        assert!(!same(&other));
    }
    let mut mapped = take(&a, "v");
    mapped.texts.schemas.fields.1.push_str("\n# why\n");
    assert!(same(&mapped));
    for (_, text) in &mut mapped.texts.schemas.sources {
        *text = text.replace("disorder: 10s", "disorder: 11s");
    }
    assert!(!same(&mapped));
}
