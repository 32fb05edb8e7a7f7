//! `vedette token`: who may use the API.

use std::io::{self, Write as _};

use vedette_store::{Access, model::Role};

use crate::{
    Failure, World as _,
    folder::{Folder, with_store},
    table,
};

/// What `token` is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  TOKEN=$(vedette token create --name siem-bridge --role analyst)
  curl -H \"Authorization: Bearer $TOKEN\" http://127.0.0.1:8080/api/v1/alerts
  vedette token create --name prometheus --role metrics
  vedette token create --name edge-firewall --role bouncer
  vedette token list
  vedette token revoke --name siem-bridge

A token is printed once; only its hash is kept. A running service takes note of new and
revoked tokens within a second.")]
pub struct Args {
    #[command(flatten)]
    folder: Folder,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a token and print it.
    #[command(after_help = "Example:\n  vedette token create --name siem-bridge --role analyst")]
    Create {
        /// A name, by which it can be revoked.
        #[arg(long, value_parser = name)]
        name: String,
        /// What it allows: `metrics` reads /metrics and nothing else, `bouncer` fetches what is to be enforced and nothing else, `reader` reads, `analyst` also triages and sees raw records, `engineer` also reloads rules and sees the records of dead letters, `admin` also manages people.
        #[arg(long, value_parser = role)]
        role: Role,
    },
    /// List all tokens: names, roles and times, never the tokens.
    #[command(after_help = "Example:\n  vedette token list -c /etc/vedette/vedette.yml")]
    List,
    /// Revoke a token; it stops working within a second, and its event streams end.
    #[command(after_help = "Example:\n  vedette token revoke --name siem-bridge")]
    Revoke {
        /// Its name.
        #[arg(long)]
        name: String,
    },
}

/// A name as audits and lists show it.
pub fn name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    let fits = (1..=64).contains(&text.chars().count()) && text.chars().all(plain);
    fits.then(|| text.to_owned()).ok_or_else(|| "write 1 to 64 letters, digits and - _ . @".to_owned())
}

/// What the caller can mend is wrong use; all else is the world's.
pub fn refused(error: vedette_store::Error) -> Failure {
    use vedette_store::Error;
    match error {
        Error::TokenExists { .. }
        | Error::UserExists { .. }
        | Error::SystemsName { .. }
        | Error::TooManyUsers { .. }
        | Error::NotLocal { .. }
        | Error::NotFound { .. } => Failure::Usage(error.into()),
        error => Failure::World(error.into()),
    }
}

fn role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| "write metrics, bouncer, reader, analyst, engineer or admin".to_owned())
}

/// Runs the command.
pub fn run(args: &Args) -> Result<u8, Failure> {
    with_store(&args.folder.config()?, Access::Tool, async |store| {
        match &args.action {
            Action::Create { name, role } => {
                let token = vedette_api::auth::create_token().world()?;
                store.create_token(name, *role, token.hash, "command line").await.map_err(refused)?;
                if let Err(e) = writeln!(io::stdout(), "{}", token.text) {
                    // Nobody has seen it, so nobody shall be let in by it.
                    store.revoke_token(name, "command line").await.map_err(refused)?;
                    return Err(e).world();
                }
            }
            Action::Revoke { name } => store.revoke_token(name, "command line").await.map_err(refused)?,
            Action::List => {
                let rows: Vec<Vec<String>> = store
                    .tokens()
                    .await
                    .world()?
                    .iter()
                    .map(|t| {
                        let time =
                            |t: Option<vedette_event::Micros>| t.map_or("-".to_owned(), |t| t.to_string());
                        let (made, used, revoked) =
                            (t.created_at.to_string(), time(t.last_used_at), time(t.revoked_at));
                        vec![t.name.clone(), t.role.to_string(), made, used, revoked]
                    })
                    .collect();
                let heads = ["Name", "Role", "Created", "Last used", "Revoked"];
                writeln!(io::stdout(), "{}", table::of(&heads, &rows)).world()?;
            }
        }
        Ok(())
    })
}
