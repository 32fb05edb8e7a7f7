//! PAN-OS lines: where the CSV begins behind its syslog envelope, and its cells.
//!
//! In: a record. Out: the place of each cell. Any envelope is accepted (RFC 3164 and 5424, doubled headers, octet
//! counts, `host : `): the CSV begins at the word before the first comma that a receive time and, two cells on, a log
//! type follow. A line that was cut short has fewer cells.

use memchr::{memchr, memchr_iter};

use crate::json::text::first;

/// Cells beyond this number are not told apart.
pub const MAX_CELLS: usize = 256;

/// The log types that PAN-OS writes, for lines without a receive time.
const TYPES: [&str; 15] = [
    "TRAFFIC",
    "THREAT",
    "SYSTEM",
    "CONFIG",
    "HIPMATCH",
    "HIP-MATCH",
    "GLOBALPROTECT",
    "USERID",
    "IPTAG",
    "DECRYPTION",
    "AUTHENTICATION",
    "CORRELATION",
    "TUNNEL",
    "SCTP",
    "AUDIT",
];

/// Where a cell lies in the record, without its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellSpan {
    start: u32,
    end: u32,
    /// It holds doubled quotes.
    pub doubled: bool,
}

impl CellSpan {
    /// Its bytes in the record.
    #[must_use]
    pub fn range(&self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Its raw text in the record it was found in, blanks around it cut.
    #[must_use]
    pub fn of<'r>(&self, record: &'r str) -> &'r str {
        record.get(self.start as usize..self.end as usize).unwrap_or_default().trim_ascii()
    }
}

/// Where the CSV begins, or `None` if the record holds none.
#[must_use]
pub fn begin(record: &str) -> Option<usize> {
    let bytes = record.as_bytes();
    let comma = memchr_iter(b',', bytes).find(|&comma| {
        let mut cells = record.get(comma + 1..).unwrap_or_default().splitn(4, ',');
        let received = cells.next().unwrap_or_default();
        let kind = cells.nth(1).unwrap_or_default();
        let dated = is_time(received) && !kind.is_empty() && kind.bytes().all(is_type_byte);
        dated || TYPES.contains(&kind)
    })?;
    let before = record.get(..comma)?;
    Some(before.rfind(|c: char| c.is_ascii_whitespace()).map_or(0, |at| at + 1))
}

fn is_type_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')
}

/// `YYYY/MM/DD HH:MM:SS`, its digits unchecked beyond being digits.
fn is_time(text: &str) -> bool {
    let shape = b"0000/00/00 00:00:00";
    text.len() == shape.len()
        && text.bytes().zip(shape).all(|(b, &s)| if s == b'0' { b.is_ascii_digit() } else { b == s })
}

/// Splits the CSV that begins at `at` into `cells`, and gives what lies behind the last cell that is told apart.
pub fn split<'r>(record: &'r str, at: usize, cells: &mut Vec<CellSpan>) -> &'r str {
    cells.clear();
    let bytes = record.as_bytes();
    let mut at = at;
    while cells.len() < MAX_CELLS {
        let (span, next) = cell(bytes, at);
        cells.push(span);
        match next {
            Some(next) => at = next,
            None => return "",
        }
    }
    record.get(at..).unwrap_or_default()
}

/// The cell at `at`, and where the next one begins.
fn cell(bytes: &[u8], at: usize) -> (CellSpan, Option<usize>) {
    let span = |start: usize, end: usize, doubled| CellSpan { start: start as u32, end: end as u32, doubled };
    let rest = bytes.get(at..).unwrap_or_default();
    if rest.first() != Some(&b'"') {
        let end = first(bytes, at, |byte| byte == b',');
        return (span(at, end, false), (end < bytes.len()).then_some(end + 1));
    }
    let (start, mut from, mut doubled) = (at + 1, at + 1, false);
    loop {
        let Some(quote) = memchr(b'"', bytes.get(from..).unwrap_or_default()).map(|n| from + n) else {
            return (span(start, bytes.len(), doubled), None);
        };
        match bytes.get(quote + 1) {
            Some(b',') => return (span(start, quote, doubled), Some(quote + 2)),
            None => return (span(start, quote, doubled), None),
            Some(b'"') => {
                doubled = true;
                from = quote + 2;
            }
            // Blanks may follow the last cell; a lone quote inside a cell is taken as it is.
            Some(_) if bytes[quote + 1..].trim_ascii().is_empty() => {
                return (span(start, quote, doubled), None);
            }
            Some(_) => from = quote + 1,
        }
    }
}

/// The host that a syslog header names; `header` is what stands before the CSV.
#[must_use]
pub fn host(header: &str) -> Option<&str> {
    let header = header.trim_ascii();
    let after_priority = header.find('>').map_or(header, |at| &header[at + 1..]);
    if let Some(rfc5424) = after_priority.strip_prefix("1 ") {
        return rfc5424.split_ascii_whitespace().nth(1).filter(|host| *host != "-");
    }
    let last = header.split_ascii_whitespace().rev().find(|word| !matches!(*word, ":" | "-"))?;
    let last = last.trim_end_matches(':');
    let is_clock = last.contains(':') && last.bytes().next().is_some_and(|b| b.is_ascii_digit());
    (!last.is_empty() && !is_clock && !last.ends_with('>')).then_some(last)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rstest::rstest;

    use super::*;

    const CSV: &str = "1,2026/01/02 03:04:05,007,TRAFFIC,end,1";

    #[rstest]
    #[case("", None)]
    #[case("<14>Jan  2 03:04:05 fw-1 ", Some("fw-1"))]
    #[case("<14>Jan 02 03:04:05 10.0.0.9 Jan 02 03:04:04 pano ", Some("pano"))]
    #[case("<14>1 2026-01-02T03:04:05Z fw-2 - - - - ", Some("fw-2"))]
    #[case("<14>1 2026-01-02T03:04:05Z - - - - - ", None)]
    #[case("412 <14>1 2026-01-02T03:04:05Z fw-3 app 1 2 [x@1 a=\"b,c\"] ", Some("fw-3"))]
    #[case("fw-4 : ", Some("fw-4"))]
    #[case("<10>Mar 26 18:32:28 ", None)]
    fn envelopes(#[case] envelope: &str, #[case] expected: Option<&str>) {
        let record = format!("{envelope}{CSV}");
        assert_eq!(begin(&record), Some(envelope.len()), "{record}");
        assert_eq!(host(envelope), expected, "{record}");
    }

    #[rstest]
    #[case("a,b", &["a", "b"])]
    #[case("a,\"b,c\",d", &["a", "b,c", "d"])]
    #[case("\"a \"\"b\"\", c\",d", &["a \"\"b\"\", c", "d"])]
    #[case("a,, b ,", &["a", "", "b", ""])]
    #[case("a,\"cut off, here", &["a", "cut off, here"])]
    #[case("a,\"b\"c\",d", &["a", "b\"c", "d"])]
    #[case("a,\"b\" ", &["a", "b"])]
    #[case("", &[""])]
    fn cells(#[case] line: &str, #[case] expected: &[&str]) {
        let mut cells = Vec::new();
        split(line, 0, &mut cells);
        assert_eq!(cells.iter().map(|cell| cell.of(line)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_no_csv_has_no_beginning() {
        for line in
            ["", "hello, world", "{\"a\":1}", "CEF:0|Palo Alto Networks|PAN-OS|10.0|end|TRAFFIC|1|", ",,,,"]
        {
            assert_eq!(begin(line), None, "{line}");
        }
        assert_eq!(begin("1,,007,TRAFFIC,end"), Some(0));
    }
}
