//! What a provider says of a person, as this service takes it: a role, and a name.
//!
//! In: the claims of a token, as JSON. Out: the highest role that the configured claim gives, or what it had to be; a name
//! that is valid here. Invariants: no claim is a reason to take somebody for somebody else, names least of all; what comes
//! of a claim is cut before it is shown.

use serde_json::Value;
use vedette_store::model::Role;

/// Values shown of a claim, and characters of each.
const SHOWN: (usize, usize) = (6, 30);
/// Characters of a name; four more are left for a number.
const MAX_NAME: usize = 60;

/// Which values of which claim give which role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleMapping {
    /// The claim's name; `a.b` is `b` inside `a` where no claim is called so.
    pub claim: String,
    /// Roles by value.
    pub roles: Vec<(String, Role)>,
    /// The role of who has none of these; refused without it.
    pub otherwise: Option<Role>,
}

impl RoleMapping {
    /// The highest role that the claims give.
    pub(crate) fn role(&self, claims: &Value) -> Option<Role> {
        let held = self.held(claims);
        let given = self.roles.iter().filter(|(value, _)| held.contains(&value.as_str()));
        given.map(|(_, role)| *role).max().or(self.otherwise)
    }

    /// True if the claim is there at all.
    pub(crate) fn is_in(&self, claims: &Value) -> bool {
        self.claim(claims).is_some()
    }

    /// What the claim had to hold, and what it holds.
    pub(crate) fn missing(&self, claims: &Value) -> String {
        let wanted = listed(self.roles.iter().map(|(value, _)| value.as_str()));
        let held = self.held(claims);
        let held = match self.claim(claims) {
            None => "it is missing".to_owned(),
            Some(_) if held.is_empty() => "it is empty".to_owned(),
            Some(_) => format!("it holds {}", listed(held.into_iter())),
        };
        format!("the claim `{}` has to hold one of {wanted}, and {held}", self.claim)
    }

    fn claim<'a>(&self, claims: &'a Value) -> Option<&'a Value> {
        let there = |value: &&Value| !value.is_null();
        claims
            .get(&self.claim)
            .filter(there)
            .or_else(|| self.claim.split('.').try_fold(claims, |inside, name| inside.get(name)).filter(there))
    }

    /// The texts in the claim: it is one, or a list of them.
    fn held<'a>(&self, claims: &'a Value) -> Vec<&'a str> {
        match self.claim(claims) {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }
}

fn listed<'a>(values: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = values.len().saturating_sub(SHOWN.0);
    let shown = values.take(SHOWN.0).map(|value| {
        let plain: String = value.chars().filter(|c| !c.is_control()).take(SHOWN.1).collect();
        format!("`{plain}`")
    });
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// What to call somebody who comes for the first time: what they sign in with there, as far as names here may be written so.
pub(crate) fn name(claims: &Value) -> String {
    let said = ["preferred_username", "email", "sub"].iter().filter_map(|claim| claims.get(claim)?.as_str());
    let plain = |c: char| if c.is_alphanumeric() || "-_.@".contains(c) { c } else { '-' };
    let names =
        said.map(|name| name.trim().to_lowercase().chars().map(plain).take(MAX_NAME).collect::<String>());
    let mut names = names.filter(|name: &String| name.chars().any(char::is_alphanumeric));
    names.next().unwrap_or_else(|| "somebody".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mapping(claim: &str, otherwise: Option<Role>) -> RoleMapping {
        let roles = [("soc", Role::Analyst), ("detection", Role::Engineer), ("everybody", Role::Reader)];
        let roles = roles.map(|(value, role)| (value.to_owned(), role)).to_vec();
        RoleMapping { claim: claim.to_owned(), roles, otherwise }
    }

    #[test]
    fn the_highest_role_counts() {
        let groups = mapping("groups", None);
        for (claim, role) in [
            (json!("soc"), Some(Role::Analyst)),
            (json!(["everybody", "detection", "soc"]), Some(Role::Engineer)),
            (json!(["everybody"]), Some(Role::Reader)),
            (json!(["x", 5, null, ["soc"], {"soc": "soc"}]), None),
            (json!(["SOC", "soc ", "so", ""]), None),
            (json!("everybody,soc"), None),
            (json!([]), None),
            (json!({"soc": true}), None),
            (json!(true), None),
            (json!(null), None),
        ] {
            let claims = json!({"sub": "1", "groups": claim});
            assert_eq!(groups.role(&claims), role, "{claims}");
            assert_eq!(mapping("groups", Some(Role::Reader)).role(&claims), role.or(Some(Role::Reader)));
        }
        assert_eq!(groups.role(&json!({"roles": "soc"})), None);
    }

    #[test]
    fn a_claim_may_be_inside_another_or_have_dots() {
        let keycloak = mapping("realm_access.roles", None);
        let inside = json!({"realm_access": {"roles": ["soc"]}});
        assert_eq!(keycloak.role(&inside), Some(Role::Analyst));
        assert!(keycloak.is_in(&inside) && !keycloak.is_in(&json!({"realm_access": []})));
        let both = json!({"realm_access.roles": "detection", "realm_access": {"roles": "soc"}});
        assert_eq!(keycloak.role(&both), Some(Role::Engineer));
        let url = mapping("https://soc.example/roles", None);
        assert_eq!(url.role(&json!({"https://soc.example/roles": ["soc"]})), Some(Role::Analyst));
    }

    #[test]
    fn who_gets_no_role_is_told_what_the_claim_had_to_be() {
        let groups = mapping("groups", None);
        let wanted = "the claim `groups` has to hold one of `soc`, `detection`, `everybody`";
        assert_eq!(groups.missing(&json!({})), format!("{wanted}, and it is missing"));
        assert_eq!(groups.missing(&json!({"groups": []})), format!("{wanted}, and it is empty"));
        assert_eq!(
            groups.missing(&json!({"groups": ["a", "b\n"]})),
            format!("{wanted}, and it holds `a`, `b`")
        );
        let many: Vec<_> = (0..1_000).map(|_| "x".repeat(1_000)).collect();
        let said = groups.missing(&json!({"groups": many}));
        assert!(said.ends_with(" and 994 more") && said.len() < 400, "{said}");
    }

    #[test]
    fn a_name_is_one_that_is_valid_here() {
        for (claims, expected) in [
            (json!({"preferred_username": "Ann", "email": "x@y", "sub": "1"}), "ann"),
            (json!({"preferred_username": " ", "email": "Ann@Example.com", "sub": "1"}), "ann@example.com"),
            (json!({"preferred_username": "CORP\\ann smith<b>"}), "corp-ann-smith-b-"),
            (json!({"preferred_username": 5, "sub": "a|1"}), "a-1"),
            (json!({"sub": "-"}), "somebody"),
            (json!({}), "somebody"),
        ] {
            assert_eq!(name(&claims), expected, "{claims}");
        }
        assert_eq!(name(&json!({"sub": "İ".repeat(500)})).chars().count(), MAX_NAME);
    }
}
