//! A letter: what is told, as people read it in their mail.
//!
//! In: an action with its alert, who writes to whom. Out: a message as it goes over the wire. Invariants: whatever the log says, a header is one
//! line and the text is text: nothing of it begins another header or another part; all letters about one alert, and about the notices that
//! it covers, are of one thread, also where one was never sent; the same letter sent again bears the same `Message-ID`.

use std::fmt::Write as _;

use lettre::{
    Message,
    message::{
        Mailbox,
        header::{ContentType, HeaderName, HeaderValue, MIME_VERSION_1_0},
    },
};
use vedette_event::Micros;

use super::message::{Told, plain};

/// Characters of a subject.
const MAX_SUBJECT: usize = 200;
/// Of one line of the text.
const MAX_LINE: usize = 1_000;
/// Of the entity in a subject.
const MAX_ENTITY: usize = 80;
/// Letters that one names as those before it.
const MAX_REFERENCES: usize = 8;

impl Told<'_> {
    /// The letter, or why there is none; the first of its alert's, or a later one.
    pub(super) fn letter(
        &self,
        (from, to): (&Mailbox, &[Mailbox]),
        first: bool,
        now: Micros,
    ) -> Result<Vec<u8>, String> {
        let domain = from.email.domain();
        let root = |alert: &str| format!("<vedette-{}@{domain}>", named(alert));
        let alert_id = &self.action.alert_id;
        let id = match first {
            true => root(alert_id),
            false => format!("<vedette-{}-{}@{domain}>", named(alert_id), self.action.id),
        };
        // Those of the notices come first, as they did.
        let (covers, own) = self.alert.map_or((&[][..], alert_id), |alert| (&alert.covers, &alert.id));
        let mut before: Vec<String> = Vec::new();
        for root in covers.iter().chain([own, alert_id]).map(|alert| root(alert)) {
            if root != id && !before.contains(&root) && before.len() < MAX_REFERENCES {
                before.push(root);
            }
        }
        let mut letter = Message::builder()
            .from(from.clone())
            .subject(self.subject())
            .date(std::time::UNIX_EPOCH + std::time::Duration::from_micros(now.0.max(0).unsigned_abs()))
            .message_id(Some(id))
            // No machine answers it. <https://www.rfc-editor.org/rfc/rfc3834>
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ))
            .header(MIME_VERSION_1_0)
            .header(ContentType::TEXT_PLAIN);
        for mailbox in to {
            letter = letter.to(mailbox.clone());
        }
        if let Some(last) = before.last() {
            letter = letter.in_reply_to(last.clone()).references(before.join(" "));
        }
        let letter =
            letter.body(self.text()).map_err(|error| format!("no letter can be written: {error}"))?;
        Ok(letter.formatted())
    }

    /// How severe, which rule, whom it is about.
    fn subject(&self) -> String {
        let level = self.severity().name().to_uppercase();
        let Some(alert) = self.alert else {
            return plain(
                &format!("[{level}] {} for {}", self.action.deed, self.action.alert_id),
                MAX_SUBJECT,
            );
        };
        // These begin what mail programs decode: whatever it hides would come out of it.
        let shown = |text: &str, most| plain(&text.replace("=?", "= ?"), most);
        let entity = alert.entity.as_ref().map_or_else(String::new, |entity| {
            format!(": {} {}", entity.kind, shown(&entity.value, MAX_ENTITY))
        });
        // The entity is what two alerts differ by: a long title gives way to it.
        let room = MAX_SUBJECT.saturating_sub(level.len() + 3 + entity.chars().count());
        plain(&format!("[{level}] {}{entity}", shown(&alert.rule_title, room)), MAX_SUBJECT)
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            // A text in memory takes all that is written.
            let _ = writeln!(text, "{name:<12}{}", plain(value, MAX_LINE));
        };
        if let Some(alert) = self.alert {
            line("", &alert.summary);
            line("", "");
            line("Severity", self.severity().name());
            line("Rule", &alert.rule_title);
            if let Some(entity) = &alert.entity {
                line(&entity.kind, &entity.value);
            }
            line("Crossed at", &alert.crossed_at.to_string());
            line("Last seen", &alert.last_seen.to_string());
            line("Events", &alert.count.to_string());
            if !alert.techniques.is_empty() {
                line("ATT&CK", &alert.techniques.join(", "));
            }
            line("State", alert.state.name());
        } else {
            line("Severity", self.severity().name());
            line("", "The alert is not stored any more.");
        }
        line("Playbook", &format!("{}, {} ({})", self.action.playbook, self.action.step, self.action.deed));
        line("Alert", &self.action.alert_id);
        if let Some(link) = &self.link {
            line("", "");
            line("", link);
        }
        text
    }
}

/// An alert's name within an identifier: whatever it is called, letters and digits.
fn named(alert: &str) -> String {
    blake3::hash(alert.as_bytes()).to_hex().chars().take(32).collect()
}
