//! Secrets: replaced by a keyed hash, so that they can be compared and counted but not read.
//!
//! In: a value, a URL, a JSON value or a whole record, and the deployment's key. Out: the same with each secret as
//! `secret:` and 16 hexadecimal digits.
//! Invariants: equal secrets of one deployment give equal texts; nothing of a secret is in its text; what is already
//! hidden stays as it is.

use std::fmt::Write;

use memchr::memchr_iter;
use vedette_event::{SourceDef, source::Form};

use crate::{json::walk, panos::csv};

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
}

impl Secrets {
    /// The secrets of a source.
    #[must_use]
    pub fn new(def: &SourceDef, key: [u8; 32]) -> Self {
        let mapped = def.secrets.iter().filter_map(|name| def.fields.get(name));
        let paths = mapped.flat_map(|paths| paths.names().iter().cloned());
        Self {
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
            match self.mask_parameters(cell) {
                Some(masked) => out.push_str(&masked),
                None => out.push_str(cell),
            }
            copied = range.end;
        }
        out.push_str(record.get(copied..).unwrap_or_default());
        out
    }

    /// A JSON value that the scanner has accepted, its secrets hidden; `path` says where it lies in the record.
    #[must_use]
    pub fn mask_json(&self, path: &str, value: &str) -> String {
        let mut out = String::with_capacity(value.len());
        self.value(&mut path.to_owned(), value, &mut out);
        out
    }

    fn value(&self, path: &mut String, value: &str, out: &mut String) {
        match value.as_bytes().first() {
            _ if covered(&self.paths, path) && value != "null" => self.quoted(value, out),
            Some(b'"') => self.string(value, out),
            Some(b'{') => self.object(path, value, out),
            Some(b'[') => {
                let mut copied = 0;
                for range in walk::ranges(value, b'[') {
                    out.push_str(value.get(copied..range.start).unwrap_or_default());
                    self.value(path, value.get(range.clone()).unwrap_or_default(), out);
                    copied = range.end;
                }
                out.push_str(value.get(copied..).unwrap_or_default());
            }
            _ => out.push_str(value),
        }
    }

    fn object(&self, path: &mut String, object: &str, out: &mut String) {
        let header = self.aws && path == AWS_HEADERS.0 && self.is_secret_header(object);
        let (mut copied, mut scratch) = (0, String::new());
        let length = path.len();
        for (name, range) in walk::members(object) {
            out.push_str(object.get(copied..range.start).unwrap_or_default());
            let value = object.get(range.clone()).unwrap_or_default();
            let quoted = object.get(name.start - 1..=name.end).unwrap_or_default();
            let name = walk::text(quoted, &mut scratch).unwrap_or_default();
            if header && name == "value" {
                self.quoted(value, out);
            } else {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
                self.value(path, value, out);
                path.truncate(length);
            }
            copied = range.end;
        }
        out.push_str(object.get(copied..).unwrap_or_default());
    }

    fn is_secret_header(&self, object: &str) -> bool {
        let mut scratch = String::new();
        let name = walk::member(object, "name").and_then(|name| walk::text(name, &mut scratch));
        name.is_some_and(|name| self.covers(&format!("{}{}", AWS_HEADERS.1, name.to_ascii_lowercase())))
    }

    /// Writes the hash of a raw value as a JSON string.
    fn quoted(&self, value: &str, out: &mut String) {
        let mut scratch = String::new();
        out.push('"');
        self.hide(walk::text(value, &mut scratch).unwrap_or(value), out);
        out.push('"');
    }

    fn string(&self, value: &str, out: &mut String) {
        let mut scratch = String::new();
        let masked = walk::text(value, &mut scratch).and_then(|text| self.mask_parameters(text));
        match masked.and_then(|text| serde_json::to_string(&text).ok()) {
            Some(text) => out.push_str(&text),
            None => out.push_str(value),
        }
    }
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
    #![allow(clippy::unwrap_used)]
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
}
