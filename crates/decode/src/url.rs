//! Parts of URLs, and percent decoding.
//!
//! In: a URL with or without scheme, a path, a query. Out: its parts, as they came.

/// Host, path and query of a URL; the host is empty if the text begins with a slash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UrlParts<'a> {
    /// Host, without port and user.
    pub domain: &'a str,
    /// Path, with its first slash.
    pub path: &'a str,
    /// Query, without the question mark.
    pub query: &'a str,
}

/// Splits a URL.
#[must_use]
pub fn split(url: &str) -> UrlParts<'_> {
    let url = url.split_once('#').map_or(url, |(before, _)| before);
    let (before, query) = url.split_once('?').unwrap_or((url, ""));
    let rest = match before.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|b| b.is_ascii_alphanumeric()) => rest,
        _ => before,
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    UrlParts { domain: host(authority), path, query }
}

/// A host without user and port.
#[must_use]
pub fn host(authority: &str) -> &str {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if host.starts_with('[') {
        return host.split_once(']').map_or(host, |(inner, _)| inner.trim_start_matches('['));
    }
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// What follows the last dot of the last part of a path; empty if there is none.
#[must_use]
pub fn extension(path: &str) -> &str {
    let last = path.rsplit_once('/').map_or(path, |(_, last)| last);
    last.rsplit_once('.').map_or("", |(_, extension)| extension)
}

/// Appends a query with `%XX` and `+` decoded once; bytes that are not UTF-8 become U+FFFD, and a `%` that begins no escape stays.
pub fn decode_query(query: &str, out: &mut String) {
    if !query.bytes().any(|b| matches!(b, b'%' | b'+')) {
        out.push_str(query);
        return;
    }
    let bytes = query.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    let hex = |b: Option<&u8>| b.and_then(|&b| char::from(b).to_digit(16));
    while let Some(&byte) = bytes.get(at) {
        let pair = (byte == b'%').then(|| hex(bytes.get(at + 1)).zip(hex(bytes.get(at + 2)))).flatten();
        match (byte, pair) {
            (_, Some((high, low))) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
                continue;
            }
            (b'+', None) => decoded.push(b' '),
            (_, None) => decoded.push(byte),
        }
        at += 1;
    }
    out.push_str(&String::from_utf8_lossy(&decoded));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("https://u@example.com:8443/a/b.php?x=1#f", "example.com", "/a/b.php", "x=1")]
    #[case("example.com/", "example.com", "/", "")]
    #[case("/a?b?c", "", "/a", "b?c")]
    #[case("[2001:db8::1]:80/x", "2001:db8::1", "/x", "")]
    #[case("ad.aspx?f=1", "ad.aspx", "", "f=1")]
    #[case("", "", "", "")]
    fn parts(#[case] url: &str, #[case] domain: &str, #[case] path: &str, #[case] query: &str) {
        assert_eq!(split(url), UrlParts { domain, path, query });
    }

    #[rstest]
    #[case("a=%27+or%201", "a=' or 1")]
    #[case("%2527", "%27")]
    #[case("100%", "100%")]
    #[case("%zz%4", "%zz%4")]
    #[case("%ff", "\u{fffd}")]
    #[case("%+1", "% 1")]
    fn queries_are_decoded_once(#[case] query: &str, #[case] expected: &str) {
        let mut out = String::new();
        decode_query(query, &mut out);
        assert_eq!(out, expected);
    }

    #[test]
    fn extensions() {
        assert_eq!(extension("/a.b/c.tar.gz"), "gz");
        assert_eq!(extension("/a.b/c"), "");
    }
}
