//! Messages for people: a rejection or a warning with its line of the file and a caret.
//!
//! In: a [`Rejection`] and the text of its file. Out: text without a final newline, plain or with ANSI colours. Pure; control
//! characters of the file are not passed on.

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use crate::Rejection;

/// Longest line that is shown.
const MAX_LINE: usize = 2000;

/// How a message is to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// A warning, not an error.
    pub warning: bool,
    /// With ANSI colours.
    pub color: bool,
}

/// Writes a message about a file whose content is `text`.
#[must_use]
pub fn render(rejection: &Rejection, text: &str, style: Style) -> String {
    render_at(rejection, lines(text).nth(rejection.line.saturating_sub(1)), style)
}

/// The lines of a file as places in it count them.
pub fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.strip_prefix('\u{feff}').unwrap_or(text).lines()
}

/// Writes a message, given the line of the file that it is about: who has many to write looks the lines up himself.
#[must_use]
pub fn render_at(rejection: &Rejection, line: Option<&str>, style: Style) -> String {
    let level = if style.warning { Level::WARNING } else { Level::ERROR };
    let message = printable(&rejection.message);
    let help = rejection.help.as_deref().map(printable);
    let file = printable(&rejection.file);
    let title = level.primary_title(&message).id(rejection.code);
    let mut group = match line.filter(|line| line.len() <= MAX_LINE) {
        Some(line) => {
            let line = printable(line);
            let span = token(&line, rejection.column.saturating_sub(1));
            let caret = AnnotationKind::Primary.span(span);
            title.element(Snippet::source(line).line_start(rejection.line).path(file).annotation(caret))
        }
        None => {
            let origin = Origin::path(file).line(rejection.line).char_column(rejection.column);
            Group::with_title(title).element(origin)
        }
    };
    if let Some(help) = &help {
        group = group.element(Level::HELP.message(help));
    }
    let renderer = if style.color { Renderer::styled() } else { Renderer::plain() };
    renderer.render(&[group])
}

/// The text with control characters (but for tabs) and marks for the direction of writing replaced: behind such a mark a rule reads
/// otherwise than it means.
fn printable(text: &str) -> String {
    let moves = |c: char| {
        c.is_control() && c != '\t'
            || matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if moves(c) { '\u{fffd}' } else { c }).collect()
}

/// The bytes of the token that starts at a column: a quoted text, or what is there up to a blank, a colon, a bar or a bracket.
fn token(line: &str, column: usize) -> std::ops::Range<usize> {
    let start = line.char_indices().nth(column).map_or(line.len(), |(at, _)| at);
    let rest = line.get(start..).unwrap_or("");
    let length = match rest.chars().next() {
        None => 0,
        Some(quote @ ('\'' | '"')) => {
            rest.get(1..).and_then(|tail| tail.find(quote)).map_or(rest.len(), |at| at + 2)
        }
        Some(first) => {
            let tail = rest.get(first.len_utf8()..).unwrap_or("");
            let stop = |c: char| c.is_whitespace() || matches!(c, ':' | '|' | ',' | ')' | ']' | '}');
            first.len_utf8() + tail.find(stop).unwrap_or(tail.len())
        }
    };
    start..start + length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_end_where_a_reader_sees_them_end() {
        let line = "    field|contain: 'a b' # é";
        assert_eq!(&line[token(line, 10)], "contain");
        assert_eq!(&line[token(line, 19)], "'a b'");
        assert_eq!(&line[token(line, 27)], "é");
        assert_eq!(token(line, 99), line.len()..line.len());
    }

    #[test]
    fn hostile_text_cannot_steer_a_terminal() {
        let rejection = Rejection {
            file: "a\u{1b}[2J.yml".into(),
            line: 1,
            column: 1,
            rule_id: None,
            code: "test",
            message: "odd \u{1b}[31m \u{202e}".to_owned(),
            help: Some("none \u{7}".to_owned()),
        };
        let shown = render(&rejection, "\u{1b}]0;x\u{7}: 1\n", Style::default());
        assert!(shown.chars().all(|c| c == '\n' || !(c.is_control() || c == '\u{202e}')), "{shown:?}");
    }
}
