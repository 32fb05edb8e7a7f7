//! The part of a detection key behind the field's name: `field|contains|all`.
//!
//! In: a key and its place. Out: the field and [`Modifiers`]; an unknown, repeated, contradicting or meaningless
//! modifier is a fault that points at it.

use crate::{
    Cmp,
    fault::{Fault, Place, did_you_mean, shown},
    pattern::Utf16,
};

/// How the value is to be found in the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Matching {
    #[default]
    Equals,
    Contains,
    StartsWith,
    EndsWith,
}

/// What the value is, if not text or a number to be matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Regex { ignore_case: bool, multi_line: bool, dot_all: bool },
    Cidr,
    Compare(Cmp),
    Exists,
    FieldRef,
}

/// A change of the value's text, applied in the order written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Utf16(Utf16),
    Base64,
    Base64Offset,
}

/// All modifiers of one key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Modifiers {
    pub matching: Matching,
    pub operator: Option<Operator>,
    pub encodings: Vec<Encoding>,
    pub windash: bool,
    pub expand: bool,
    pub all: bool,
    pub cased: bool,
    pub negated: bool,
}

const KNOWN: [&str; 25] = [
    "contains",
    "startswith",
    "endswith",
    "all",
    "exists",
    "cased",
    "re",
    "i",
    "m",
    "s",
    "cidr",
    "lt",
    "lte",
    "gt",
    "gte",
    "neq",
    "windash",
    "base64",
    "base64offset",
    "utf16",
    "utf16le",
    "utf16be",
    "wide",
    "fieldref",
    "expand",
];

const DATE_PARTS: [&str; 6] = ["minute", "hour", "day", "week", "month", "year"];

/// Splits a key at its bars and reads the modifiers.
pub(crate) fn parse(key: &str, at: Place) -> Result<(&str, Modifiers), Fault> {
    let (field, rest) = match key.split_once('|') {
        Some((field, rest)) => (field, Some(rest)),
        None => (key, None),
    };
    let mut modifiers = Modifiers::default();
    let mut seen: Vec<&str> = Vec::new();
    let mut column = at.column + field.chars().count() + 1;
    for name in rest.into_iter().flat_map(|rest| rest.split('|')) {
        let here = Place { line: at.line, column };
        column += name.chars().count() + 1;
        if seen.contains(&name) {
            return Err(Fault::new(
                here,
                "repeated-modifier",
                format!("the modifier {} is here twice", shown(name)),
            ));
        }
        apply(&mut modifiers, name, seen.last().copied(), here)?;
        seen.push(name);
    }
    check(&modifiers, &seen, at)?;
    Ok((field, modifiers))
}

fn apply(modifiers: &mut Modifiers, name: &str, previous: Option<&str>, at: Place) -> Result<(), Fault> {
    let regex = Operator::Regex { ignore_case: false, multi_line: false, dot_all: false };
    match name {
        "contains" => set_matching(modifiers, Matching::Contains, name, at)?,
        "startswith" => set_matching(modifiers, Matching::StartsWith, name, at)?,
        "endswith" => set_matching(modifiers, Matching::EndsWith, name, at)?,
        "re" => set_operator(modifiers, regex, name, at)?,
        "cidr" => set_operator(modifiers, Operator::Cidr, name, at)?,
        "lt" => set_operator(modifiers, Operator::Compare(Cmp::Lt), name, at)?,
        "lte" => set_operator(modifiers, Operator::Compare(Cmp::Lte), name, at)?,
        "gt" => set_operator(modifiers, Operator::Compare(Cmp::Gt), name, at)?,
        "gte" => set_operator(modifiers, Operator::Compare(Cmp::Gte), name, at)?,
        "exists" => set_operator(modifiers, Operator::Exists, name, at)?,
        "fieldref" => set_operator(modifiers, Operator::FieldRef, name, at)?,
        "i" | "m" | "s" => set_flag(modifiers, name, previous, at)?,
        "utf16" => encode(modifiers, Encoding::Utf16(Utf16::Marked), at)?,
        "utf16le" | "wide" => encode(modifiers, Encoding::Utf16(Utf16::Little), at)?,
        "utf16be" => encode(modifiers, Encoding::Utf16(Utf16::Big), at)?,
        "base64" => encode(modifiers, Encoding::Base64, at)?,
        "base64offset" => encode(modifiers, Encoding::Base64Offset, at)?,
        "windash" => modifiers.windash = true,
        "expand" => modifiers.expand = true,
        "all" => modifiers.all = true,
        "cased" => modifiers.cased = true,
        "neq" => modifiers.negated = true,
        _ if DATE_PARTS.contains(&name) => {
            let message = format!("the date-part modifier {} is not supported yet", shown(name));
            return Err(Fault::new(at, "not-supported", message)
                .help("compare a field that holds this part of the time as a number"));
        }
        _ => {
            let message = format!("there is no modifier {}", shown(name));
            return Err(Fault::new(at, "unknown-modifier", message).help(did_you_mean(name, &KNOWN)));
        }
    }
    Ok(())
}

fn conflict(at: Place, message: String) -> Fault {
    Fault::new(at, "conflicting-modifiers", message)
}

fn set_matching(modifiers: &mut Modifiers, matching: Matching, name: &str, at: Place) -> Result<(), Fault> {
    if modifiers.matching != Matching::Equals {
        return Err(conflict(at, format!("{} contradicts the modifier before it", shown(name)))
            .help("one of contains, startswith and endswith is enough; write the wildcards out otherwise"));
    }
    modifiers.matching = matching;
    Ok(())
}

fn set_operator(modifiers: &mut Modifiers, operator: Operator, name: &str, at: Place) -> Result<(), Fault> {
    if modifiers.operator.is_some() {
        return Err(conflict(at, format!("{} contradicts the modifier before it", shown(name)))
            .help("write two keys, one for each"));
    }
    modifiers.operator = Some(operator);
    Ok(())
}

fn set_flag(modifiers: &mut Modifiers, name: &str, previous: Option<&str>, at: Place) -> Result<(), Fault> {
    match (&mut modifiers.operator, previous) {
        (Some(Operator::Regex { ignore_case, multi_line, dot_all }), Some("re" | "i" | "m" | "s")) => {
            *match name {
                "i" => ignore_case,
                "m" => multi_line,
                _ => dot_all,
            } = true;
            Ok(())
        }
        _ => Err(conflict(at, format!("the flag {} stands behind no `re`", shown(name)))
            .help("write for example `field|re|i`")),
    }
}

fn encode(modifiers: &mut Modifiers, encoding: Encoding, at: Place) -> Result<(), Fault> {
    if modifiers.matching != Matching::Equals {
        return Err(conflict(
            at,
            "an encoding must stand before contains, startswith and endswith".to_owned(),
        )
        .help("write for example `field|wide|base64offset|contains`"));
    }
    let fits = match modifiers.encodings.last() {
        None => true,
        Some(Encoding::Utf16(_)) => !matches!(encoding, Encoding::Utf16(_)),
        Some(Encoding::Base64 | Encoding::Base64Offset) => false,
    };
    if !fits {
        return Err(conflict(at, "the encodings do not fit together in this order".to_owned())
            .help("one of utf16, utf16le, utf16be, wide, then one of base64, base64offset"));
    }
    modifiers.encodings.push(encoding);
    Ok(())
}

/// Refuses combinations in which one modifier would do nothing.
fn check(modifiers: &Modifiers, seen: &[&str], at: Place) -> Result<(), Fault> {
    let refuse = |what: &str, with: &str| {
        Err(conflict(at, format!("`{what}` means nothing together with `{with}`"))
            .help(format!("remove `{what}`")))
    };
    if matches!(modifiers.encodings.last(), Some(Encoding::Utf16(_))) {
        return Err(conflict(at, "a UTF-16 encoding must be followed by base64 or base64offset".to_owned())
            .help("events are text; UTF-16 occurs in them only inside Base64"));
    }
    let Some(operator) = modifiers.operator else { return Ok(()) };
    let name = seen
        .iter()
        .find(|n| matches!(**n, "re" | "cidr" | "lt" | "lte" | "gt" | "gte" | "exists" | "fieldref"))
        .copied()
        .unwrap_or("");
    if modifiers.matching != Matching::Equals && operator != Operator::FieldRef {
        let what = seen.iter().find(|n| matches!(**n, "contains" | "startswith" | "endswith")).copied();
        return refuse(what.unwrap_or("contains"), name);
    }
    if !modifiers.encodings.is_empty() {
        return refuse("base64", name);
    }
    if modifiers.windash {
        return refuse("windash", name);
    }
    if modifiers.cased && operator != Operator::FieldRef {
        return refuse("cased", name);
    }
    if modifiers.expand && operator != Operator::Cidr {
        return refuse("expand", name);
    }
    match operator {
        Operator::Compare(_) | Operator::Exists if modifiers.negated => refuse("neq", name),
        Operator::Exists if modifiers.all => refuse("all", name),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const AT: Place = Place { line: 3, column: 5 };

    #[test]
    fn modifiers_of_one_key_are_read_in_any_order_that_makes_sense() {
        let (field, modifiers) = parse("a.b|wide|base64offset|contains|all", AT).unwrap();
        assert_eq!(field, "a.b");
        assert_eq!(modifiers.encodings, [Encoding::Utf16(Utf16::Little), Encoding::Base64Offset]);
        assert!(modifiers.all && modifiers.matching == Matching::Contains);
        let (field, modifiers) = parse("|re|i|s", AT).unwrap();
        assert_eq!(field, "");
        let regex = Operator::Regex { ignore_case: true, multi_line: false, dot_all: true };
        assert_eq!(modifiers.operator, Some(regex));
        assert_eq!(parse("x|neq", AT).unwrap().1, Modifiers { negated: true, ..Modifiers::default() });
    }

    #[test]
    fn faults_point_at_the_modifier() {
        let fault = parse("field|contain", AT).unwrap_err();
        assert_eq!((fault.code, fault.at.column), ("unknown-modifier", 11));
        assert_eq!(fault.help.unwrap(), "did you mean `contains`?");
        let refused = |key| parse(key, AT).unwrap_err().code;
        assert_eq!(refused("t|hour"), "not-supported");
        assert_eq!(refused("t|all|all"), "repeated-modifier");
        for key in [
            "t|contains|endswith",
            "t|i",
            "t|re|cidr",
            "t|cased|re",
            "t|contains|base64",
            "t|wide",
            "t|re|contains",
            "t|lt|neq",
            "t|expand|re",
            "t|base64|base64offset",
            "t|re|all|i",
            "t|windash|cidr",
        ] {
            assert_eq!(refused(key), "conflicting-modifiers", "{key}");
        }
    }
}
