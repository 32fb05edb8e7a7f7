//! What is skipped by its index cannot match: each answer is that of reading everything.

use std::{fs, path::Path};

use proptest::{prelude::*, sample::select};
use vedette_event::{Flags, Placed};
use vedette_store::model::LakeFile;

use super::{lake::declared, *};
use crate::{
    Supply,
    lake::{Lake, Writer, placed},
};

/// Texts that words, letters and patterns are told apart in in many ways.
const HOSTILE: [&str; 40] = [
    "",
    "a",
    "A",
    "a b",
    "a.b",
    "A_b",
    "ab",
    "b a",
    "%",
    "_",
    "\\",
    "a%b",
    "a\\b",
    "a\\%b",
    "-",
    " ",
    "é",
    "E\u{301}",
    "İ",
    "i\u{307}",
    "ſ",
    "s",
    "\u{212a}",
    "k",
    "ß",
    "SS",
    "Σ",
    "ς",
    "ǅ",
    "ﬁ",
    "fi",
    "１",
    "1",
    "10.0.0.1",
    "a\u{0}b",
    "a\nb",
    "'",
    "\"a\"",
    "{\"a\":\"b\"}",
    "a\u{200d}b",
];

fn lake_columns() -> Columns {
    let declared = declared();
    let names = declared.0.keys().map(String::as_str).filter(|name| !name.ends_with('*'));
    Columns::of_lake(names, &declared, true)
}

/// An event's texts; none is null.
type Texts = (Option<String>, Option<String>, Vec<String>);

/// Writes events, one a second, into as many files as they have hours.
fn filled(folder: &Path, texts: &[Texts]) -> Vec<LakeFile> {
    let lists: Vec<String> = texts.iter().map(|(.., list)| serde_json::to_string(list).unwrap()).collect();
    let rows: Vec<Vec<(&str, Kind, &str)>> = texts
        .iter()
        .zip(&lists)
        .map(|((message, user, list), json)| {
            let message = message.as_deref().map(|text| ("message", Kind::Text, text));
            let user = user.as_deref().map(|text| ("user.name", Kind::Text, text));
            let list = (!list.is_empty()).then_some(("related.ip", Kind::List, json.as_str()));
            [message, user, list].into_iter().flatten().collect()
        })
        .collect();
    let columns = lake_columns();
    let mut converter = columns.converter().unwrap();
    let batch = events(&Projection::new(converter.fields().cloned()), &rows);
    let made = converter.convert(&batch, &origin(), |_| Vec::new()).unwrap();
    let logs: Vec<Micros> = (0..rows.len()).map(|row| Micros(NOON + row as i64 * 20_000_000)).collect();
    let places: Vec<Placed> = logs.iter().map(|log| Placed { time: *log, flags: Flags::NONE }).collect();
    let mut writer = Writer::new(folder);
    writer.push(&"fw".into(), &placed(&made, &places, &logs, 0).unwrap(), 1).unwrap();
    writer.write(Micros(NOON)).unwrap()
}

/// The offsets of the events for which a condition holds, or the error.
fn holds(folder: &Path, files: &[LakeFile], condition: &str) -> Result<Vec<i64>, String> {
    let sql = format!("select vedette.offset from events where {condition} order by vedette.offset");
    let lake = Lake::new(folder, files.to_vec()).unwrap();
    let query = Query::new(&sql).map_err(|error| error.to_string())?;
    let answer = query.ask(lake_columns(), Supply::Lake(Box::new(lake)), Limits::default());
    let rows = answer.and_then(all).map_err(|error| error.to_string())?;
    Ok(rows.iter().map(|row| row["vedette.offset"].as_i64().unwrap()).collect())
}

fn without_index(files: &[LakeFile]) -> Vec<LakeFile> {
    files.iter().map(|file| LakeFile { index_bytes: 0, ..file.clone() }).collect()
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        select(&HOSTILE[..]).prop_map(str::to_owned),
        proptest::collection::vec(select(&HOSTILE[..]), 1..5).prop_map(|parts| parts.concat()),
        proptest::collection::vec(select(&HOSTILE[..]), 1..4).prop_map(|parts| parts.join(" ")),
    ]
}

fn texts() -> impl Strategy<Value = Texts> {
    let some = || proptest::option::of(text());
    (some(), some(), proptest::collection::vec(text(), 0..3))
}

fn condition() -> impl Strategy<Value = String> {
    let quoted = || text().prop_map(|text| format!("'{}'", text.replace('\'', "''")));
    let column = || select(&["message", "user.name"][..]);
    let simple = prop_oneof![
        (column(), quoted()).prop_map(|(column, text)| format!("{column} = {text}")),
        (column(), proptest::collection::vec(quoted(), 1..30))
            .prop_map(|(column, texts)| format!("{column} in ({})", texts.join(", "))),
        (column(), select(&["like", "ilike"][..]), quoted(), any::<(bool, bool)>()).prop_map(
            |(column, like, text, (before, after))| {
                let (before, after) = (if before { "%" } else { "" }, if after { "%" } else { "" });
                format!("{column} {like} '{before}{}{after}'", &text[1..text.len() - 1])
            }
        ),
        (column(), select(&["starts_with", "ends_with", "contains"][..]), quoted())
            .prop_map(|(column, function, text)| format!("{function}({column}, {text})")),
        (column(), quoted())
            .prop_map(|(column, text)| format!("match({column}, 'a{}')", &text[1..text.len() - 1])),
        quoted().prop_map(|text| format!("array_has(related.ip, {text})")),
        quoted().prop_map(|text| format!("{text} = any(related.ip)")),
        Just("message is null".to_owned()),
        Just("vedette.source = 'fw'".to_owned()),
        Just("vedette.source = 'other'".to_owned()),
    ];
    simple.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} and {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} or {b})")),
            inner.prop_map(|a| format!("not ({a})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 24 } else { 400 }))]

    #[test]
    fn an_answer_is_that_of_reading_all(
        texts in proptest::collection::vec(texts(), 1..400),
        conditions in proptest::collection::vec(condition(), 12),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let files = filled(folder.path(), &texts);
        let bare = without_index(&files);
        for condition in conditions {
            let (quick, slow) = (holds(folder.path(), &files, &condition), holds(folder.path(), &bare, &condition));
            prop_assert_eq!(&quick, &slow, "{}", condition);
        }
    }
}

/// Ten files of some blocks, one rare text in the middle of the sixth.
fn haystack(folder: &Path) -> Vec<LakeFile> {
    let text = |row: usize| match row {
        1_000 => "the needle, 10.9.8.7".to_owned(),
        row => format!("hay {} at 10.0.{}.{}", row % 7, row % 3, row % 11),
    };
    let texts: Vec<Texts> =
        (0..1_800).map(|row| (Some(text(row)), Some("ann".to_owned()), Vec::new())).collect();
    filled(folder, &texts)
}

#[test]
fn little_is_read_for_a_needle() {
    let folder = tempfile::tempdir().unwrap();
    let files = haystack(folder.path());
    assert_eq!(files.len(), 10);
    for condition in [
        "match(message, 'NEEDLE')",
        "message = 'the needle, 10.9.8.7'",
        "message in ('x', 'the needle, 10.9.8.7')",
        "message like 'the needle,%'",
        "message ilike '%THE needle, %'",
        "user.name = 'ann' and starts_with(message, 'the needle,')",
    ] {
        assert_eq!(holds(folder.path(), &files, condition).unwrap(), [10_000], "{condition}");
        // Nobody may look into the others.
        let mut held = Vec::new();
        for file in
            files.iter().filter(|file| !(file.earliest.0..=file.latest.0).contains(&(NOON + 20_000_000_000)))
        {
            let path = folder.path().join(&file.path);
            held.push((path.clone(), fs::read(&path).unwrap()));
            fs::write(path, vec![0; file.bytes as usize]).unwrap();
        }
        assert_eq!(held.len(), 9);
        assert_eq!(holds(folder.path(), &files, condition).unwrap(), [10_000], "{condition}");
        holds(folder.path(), &without_index(&files), condition).unwrap_err();
        held.into_iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    }
    assert_eq!(holds(folder.path(), &files, "match(message, 'nothing')").unwrap(), [0_i64; 0]);
}

#[test]
fn what_is_skipped_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = haystack(folder.path());
    let read = |files: &[LakeFile]| {
        let lake = Lake::new(folder.path(), files.to_vec()).unwrap();
        let query = Query::new("select vedette.offset from events where match(message, 'needle')").unwrap();
        let mut answer = query.ask(lake_columns(), Supply::Lake(Box::new(lake)), Limits::default()).unwrap();
        while answer.next().unwrap().is_some() {}
        answer.gauge().read()
    };
    let told = read(&files);
    assert_eq!((told.files_skipped_by_index, told.groups_skipped_by_index), (9, 2), "{told:?}");
    assert!(told.index_bytes > 0 && told.indexes_damaged == 0, "{told:?}");
    files[0].index_bytes += 1;
    let told = read(&files);
    assert_eq!((told.files_skipped_by_index, told.indexes_damaged), (8, 1), "{told:?}");
}

#[test]
fn an_index_that_is_not_as_it_was_written_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = haystack(folder.path());
    files.retain(|file| (file.earliest.0..=file.latest.0).contains(&(NOON + 20_000_000_000)));
    let path = folder.path().join(files[0].path.replace(".parquet", ".skip"));
    let whole = fs::read(&path).unwrap();
    assert_eq!(whole.len() as u64, files[0].index_bytes);
    let asks = |bytes: Option<&[u8]>, files: &[LakeFile]| {
        match bytes {
            Some(bytes) => fs::write(&path, bytes).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let found = holds(folder.path(), files, "match(message, 'needle')").unwrap();
        assert_eq!(found, [10_000]);
        let others = holds(folder.path(), files, "match(message, 'hay')").unwrap();
        assert_eq!(others.len() as u64, files[0].events - 1);
    };
    for at in (0..whole.len()).step_by(11) {
        let mut bent = whole.clone();
        bent[at] ^= 1 << (at % 8);
        asks(Some(&bent), &files);
    }
    asks(Some(&whole[..whole.len() / 2]), &files);
    asks(Some(&[]), &files);
    asks(Some(&[whole.as_slice(), &[0; 9]].concat()), &files);
    asks(Some(&vec![0xff; whole.len()]), &files);
    asks(None, &files);
    // One of another file, and one that the catalog has otherwise.
    asks(Some(&whole), &[LakeFile { index_bytes: files[0].index_bytes + 1, ..files[0].clone() }]);
    let other = tempfile::tempdir().unwrap();
    let strange = filled(other.path(), &[(Some("x".to_owned()), None, Vec::new())]);
    let strange = fs::read(other.path().join(strange[0].path.replace(".parquet", ".skip"))).unwrap();
    asks(Some(&strange), &[LakeFile { index_bytes: strange.len() as u64, ..files[0].clone() }]);
}
