//! A start and a reload ask the same: sources that an older version lacks come from the newest, and rules must have room.
#![allow(clippy::unwrap_used)]
use std::path::Path;

use vedette_sigma::RuleFile;

use super::*;

const TILL: &str = "name: till\ndescription: d\nform: api_json\nlogsource: {category: pos}\nentity: [till.no]\n\
                    disorder: 10s\nfuture: 10s\nfields: {till.no: number}\n";

/// A configuration over these sources.
fn config(folder: &Path, sources: &[&str]) -> Config {
    let topic = |source: &&str| format!("    - {{name: t-{source}, source: {source}}}\n");
    let topics: String = sources.iter().map(topic).collect();
    let path = folder.join("vedette.yml");
    std::fs::write(&path, format!("kafka:\n  brokers: \"localhost:1\"\n  topics:\n{topics}")).unwrap();
    config::load(&path, config::For::Service).unwrap()
}

/// One detection, and so many correlations of a timespan over it.
fn rules(correlations: usize, span: &str) -> RuleText {
    let file = |path: &str, text: String| RuleFile { path: path.into(), text };
    let counted = "title: d\nid: d\nlogsource: {category: firewall}\ndetection: {a: {x: 1}, condition: a}\n";
    let correlation = |n: usize| {
        format!(
            "title: c{n}\nid: c{n}\ncorrelation: {{type: event_count, rules: [d], group-by: [host], \
             timespan: {span}, condition: {{gte: 5}}}}\n"
        )
    };
    let all: Vec<String> = (0..correlations).map(correlation).collect();
    let files = vec![file("c.yml", all.join("---\n")), file("d.yml", counted.to_owned())];
    RuleText::of(files, BTreeMap::new())
}

/// The row that a service over that stored.
fn stored(config: &Config, disk: (RuleText, Schemas)) -> RuleVersion {
    let found = find(config, disk, &[]).unwrap();
    versions::row(1, &found.known[0], found.texts.pack().unwrap()).unwrap()
}

fn with_a_till() -> Schemas {
    let mut schemas = content::schemas(None).unwrap();
    schemas.fields.1.push_str("\ntill.no: {type: text, description: d}\n");
    schemas.sources.push(("sources/till.yml".to_owned(), TILL.to_owned()));
    schemas
}

#[test]
fn a_source_that_was_added_is_read_under_older_versions_too() {
    let folder = tempfile::tempdir().unwrap();
    let before = config(folder.path(), &["paloalto"]);
    let row = stored(&before, (rules(1, "1m"), content::schemas(None).unwrap()));
    let now = config(folder.path(), &["paloalto", "till"]);
    let Err(Failure::Usage(missing)) =
        find(&now, (rules(1, "1m"), content::schemas(None).unwrap()), std::slice::from_ref(&row))
    else {
        panic!("a source that is nowhere");
    };
    assert!(format!("{missing:#}").contains("there is no source `till`"), "{missing:#}");

    let found = find(&now, (rules(1, "1m"), with_a_till()), std::slice::from_ref(&row)).unwrap();
    let (old, next) = (&found.known[0], found.next.unwrap());
    assert_eq!((found.known.len(), found.fresh), (1, Some(2)));
    // Both count sources in the same way.
    let names = |sources: &Sources| sources.defs.iter().map(|def| def.name.to_string()).collect::<Vec<_>>();
    assert_eq!(
        (names(&old.sources), names(&next.sources)),
        (vec!["paloalto".into(), "till".into()], names(&old.sources))
    );
    old.check().unwrap();
    // What an old version had of its own stays so.
    let own = before_of(&row);
    assert_eq!(old.sources.defs[0], own.defs[0]);
}

fn before_of(row: &RuleVersion) -> Sources {
    let texts = Texts::unpack(&row.texts).unwrap();
    texts.load(|all| content::only(&all, &["paloalto"])).unwrap().1
}

#[test]
fn rules_that_stay_as_they_were_are_read_of_a_source_that_was_added() {
    let folder = tempfile::tempdir().unwrap();
    let before = config(folder.path(), &["paloalto"]);
    let row = stored(&before, (rules(1, "1m"), content::schemas(None).unwrap()));
    // The correlation did not change, and what it counts is gone: nothing of it is taken up.
    let mut disk = rules(1, "1m");
    disk.files.pop();
    let now = config(folder.path(), &["paloalto", "till"]);
    let found = find(&now, (disk, with_a_till()), std::slice::from_ref(&row));
    let found = found.unwrap();
    assert_eq!((found.fresh, found.refused.len(), found.known.len()), (None, 1, 1));
    assert!(found.known[0].sources.find("till").is_some());
}

#[test]
fn what_is_only_written_otherwise_is_no_version_for_a_start_either() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), &["paloalto"]);
    let schemas = || content::schemas(None).unwrap();
    let row = |number| RuleVersion { number, ..stored(&config, (rules(1, "1m"), schemas())) };
    let find = |rows: &[RuleVersion], edit: &dyn Fn(&mut RuleText, &mut Schemas)| {
        let (mut rules, mut schemas) = (rules(1, "1m"), schemas());
        edit(&mut rules, &mut schemas);
        find(&config, (rules, schemas), rows).unwrap()
    };
    let commented = |rules: &mut RuleText, schemas: &mut Schemas| {
        for file in &mut rules.files {
            file.text = format!("# why\r\n{}", file.text.replace('\n', "\r\n"));
        }
        schemas.fields.1.push_str("\n# why\n");
    };
    let same = find(&[row(1)], &commented);
    assert_eq!((same.fresh, same.next.is_none(), same.known.len(), same.refused.len()), (None, true, 1, 0));
    assert_eq!(same.numbers, [1]);
    let lines = |found: &Found| found.known[0].rules.rules.iter().map(|rule| rule.line).collect::<Vec<_>>();
    assert_eq!(lines(&same), [2, 2], "as they are on disk");
    // The next reload and the next start compare with what is stored.
    assert_eq!(same.texts, Texts::unpack(&row(1).texts).unwrap());
    let full: Vec<_> = (1..=versions::MOST as u64).map(row).collect();
    assert!(find(&full, &commented).refused.is_empty(), "that needs no place");
    let titled = |rules: &mut RuleText, _: &mut Schemas| {
        rules.files[1].text = rules.files[1].text.replace("title: d", "title: D");
    };
    assert_eq!(find(&[row(1)], &titled).fresh, Some(2));
    assert_eq!(find(&full, &titled).refused.len(), 1);
}

#[test]
fn versions_that_run_out_need_no_room_for_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), &["paloalto"]);
    let schemas = || content::schemas(None).unwrap();
    let row = stored(&config, (rules(20, "1m"), schemas()));
    let found = find(&config, (rules(20, "2m"), schemas()), &[row]).unwrap();
    let next = found.next.unwrap();
    let of_next = least(&next);
    let both = vec![Arc::new(found.known[0].clone()), Arc::new(next)];
    let of_both = Compiled::with_versions(both, Arc::default(), [0; 32]).state_for(memory::ENTRIES);
    assert!(of_next < of_both && of_next == least(&found.known[0]));
    let tight = Memory::with_state(of_next.max(Memory::of(Some(memory::LEAST)).state)).budget;
    assert!(memory(Some(tight), of_next).is_ok());
    let many = least(&find(&config, (rules(500, "2m"), schemas()), &[]).unwrap().known[0]);
    let said = memory(Some(memory::LEAST), many).unwrap_err();
    assert!(said.ends_with("or load fewer rules") && said.contains("write at least"), "{said}");
    assert!(memory(None, many).is_ok(), "where nothing is configured, rules get what they need");
    // A service that runs has what it has.
    assert!(too_few(&Memory::of(Some(memory::LEAST)), many).is_some());
    assert_eq!(too_few(&Memory::of(Some(tight)), of_next), None);
}
