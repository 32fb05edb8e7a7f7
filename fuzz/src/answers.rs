//! Answers of a firewall: from bytes to a list, a word about a message, a part in a pair.
//!
//! In: bytes. Invariants: the same bytes mean the same; a list holds no more entries than its text names, and texts are bounded; what people are shown
//! steers no terminal; no answer is both a list and a refusal.

// The file and not its crate, which would bring a database and a runtime along.
#[path = "../../crates/act/src/dag/answer.rs"]
mod answer;

use answer::{Role, Said, read};

/// Documented answers, to begin with.
pub const DOCUMENTED: [(&str, &str); 8] = [
    ("registered", include_str!("../../crates/act/src/dag/fixtures/registered.xml")),
    ("registered_none", include_str!("../../crates/act/src/dag/fixtures/registered_none.xml")),
    ("registered_elsewhere", include_str!("../../crates/act/src/dag/fixtures/registered_elsewhere.xml")),
    ("registered_file", include_str!("../../crates/act/src/dag/fixtures/registered_file.xml")),
    ("taken_in_part", include_str!("../../crates/act/src/dag/fixtures/taken_in_part.xml")),
    ("error_malformed", include_str!("../../crates/act/src/dag/fixtures/error_malformed.xml")),
    ("error_invalid_credential", include_str!("../../crates/act/src/dag/fixtures/error_invalid_credential.xml")),
    ("state_active", include_str!("../../crates/act/src/dag/fixtures/state_active.xml")),
];

/// Reads an answer as each of the things that it can be.
pub fn check(bytes: &[u8]) {
    let answer = read(bytes);
    assert_eq!(answer, read(bytes));
    let Ok(answer) = answer else { return };
    let named = bytes.windows(6).filter(|window| window == b"<entry").count();
    assert!(answer.said.len() <= named);
    let shown = answer.said.iter().map(|said| &said.message).chain([&answer.message]);
    for text in shown {
        assert!(text.chars().count() <= 200 && !text.chars().any(char::is_control), "{text:?}");
    }
    if let Ok(Role::Standby(state)) = answer.clone().role() {
        assert!(state.chars().count() <= 200 && !state.chars().any(char::is_control), "{state:?}");
    }
    let refused = answer.is_refusal() || !answer.success;
    assert!(answer.is_taken() || !(answer.success || answer.said.iter().any(Said::is_fine)));
    if let Ok(page) = answer.page() {
        assert!(!refused && page.len() <= named);
        let tags = page.iter().flat_map(|row| &row.tags).map(|tag| &tag.name);
        assert!(page.iter().map(|row| &row.ip).chain(tags).all(|text| text.len() <= 4 * 1_024));
    }
}
