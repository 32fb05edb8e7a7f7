//! What is told: an alert and what is to be done about it, in the shape that each kind of connector takes.
//!
//! In: an action with its alert. Out: JSON. Invariants: texts of the log are data: cut, without control characters, escaped where the other
//! side reads markup; the limits of the other side hold (PagerDuty's key of 255 characters, its summary of 1,024).

use serde_json::{Value, json};
use vedette_event::Severity;
use vedette_store::model::{ActionRow, AlertRow};

/// Characters of a text that people read.
const MAX_TEXT: usize = 700;
/// Of PagerDuty's summary.
const MAX_SUMMARY: usize = 1_000;
/// Of its key.
const MAX_KEY: usize = 255;

/// What is told.
pub(super) struct Told<'a> {
    pub action: &'a ActionRow,
    /// None where retention has taken it.
    pub alert: Option<&'a AlertRow>,
    /// The alert's page.
    pub link: Option<String>,
}

impl Told<'_> {
    pub(super) fn severity(&self) -> Severity {
        self.alert.map_or(self.action.severity, |alert| alert.severity)
    }

    /// One line: how severe, which rule, what happened.
    fn line(&self) -> String {
        let level = self.severity().name().to_uppercase();
        match self.alert {
            Some(alert) => plain(&format!("[{level}] {}: {}", alert.rule_title, alert.summary), MAX_TEXT),
            None => plain(&format!("[{level}] {} for {}", self.action.deed, self.action.alert_id), MAX_TEXT),
        }
    }

    /// For a program: everything, with the alert's body as it was published.
    pub(super) fn webhook(&self) -> Value {
        let body = self.alert.and_then(|alert| serde_json::from_str::<Value>(&alert.body).ok());
        json!({
            "type": "vedette.action",
            "action": self.action.id,
            "deed": self.action.deed,
            "playbook": self.action.playbook,
            "step": self.action.step,
            "alert_id": self.action.alert_id,
            "severity": self.severity(),
            "summary": self.alert.map(|alert| &alert.summary),
            "link": self.link,
            "alert": body,
        })
    }

    /// A message with blocks. <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>
    pub(super) fn slack(&self) -> Value {
        let line = markup(&self.line());
        let entity = self.alert.and_then(|alert| alert.entity.as_ref());
        let about = entity.map(|entity| markup(&plain(&format!("{} {}", entity.kind, entity.value), 200)));
        let mut context = vec![format!("playbook {}", markup(&self.action.playbook))];
        context.extend(about);
        let mut blocks = vec![
            json!({"type": "section", "text": {"type": "mrkdwn", "text": line}}),
            json!({"type": "context", "elements": [{"type": "mrkdwn", "text": context.join(" · ")}]}),
        ];
        if let Some(link) = &self.link {
            blocks.push(json!({"type": "actions", "elements": [
                {"type": "button", "text": {"type": "plain_text", "text": "Open the alert"}, "url": link}]}));
        }
        json!({"text": line, "blocks": blocks})
    }

    /// An event. <https://developer.pagerduty.com/docs/send-alert-event>
    pub(super) fn pagerduty(&self, routing_key: &str) -> Value {
        let severity = match self.severity() {
            Severity::Critical => "critical",
            Severity::High => "error",
            Severity::Medium => "warning",
            Severity::Low | Severity::Informational => "info",
        };
        let entity = self.alert.and_then(|alert| alert.entity.as_ref());
        let source = entity.map_or_else(|| "vedette".to_owned(), |entity| plain(&entity.value, 200));
        let links = self.link.iter().map(|link| json!({"href": link, "text": "The alert"}));
        json!({
            "routing_key": routing_key,
            "event_action": "trigger",
            "dedup_key": plain(&format!("vedette-{}", self.action.alert_id), MAX_KEY),
            "payload": {"summary": plain(&self.line(), MAX_SUMMARY), "source": source, "severity": severity},
            "links": links.collect::<Vec<_>>(),
        })
    }
}

/// A text as people may read it: without what steers a terminal or turns the direction of writing, and cut.
pub(super) fn plain(text: &str, most: usize) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    text.chars().map(|c| if steers(c) { ' ' } else { c }).take(most).collect()
}

/// As Slack takes it: these three are all that begins markup that mentions people or leads elsewhere.
fn markup(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_log_mention_nobody_and_steer_nothing() {
        assert_eq!(markup("<!channel> & <@U1>"), "&lt;!channel&gt; &amp; &lt;@U1&gt;");
        assert_eq!(plain("a\u{202e}b\u{1b}[31m\nc", 20), "a b [31m c");
        assert_eq!(plain(&"x".repeat(2_000), 1_000).len(), 1_000);
    }
}
