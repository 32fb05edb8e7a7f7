//! Codes of authenticators (RFC 6238): six digits that change every half minute.
//!
//! In: the secret that both hold, and a time. Out: the step a code belongs to. Invariants: a step is taken once; codes are
//! compared in constant time; the one before and the one after are taken too, for clocks that differ.

use totp_rs::{Algorithm, TOTP};
use vedette_event::Micros;

use super::seconds;
use crate::{error::Error, session::same};

/// Bytes of a secret: as many as SHA-1 gives, which is what authenticators agree on.
pub(crate) const SECRET: usize = 20;
const DIGITS: usize = 6;
const STEP: i64 = 30;

fn totp(secret: &[u8]) -> TOTP {
    TOTP::new_unchecked(Algorithm::SHA1, DIGITS, 1, STEP.unsigned_abs(), secret.to_vec())
}

/// The step that the code belongs to, if it is right and newer than the last one that was taken.
pub(crate) fn step_of(secret: &[u8], code: &str, now: Micros, taken: i64) -> Option<i64> {
    let (totp, present) = (totp(secret), seconds(now).div_euclid(STEP));
    let mut found = None;
    for step in (present - 1)..=(present + 1) {
        let right = same(&totp.generate((step * STEP).unsigned_abs()), code);
        if right && step > taken {
            found = found.or(Some(step));
        }
    }
    found
}

/// A new secret.
///
/// # Errors
/// [`Error::Random`] if the system gives none.
pub fn create() -> Result<Vec<u8>, Error> {
    let mut random = vec![0_u8; SECRET];
    getrandom::fill(&mut random).map_err(|e| Error::Random(e.to_string()))?;
    Ok(random)
}

/// A secret as people type it.
#[must_use]
pub fn written(secret: &[u8]) -> String {
    totp(secret).get_secret_base32()
}

/// A secret as [`written`] wrote it.
pub(crate) fn read(text: &str) -> Option<Vec<u8>> {
    let bytes = totp_rs::Secret::Encoded(text.trim().to_uppercase()).to_bytes().ok()?;
    (bytes.len() == SECRET).then_some(bytes)
}

/// The link that authenticators take.
#[must_use]
pub fn link(name: &str, secret: &[u8]) -> String {
    let mut label = String::from("otpauth://totp/Vedette:");
    label.extend(form_urlencoded::byte_serialize(name.as_bytes()));
    format!("{label}?secret={}&issuer=Vedette", written(secret))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(seconds: i64) -> Micros {
        Micros(seconds * 1_000_000)
    }

    /// The last six digits of RFC 6238's table for SHA-1.
    #[test]
    fn the_codes_are_those_of_the_standard() {
        let secret = b"12345678901234567890";
        for (seconds, code) in [(59, "287082"), (1_111_111_109, "081804"), (20_000_000_000, "353130")] {
            assert_eq!(step_of(secret, code, at(seconds), 0), Some(seconds / 30), "{seconds}");
        }
    }

    #[test]
    fn a_code_is_good_once_and_for_its_neighbours() {
        let secret = b"12345678901234567890";
        let step = 1_111_111_109 / 30;
        for seconds in [step * 30 - 30, step * 30, step * 30 + 59] {
            assert_eq!(step_of(secret, "081804", at(seconds), step - 1), Some(step), "{seconds}");
            assert_eq!(step_of(secret, "081804", at(seconds), step), None, "{seconds}");
        }
        for seconds in [step * 30 - 31, step * 30 + 60] {
            assert_eq!(step_of(secret, "081804", at(seconds), 0), None, "{seconds}");
        }
        for code in ["", "081805", "81804", "081804 ", "0818041"] {
            assert_eq!(step_of(secret, code, at(step * 30), 0), None, "{code:?}");
        }
    }

    #[test]
    fn secrets_are_read_as_they_are_written() {
        let secret = create().unwrap();
        assert_eq!(read(&written(&secret)).unwrap(), secret);
        assert_eq!(read(&written(&secret).to_lowercase()).unwrap(), secret);
        assert!(read("").is_none() && read("AAAA").is_none() && read("!").is_none());
        let link = link("ann@example", &secret);
        assert!(link.starts_with("otpauth://totp/Vedette:ann%40example?secret="), "{link}");
    }
}
