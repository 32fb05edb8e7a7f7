//! Sizes as people write them.
//!
//! In: a whole number of bytes, or one with a unit such as `512MiB`. Out: [`Bytes`]. Invariants: what is written parses to what it was
//! written for; nothing is rounded. `MB` and `GB` are refused, because some take them for powers of ten and some for powers of two.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

const UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Bytes {
    fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let (_, each) = UNITS.iter().find(|(name, _)| unit == *name || (unit.is_empty() && *name == "B"))?;
        number.parse::<u64>().ok()?.checked_mul(*each).map(Self)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS.iter().find(|(_, each)| self.0 >= *each && self.0.is_multiple_of(*each));
        let (unit, each) = whole.map_or(("B", 1), |(unit, each)| (*unit, *each));
        write!(f, "{}{unit}", self.0 / each)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Written;

        impl de::Visitor<'_> for Written {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as 512MiB or 2GiB, or a number of bytes")
            }

            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Bytes, E> {
                Ok(Bytes(n))
            }

            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Bytes, E> {
                u64::try_from(n).map(Bytes).map_err(|_| wrong(n))
            }

            fn visit_f64<E: de::Error>(self, n: f64) -> Result<Bytes, E> {
                Err(wrong(n))
            }

            fn visit_bool<E: de::Error>(self, is: bool) -> Result<Bytes, E> {
                Err(wrong(is))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
                Bytes::parse(text).ok_or_else(|| wrong(text))
            }
        }

        from.deserialize_any(Written)
    }
}

fn wrong<E: de::Error>(written: impl fmt::Display) -> E {
    E::custom(format!("`{written}` is no size; write for example 512MiB, 2GiB, or a whole number of bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written_the_same() {
        for (text, bytes) in [
            ("0B", 0),
            ("1000B", 1_000),
            ("1KiB", 1 << 10),
            ("512MiB", 512 << 20),
            ("2GiB", 2 << 30),
            ("1025MiB", 1_025 << 20),
            ("3TiB", 3 << 40),
        ] {
            assert_eq!(Bytes::parse(text), Some(Bytes(bytes)));
            assert_eq!(Bytes(bytes).to_string(), text);
        }
        assert_eq!(Bytes::parse("1073741824"), Some(Bytes(1 << 30)));
        for text in [
            "",
            "MiB",
            "4 GiB",
            "4GB",
            "4gib",
            "-4GiB",
            "+4GiB",
            "0.5GiB",
            "16777216TiB",
            "18446744073709551616",
        ] {
            assert_eq!(Bytes::parse(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_and_texts_are_taken_and_what_is_neither_is_refused_with_an_example() {
        let read =
            |text: &str| crate::yaml::parse::<Vec<Option<Bytes>>>("f", text).map_err(|e| e.to_string());
        let four = Some(Bytes(4 << 30));
        assert_eq!(
            read("[4GiB, '4GiB', 4294967296, \"4294967296\", null]"),
            Ok(vec![four, four, four, four, None])
        );
        for (wrong, told) in [
            ("4 GB", "`4 GB`"),
            ("-1", "`-1`"),
            ("1.5", "`1.5`"),
            ("1e9", "`1"),
            ("yes", "`true`"),
            ("true", "`true`"),
        ] {
            let said = read(&format!("[{wrong}]")).unwrap_err();
            assert!(said.starts_with("f:1:2: ") && said.contains(told) && said.contains("512MiB"), "{said}");
        }
        assert!(read("[[4]]").unwrap_err().contains("a size such as 512MiB"));
    }
}
