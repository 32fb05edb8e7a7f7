//! Secrets: replaced by a keyed hash, so that they can be compared and counted but not read.
//!
//! In: a value, a URL, a JSON value or a whole record, and the deployment's key. Out: the same with each secret as
//! `secret:` and 16 hexadecimal digits.
//! Invariants: equal secrets of one deployment give equal texts; nothing of a secret is in its text; what is already
//! hidden stays as it is.

use std::{borrow::Cow, fmt::Write};

use memchr::{memchr_iter, memchr2};
use vedette_event::{SourceDef, source::Form};

use crate::{
    json::{text::unescape, walk},
    panos::csv,
};

const MARK: &str = "secret:";
/// Where AWS WAF keeps the request's headers, and what they are called here.
const AWS_HEADERS: (&str, &str) = ("httpRequest.headers", "http.request.headers.");

/// Which parts of a source's records are secrets, and the key that hides them.
#[derive(Clone)]
pub struct Secrets {
    key: [u8; 32],
    /// Canonical names.
    fields: Vec<String>,
    /// Paths in the record.
    paths: Vec<String>,
    /// Names of parameters, in lower case.
    parameters: Vec<String>,
    aws: bool,
    /// Of AWS WAF: the secret headers, in lower case, and `*` if fields that are secrets by a prefix may be others.
    headers: Vec<String>,
}

impl Secrets {
    /// The secrets of a source.
    #[must_use]
    pub fn new(def: &SourceDef, key: [u8; 32]) -> Self {
        let mapped = def.secrets.iter().filter_map(|name| def.fields.get(name));
        let paths = mapped.flat_map(|paths| paths.names().iter().cloned());
        let header = |name: &String| match name.strip_prefix(AWS_HEADERS.1) {
            _ if name.ends_with('*') => Some("*".to_owned()),
            header => header.map(str::to_ascii_lowercase),
        };
        Self {
            headers: def.secrets.iter().filter_map(header).collect(),
            key,
            paths: paths.chain(def.secrets.iter().cloned()).collect(),
            fields: def.secrets.clone(),
            parameters: def.secret_parameters.iter().map(|name| name.to_ascii_lowercase()).collect(),
            aws: def.form == Form::AwsWaf,
        }
    }

    /// A number that only the key's owner knows, for hashes of what records hold.
    #[must_use]
    pub fn seed(&self) -> u64 {
        let hash = blake3::keyed_hash(&self.key, b"vedette keys of records");
        hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// True if the source has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.parameters.is_empty()
    }

    /// True if a field, or what lies at a path of the record, is a secret as a whole.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        covered(&self.fields, name) || covered(&self.paths, name)
    }

    /// True if what lies at a path of the record is a secret as a whole.
    #[must_use]
    pub fn lies_at(&self, path: &str) -> bool {
        covered(&self.paths, path)
    }

    /// True if a secret may lie inside what lies at a path of the record.
    #[must_use]
    pub fn lies_below(&self, path: &str) -> bool {
        let below = |secret: &str| secret.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
        path.is_empty()
            || self.paths.iter().any(|secret| below(secret))
            || self.aws && (path == AWS_HEADERS.0 || below(AWS_HEADERS.0))
    }

    /// Appends what stands for a secret value.
    pub fn hide(&self, value: &str, out: &mut String) {
        if is_hidden(value) {
            out.push_str(value);
            return;
        }
        let hash = blake3::keyed_hash(&self.key, value.as_bytes());
        out.push_str(MARK);
        for byte in &hash.as_bytes()[..8] {
            let _ = write!(out, "{byte:02x}");
        }
    }

    /// The text with the values of secret parameters (`token=…`) hidden, or `None` if it has none.
    #[must_use]
    pub fn mask_parameters(&self, text: &str) -> Option<String> {
        if self.parameters.is_empty() {
            return None;
        }
        let bytes = text.as_bytes();
        let mut out = String::new();
        let mut copied = 0;
        for equals in memchr_iter(b'=', bytes) {
            if equals < copied || !self.is_parameter(bytes.get(..equals).unwrap_or_default()) {
                continue;
            }
            let rest = text.get(equals + 1..).unwrap_or_default();
            let ends =
                |c: char| c.is_whitespace() || c.is_control() || matches!(c, '&' | '#' | '"' | '<' | '>');
            let value = rest.split(ends).next().unwrap_or_default();
            if value.is_empty() || is_hidden(value) {
                continue;
            }
            out.push_str(text.get(copied..=equals).unwrap_or_default());
            self.hide(value, &mut out);
            copied = equals + 1 + value.len();
        }
        if copied == 0 {
            return None;
        }
        out.push_str(text.get(copied..).unwrap_or_default());
        Some(out)
    }

    /// True if the name that ends here is a secret parameter's.
    fn is_parameter(&self, before: &[u8]) -> bool {
        self.parameters.iter().any(|name| {
            let Some(start) = before.len().checked_sub(name.len()) else { return false };
            let is_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
            before[start..].eq_ignore_ascii_case(name.as_bytes())
                && !start.checked_sub(1).and_then(|at| before.get(at)).is_some_and(is_name)
        })
    }

    /// A record that can be decoded, its secrets hidden, all else as it came.
    #[must_use]
    pub fn mask_record(&self, form: Form, record: &str) -> String {
        match form {
            Form::PanosCsv => self.mask_csv(record),
            Form::AwsWaf | Form::ApiJson | Form::Json => self.mask_json("", record),
        }
    }

    fn mask_csv(&self, record: &str) -> String {
        let mut cells = Vec::new();
        csv::split(record, csv::begin(record).unwrap_or_default(), &mut cells);
        let (mut out, mut copied) = (String::new(), 0);
        for range in cells.iter().map(csv::CellSpan::range) {
            out.push_str(record.get(copied..range.start).unwrap_or_default());
            let cell = record.get(range.clone()).unwrap_or_default();
            out.push_str(&self.masked(cell));
            copied = range.end;
        }
        out.push_str(&self.masked(record.get(copied..).unwrap_or_default()));
        out
    }

    /// The text with the values of secret parameters hidden.
    #[must_use]
    pub fn masked<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.mask_parameters(text).map_or(Cow::Borrowed(text), Cow::Owned)
    }

    /// A JSON value that the scanner has accepted, its secrets hidden; `path` says where it lies in the record.
    #[must_use]
    pub fn mask_json(&self, path: &str, value: &str) -> String {
        let mut out = String::with_capacity(value.len());
        self.mask_value(&mut path.to_owned(), value, &mut out);
        out
    }

    /// The same, appended to `out`; `path` is there again in the end.
    pub fn mask_value(&self, path: &mut String, value: &str, out: &mut String) {
        // Blanks may stand before and behind a record.
        let start = walk::next(value.as_bytes(), 0).unwrap_or(value.len());
        out.push_str(value.get(..start).unwrap_or_default());
        let end = self.value(path, value, start, out);
        out.push_str(value.get(end..).unwrap_or_default());
    }

    /// Appends the value that begins at `at`, and gives where it ends.
    fn value(&self, path: &mut String, json: &str, at: usize, out: &mut String) -> usize {
        let kind = json.as_bytes().get(at);
        let covered = covered(&self.paths, path);
        match kind {
            Some(b'{') if !covered => return self.object(path, json, at, out),
            Some(b'[') if !covered => return self.list(path, json, at, out),
            _ => {}
        }
        let end = walk::end(json.as_bytes(), at);
        let value = json.get(at..end).unwrap_or_default();
        match kind {
            _ if covered && value != "null" => self.quoted(value, out),
            Some(b'"') => self.string(value, out),
            _ => out.push_str(value),
        }
        end
    }

    fn list(&self, path: &mut String, json: &str, start: usize, out: &mut String) -> usize {
        let (mut at, mut copied) = (start + 1, start);
        while let Some(element) = walk::next(json.as_bytes(), at) {
            out.push_str(json.get(copied..element).unwrap_or_default());
            at = self.value(path, json, element, out);
            copied = at;
        }
        finish(json, at, copied, out)
    }

    fn object(&self, path: &mut String, json: &str, start: usize, out: &mut String) -> usize {
        let header =
            self.aws && path == AWS_HEADERS.0 && self.is_secret_header(json.get(start..).unwrap_or_default());
        let (mut at, mut copied) = (start + 1, start);
        let length = path.len();
        while let Some((name, value)) = walk::next_member(json.as_bytes(), at) {
            out.push_str(json.get(copied..value).unwrap_or_default());
            if length > 0 {
                path.push('.');
            }
            let begin = path.len();
            unescape(json.get(name).unwrap_or_default(), path);
            if header && path.get(begin..) == Some("value") {
                at = walk::end(json.as_bytes(), value);
                self.quoted(json.get(value..at).unwrap_or_default(), out);
            } else {
                at = self.value(path, json, value, out);
            }
            path.truncate(length);
            copied = at;
        }
        finish(json, at, copied, out)
    }

    fn is_secret_header(&self, object: &str) -> bool {
        let mut scratch = String::new();
        let Some(name) = walk::member(object, "name").and_then(|name| walk::text(name, &mut scratch)) else {
            return false;
        };
        self.headers.iter().any(|header| {
            header.eq_ignore_ascii_case(name)
                || header == "*" && self.covers(&format!("{}{}", AWS_HEADERS.1, name.to_ascii_lowercase()))
        })
    }

    /// Writes the hash of a raw value as a JSON string.
    fn quoted(&self, value: &str, out: &mut String) {
        let mut scratch = String::new();
        out.push('"');
        self.hide(walk::text(value, &mut scratch).unwrap_or(value), out);
        out.push('"');
    }

    fn string(&self, value: &str, out: &mut String) {
        if memchr2(b'=', b'\\', value.as_bytes()).is_none() {
            out.push_str(value);
            return;
        }
        let mut scratch = String::new();
        let masked = walk::text(value, &mut scratch).and_then(|text| self.mask_parameters(text));
        match masked.and_then(|text| serde_json::to_string(&text).ok()) {
            Some(text) => out.push_str(&text),
            None => out.push_str(value),
        }
    }
}

/// Appends what is left of a list or an object whose last part ended at `at`, and gives where it ends.
fn finish(json: &str, at: usize, copied: usize, out: &mut String) -> usize {
    let end = walk::close(json.as_bytes(), at);
    out.push_str(json.get(copied..end).unwrap_or_default());
    end
}

fn covered(names: &[String], name: &str) -> bool {
    names.iter().any(|secret| match secret.strip_suffix('*') {
        Some(prefix) => prefix.ends_with('.') && name.starts_with(prefix),
        None => secret == name,
    })
}

fn is_hidden(value: &str) -> bool {
    value
        .strip_prefix(MARK)
        .is_some_and(|hash| hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]
    use super::*;
    use crate::tests::source;

    fn secrets() -> Secrets {
        let def = source(
            "name: x\ndescription: x\nform: aws_waf\ndisorder: 1s\nfuture: 1s\nentity: []\n\
             fields: {session.id: [sid]}\n\
             secrets: [http.request.headers.cookie, session.id, 'auth.token.*']\n\
             secret_parameters: [token, password]\n",
        );
        Secrets::new(&def, [1; 32])
    }

    #[test]
    fn parameters_are_hidden_in_place_and_once() {
        let mask = |text: &str| secrets().mask_parameters(text);
        let once = mask("/login?user=a&Password=p%20w&x=1&token=t").unwrap();
        insta::assert_snapshot!(once, @"/login?user=a&Password=secret:b9a9bc5f8be95372&x=1&token=secret:fe1e050e09e2fbf5");
        assert_eq!(mask(&once), None);
        assert_eq!(mask("mytoken=1&token=&a=token"), None);
        assert_ne!(mask("token=a"), mask("token=b"));
    }

    #[test]
    fn json_keeps_everything_but_the_secrets() {
        let record = r#"{ "sid" : "s1", "n":1.50, "auth":{"token":{"a":[1,2]}, "ok":true},
            "httpRequest":{"headers":[{"value":"c=1","name":"Cookie"},{"name":"host","value":"h"}],"args":"a=1\u0026token=abc"}, "sid":null}"#;
        insta::assert_snapshot!(secrets().mask_json("", record));
    }

    #[test]
    fn headers_are_secrets_by_name_or_by_a_prefix() {
        let header = |secret: &str, name: &str| {
            let def = "name: x\ndescription: x\nform: aws_waf\ndisorder: 1s\nfuture: 1s\nentity: []\n";
            let secrets = Secrets::new(&source(&format!("{def}secrets: ['{secret}']\n")), [1; 32]);
            let record = format!(r#"{{"httpRequest":{{"headers":[{{"name":"{name}","value":"v"}}]}}}}"#);
            secrets.mask_json("", &record) != record
        };
        for (secret, name, hidden) in [
            ("http.request.headers.cookie", "Cookie", true),
            ("http.request.headers.cookie", "cookie2", false),
            ("http.request.headers.cookie", "coo\\u006bie", true),
            ("http.request.headers.*", "Any", true),
            ("http.request.*", "Any", true),
            ("http.request.headers.x.*", "X.y", true),
            ("http.request.headers.x.*", "x", false),
            ("url.*", "url", false),
        ] {
            assert_eq!(header(secret, name), hidden, "{secret} {name}");
        }
    }

    #[test]
    fn blanks_around_a_record_hide_no_secret_and_stay() {
        for (before, after) in [("", ""), (" ", ""), ("\n\t", " \r\n")] {
            let masked = secrets().mask_json("", &format!(r#"{before}{{"sid":"s1","a":"token=t"}}{after}"#));
            assert!(masked.starts_with(&format!("{before}{{")) && masked.ends_with(&format!("}}{after}")));
            assert!(!masked.contains("s1") && !masked.contains("token=t"), "{masked}");
        }
    }

    /// A walk that looks ahead at each level takes a hundred times as long.
    #[test]
    fn the_work_of_masking_is_linear_in_the_value() {
        let deep = |levels: usize| {
            let inner = format!("[{}]", "\"a\",".repeat(100_000) + "1");
            let value = "{\"a\":".repeat(levels) + &inner + &"}".repeat(levels);
            let before = std::time::Instant::now();
            assert_eq!(secrets().mask_json("", &value), value);
            before.elapsed()
        };
        let flat = (0..3).map(|_| deep(1)).min().unwrap();
        let nested = (0..3).map(|_| deep(120)).min().unwrap();
        assert!(nested < flat * 20, "{nested:?} instead of {flat:?}");
    }
}
