//! What one file may cost beyond its size: copies of text and compiled regular expressions.
//!
//! In: amounts, as they are about to be spent. Out: a fault as soon as the file has spent too much, so that no short file
//! can take long or fill the memory.

use regex_syntax::hir::{Class, Hir, HirKind};

use crate::fault::{Fault, Place};

/// Most bytes that variants of values and repeated test events may take in a file.
const MAX_BYTES: usize = 16 << 20;
/// Most parts of compiled regular expressions in a file.
const MAX_REGEX: usize = 1_000_000;

/// What is left for a file.
#[derive(Debug)]
pub(crate) struct FileBudget {
    bytes: usize,
    regex: usize,
}

impl Default for FileBudget {
    fn default() -> Self {
        Self { bytes: MAX_BYTES, regex: MAX_REGEX }
    }
}

impl FileBudget {
    /// Spends bytes for `copies` of a text of this length.
    pub fn copies(&mut self, copies: usize, length: usize, at: Place) -> Result<(), Fault> {
        let bytes = copies.saturating_mul(length.saturating_add(64));
        self.bytes = self.bytes.checked_sub(bytes).ok_or_else(|| {
            let message = format!("variants and repetitions take more than {MAX_BYTES} bytes in this file");
            Fault::new(at, "too-large", message).help("use shorter lists, fewer dashes or fewer repetitions")
        })?;
        Ok(())
    }

    /// Spends what it takes to compile a regular expression.
    pub fn regex(&mut self, hir: &Hir, at: Place) -> Result<(), Fault> {
        self.regex = self.regex.checked_sub(cost(hir)).ok_or_else(|| {
            Fault::new(
                at,
                "regex-too-large",
                "the regular expressions of this file are too large when written out",
            )
            .help("use smaller repetition counts, or `[a-z]` and `[0-9]` instead of `\\w` and `\\d`")
        })?;
        Ok(())
    }
}

/// How many parts the expression has when its repetitions are written out. The depth is bounded by the parser.
fn cost(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Class(Class::Unicode(class)) => class.ranges().len().saturating_mul(2).max(1),
        HirKind::Class(Class::Bytes(class)) => class.ranges().len().max(1),
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min.saturating_add(1)).max(1);
            cost(&repetition.sub).saturating_mul(times as usize)
        }
        HirKind::Capture(capture) => cost(&capture.sub).saturating_add(2),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().fold(1, |sum: usize, part| sum.saturating_add(cost(part)))
        }
    }
}
