//! Single sign-on: at which provider, and who gets which role.
//!
//! In: `api.oidc`, `api.public_url` and a secret in a file or the environment. Out: what the API takes. Invariants: the secret is
//! no value of the file that holds the rest, and has no `Debug`; what can never work is refused with what would.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use anyhow::Result;
use serde::Deserialize;
use vedette_api::{
    OidcSettings,
    oidc::{ClientSecret, PublicAddress, RoleMapping, is_issuer},
};
use vedette_store::model::Role;

use super::{Config, For};

/// What overrides the file.
pub const VARIABLE: &str = "VEDETTE_OIDC_CLIENT_SECRET";

/// The provider.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcConfig {
    /// What people know it as; its host without it.
    #[serde(default)]
    pub name: Option<String>,
    /// Its issuer.
    pub issuer: String,
    /// What it knows this service as.
    pub client_id: String,
    /// File with the secret that it gave this service.
    #[serde(default)]
    pub client_secret_file: Option<PathBuf>,
    /// What to ask for beside `openid`.
    #[serde(default = "scopes")]
    pub scopes: Vec<String>,
    /// The claim that gives the role.
    #[serde(default = "claim")]
    pub role_claim: String,
    /// Roles by value of that claim.
    #[serde(default)]
    pub roles: BTreeMap<String, Role>,
    /// The role of who has none of these; refused without it.
    #[serde(default)]
    pub default_role: Option<Role>,
    /// PEM file of the authorities to trust with the provider's certificate.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The secret, where the environment gives it.
    #[serde(skip)]
    pub secret: Option<Secret>,
}

/// A secret, which `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

fn scopes() -> Vec<String> {
    vec!["profile".to_owned()]
}

fn claim() -> String {
    "groups".to_owned()
}

impl OidcConfig {
    fn secret(&self) -> Result<String, String> {
        let missing = || {
            format!(
                "is missing; write the client's secret to a file and name it here, or give it as {VARIABLE}"
            )
        };
        if let Some(Secret(secret)) = &self.secret {
            return if secret.is_empty() { Err("is empty".to_owned()) } else { Ok(secret.clone()) };
        }
        let path = self.client_secret_file.as_ref().ok_or_else(missing)?;
        super::secret::read(path)
    }
}

/// What the API takes of a checked configuration.
pub fn settings(config: &Config) -> Result<Option<OidcSettings>> {
    let Some(oidc) = &config.api.oidc else { return Ok(None) };
    let secret = oidc.secret().map_err(|what| config.places.wrong("api.oidc.client_secret_file", what))?;
    let host = oidc.issuer.split('/').nth(2).unwrap_or(&oidc.issuer);
    Ok(Some(OidcSettings {
        name: oidc.name.clone().unwrap_or_else(|| host.to_owned()),
        issuer: oidc.issuer.clone(),
        client_id: oidc.client_id.clone(),
        client_secret: ClientSecret::new(secret),
        public_url: config.api.public_url.clone().unwrap_or_default(),
        scopes: oidc.scopes.clone(),
        roles: RoleMapping {
            claim: oidc.role_claim.clone(),
            roles: oidc.roles.iter().map(|(value, role)| (value.clone(), *role)).collect(),
            otherwise: oidc.default_role,
        },
        ca_file: oidc.ca_file.clone(),
    }))
}

/// Checks the values.
pub fn check(config: &Config, purpose: For) -> Result<()> {
    if let Some(url) = &config.api.public_url {
        public_url(config, url).map_err(|what| config.places.wrong("api.public_url", what))?;
    }
    let Some(oidc) = &config.api.oidc else { return Ok(()) };
    let wrong = |key: &str, what: String| Err(config.places.wrong(&format!("api.oidc.{key}"), what));
    if !is_issuer(&oidc.issuer) {
        let what = format!(
            "`{}` is no issuer; write it as the provider's discovery document does, such as \
             https://id.example.com/realms/soc (http only for a provider on this machine)",
            oidc.issuer
        );
        return wrong("issuer", what);
    }
    for (key, value) in [("client_id", &oidc.client_id), ("role_claim", &oidc.role_claim)] {
        if value.is_empty() {
            return wrong(key, "is empty".to_owned());
        }
    }
    if let Some(scope) =
        oidc.scopes.iter().find(|scope| scope.is_empty() || scope.contains(char::is_whitespace))
    {
        return wrong("scopes", format!("`{scope}` is no scope; write a list such as [profile, groups]"));
    }
    if oidc.roles.is_empty() && oidc.default_role.is_none() {
        let what = format!(
            "gives nobody a role; write values of the claim `{}` with reader, analyst, engineer or admin, \
             such as {{soc-analysts: analyst}}",
            oidc.role_claim
        );
        return wrong("roles", what);
    }
    let roles = oidc.roles.iter().map(|(value, role)| (format!("roles.{value}"), *role));
    for (key, role) in roles.chain(oidc.default_role.map(|role| ("default_role".to_owned(), role))) {
        if role < Role::Reader {
            return wrong(&key, format!("{role} is for programs; write reader, analyst, engineer or admin"));
        }
    }
    if config.api.public_url.is_none() {
        let what = "is missing, and api.oidc needs it: the provider sends browsers back to it; write for example \
                    https://vedette.example.com";
        return Err(config.places.wrong("api.public_url", what));
    }
    if let Some(file) = oidc.ca_file.as_ref().filter(|file| !file.is_file()) {
        return wrong("ca_file", format!("there is no file `{}`", file.display()));
    }
    // Who works on the folder alone need not know it.
    match purpose {
        For::Service => settings(config).map(drop),
        For::Folder => Ok(()),
    }
}

fn public_url(config: &Config, url: &str) -> Result<(), String> {
    let Some(address) = PublicAddress::read(url) else {
        return Err(format!(
            "`{url}` is no address of a server; write scheme and host alone, such as https://vedette.example.com"
        ));
    };
    let api = &config.api;
    match (address.secure, api.tls.is_some() || api.proxy_tls) {
        (true, false) => {
            let what = "is https, but nothing does TLS here; give api.tls, or set api.proxy_tls if a proxy in front does";
            return Err(format!("`{url}` {what}"));
        }
        (false, true) => return Err(format!("`{url}` is not https, though there is TLS; write https://…")),
        (false, false) if !address.is_local() => {
            return Err(format!("`{url}` is not https, which only an address of this machine may be"));
        }
        _ => {}
    }
    let named = api.hosts.iter().any(|host| host.eq_ignore_ascii_case(&address.host));
    let any = api.hosts.is_empty() && !vedette_api::is_loopback(api.listen.ip());
    if named || any || address.is_local() {
        return Ok(());
    }
    Err(format!("requests for `{0}` would be refused; add {0} to api.hosts", address.host))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::read;

    const EXAMPLE: &str = include_str!("../../../../vedette.example.yml");
    const HEAD: &str = "kafka: {brokers: a:1, topics: [{name: t, source: json}]}\n";

    fn load(api: &str, purpose: For) -> Result<Config> {
        let secret = |name: &str| (name == VARIABLE).then(|| "hunter2".to_owned());
        read("v.yml", &format!("{HEAD}api:\n{api}"), purpose, secret)
    }

    fn message(api: &str) -> String {
        load(api, For::Service).map_err(|e| e.to_string()).err().unwrap_or_default()
    }

    /// With this instead of a key's usual value.
    fn oidc(key: &str, value: &str) -> String {
        let mut keys = vec![
            ("issuer", "https://id.example/realms/soc"),
            ("client_id", "vedette"),
            ("roles", "{soc: analyst}"),
        ];
        keys.retain(|(name, _)| *name != key);
        keys.push((key, value));
        let keys: Vec<_> = keys.iter().map(|(name, value)| format!("    {name}: {value}\n")).collect();
        format!("  public_url: http://127.0.0.1:8080\n  oidc:\n{}", keys.concat())
    }

    #[test]
    fn the_examples_comment_is_a_configuration() {
        let lines = EXAMPLE.lines().skip_while(|line| !line.starts_with("  # oidc:"));
        let part = |line: &&str| line.starts_with("  # oidc:") || line.starts_with("  #   ");
        let lines = lines.take_while(part).filter_map(|line| line.strip_prefix("  # "));
        let text: String = lines.map(|line| format!("  {line}\n")).collect();
        let text = format!(
            "  public_url: https://vedette.example.com\n  proxy_tls: true\n  hosts: [vedette.example.com]\n{text}"
        );
        let config = load(&text, For::Folder).unwrap();
        let oidc = config.api.oidc.unwrap();
        assert_eq!((oidc.scopes, oidc.role_claim), (scopes(), claim()), "they are the defaults");
        assert_eq!(oidc.roles.get("soc-analysts"), Some(&Role::Analyst));
    }

    #[test]
    fn what_can_never_work_is_refused_with_what_would() {
        assert_eq!(message(&oidc("name", "Keycloak")), "");
        for (key, value, says) in [
            ("issuer", "id.example", "v.yml:7:13: api.oidc.issuer: `id.example` is no issuer; write it as"),
            ("issuer", "http://id.example", "v.yml:7:13: api.oidc.issuer: "),
            ("client_id", "''", "v.yml:7:16: api.oidc.client_id: is empty"),
            ("role_claim", "''", "v.yml:8:17: api.oidc.role_claim: is empty"),
            ("scopes", "[a b]", "v.yml:8:13: api.oidc.scopes: `a b` is no scope"),
            (
                "roles",
                "{}",
                "v.yml:7:12: api.oidc.roles: gives nobody a role; write values of the claim `groups`",
            ),
            ("roles", "{x: metrics}", "v.yml:7:16: api.oidc.roles.x: metrics is for programs; write reader"),
            ("roles", "{x: boss}", "v.yml:7:16: api.oidc.roles.x: unknown variant `boss`, expected"),
            ("default_role", "metrics", "v.yml:8:19: api.oidc.default_role: metrics is for programs"),
            ("ca_file", "/no/such.pem", "v.yml:8:14: api.oidc.ca_file: there is no file `/no/such.pem`"),
            ("client_secret", "x", "v.yml:8:5: unknown field `client_secret`, expected"),
        ] {
            let said = message(&oidc(key, value));
            assert!(said.starts_with(says), "{said}");
        }
        assert_eq!(
            message(&oidc("default_role", "reader").replace("roles: {soc: analyst}", "roles: {}")),
            ""
        );
        let unnamed = oidc("name", "x").replace("  public_url: http://127.0.0.1:8080\n", "");
        assert!(message(&unnamed).contains("api.public_url: is missing, and api.oidc needs it"));
    }

    #[test]
    fn the_secret_is_in_a_file_or_the_environment_and_never_shown() {
        let config = load(&oidc("name", "x"), For::Service).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        let taken = settings(&config).unwrap().unwrap();
        assert!(!format!("{taken:?}").contains("hunter2") && taken.client_secret.secret() == "hunter2");
        let text = |file: &str| format!("{HEAD}api:\n{}", oidc("client_secret_file", file));
        let load = |text: &str, purpose| read("v.yml", text, purpose, |_| None);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let text = text(path.to_str().unwrap());
        let said = || load(&text, For::Service).unwrap_err().to_string();
        assert!(said().starts_with("v.yml:8:25: api.oidc.client_secret_file: `"), "{}", said());
        assert!(said().contains("cannot be read: No such file"), "{}", said());
        assert!(load(&text, For::Folder).is_ok());
        std::fs::write(&path, "\n").unwrap();
        assert!(said().ends_with("is empty"), "{}", said());
        std::fs::write(&path, "swordfish\n").unwrap();
        let config = load(&text, For::Service).unwrap();
        assert_eq!(settings(&config).unwrap().unwrap().client_secret.secret(), "swordfish");
        std::fs::write(&path, "x".repeat(5_000)).unwrap();
        assert!(said().ends_with("too long for a secret"), "{}", said());
        let none = format!("{HEAD}api:\n{}", oidc("name", "x"));
        let said = load(&none, For::Service).unwrap_err().to_string();
        assert!(
            said.contains("client_secret_file: is missing; write the client's secret to a file"),
            "{said}"
        );
        let alone =
            read("v.yml", HEAD, For::Service, |name| (name == VARIABLE).then(|| "hunter2".to_owned()));
        assert_eq!(
            alone.unwrap_err().to_string(),
            "VEDETTE_OIDC_CLIENT_SECRET: has no meaning without api.oidc"
        );
    }

    #[test]
    fn the_public_address_is_one_that_is_answered_to() {
        let with = |url: &str, rest: &str| {
            let text = format!("{HEAD}api:\n  public_url: {url}\n{rest}");
            read("v.yml", &text, For::Service, |_| None).map_err(|e| e.to_string()).err().unwrap_or_default()
        };
        let proxied = "  proxy_tls: true\n";
        for (url, rest) in [
            ("http://127.0.0.1:8080", ""),
            ("http://localhost", ""),
            ("https://soc.example", "  proxy_tls: true\n  hosts: [SOC.example]\n"),
            ("https://soc.example", "  proxy_tls: true\n  listen: 0.0.0.0:8080\n"),
            ("https://localhost:8443", proxied),
        ] {
            assert_eq!(with(url, rest), "", "{url}");
        }
        for (url, rest, says) in [
            (
                "https://soc.example/console",
                proxied,
                "is no address of a server; write scheme and host alone",
            ),
            ("https://soc.example", "", "is https, but nothing does TLS here; give api.tls"),
            ("http://localhost", proxied, "is not https, though there is TLS"),
            ("http://soc.example", "", "is not https, which only an address of this machine may be"),
            (
                "https://soc.example",
                proxied,
                "requests for `soc.example` would be refused; add soc.example to api.hosts",
            ),
        ] {
            let said = with(url, rest);
            assert!(said.starts_with("v.yml:3:15: api.public_url: ") && said.contains(says), "{said}");
        }
    }
}
