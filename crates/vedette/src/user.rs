//! `vedette user`: the people who may sign in.
//!
//! In: a name, and a password typed on the terminal or given on standard input. Out: a user in the store. Invariant: no
//! password and no secret is ever an argument, which everybody on the machine could read.

use std::io::{self, IsTerminal as _, Write as _};

use vedette_api::auth;
use vedette_event::Micros;
use vedette_store::{
    Access, Store,
    model::{Proof, Role, Totp, User},
};

use crate::{
    Failure, World as _,
    folder::{Folder, with_store},
    table,
    token::{name, refused},
};

/// Who does it, in the audit log.
const ACTOR: &str = "command line";

/// What `user` is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  vedette user add --name ann --role admin        asks for a password
  vedette user add --name bob --role analyst < password.txt
  vedette user role --name bob --role engineer
  vedette user password --name bob                a new one; signs bob out everywhere
  vedette user totp --name bob                    codes of an authenticator from now on
  vedette user disable --name bob                 signs out and keeps out
  vedette user list

A running service takes note of each change within a second.")]
pub struct Args {
    #[command(flatten)]
    folder: Folder,
    #[command(subcommand)]
    action: Action,
}

/// Whom it is about.
#[derive(Debug, clap::Args)]
struct Whom {
    /// The name; small and large letters are the same.
    #[arg(long, value_parser = name)]
    name: String,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Add a user; the password is asked for, or read from standard input.
    #[command(after_help = "Example:\n  vedette user add --name ann --role admin")]
    Add {
        #[command(flatten)]
        whom: Whom,
        /// What they may do: `reader` sees, `analyst` also triages and sees raw records, `engineer` also reloads rules and sees the records of dead letters, `admin` also manages people.
        #[arg(long, value_parser = role)]
        role: Role,
    },
    /// List all users: names, roles and times.
    #[command(after_help = "Example:\n  vedette user list -c /etc/vedette/vedette.yml")]
    List,
    /// Keep a user out: their sessions end within a second, and the name stays theirs.
    #[command(after_help = "Example:\n  vedette user disable --name bob")]
    Disable(Whom),
    /// Let a disabled user in again.
    #[command(after_help = "Example:\n  vedette user enable --name bob")]
    Enable(Whom),
    /// Give a user another role; it counts within a second, also where they are signed in.
    #[command(after_help = "Example:\n  vedette user role --name bob --role engineer")]
    Role {
        #[command(flatten)]
        whom: Whom,
        /// The new role.
        #[arg(long, value_parser = role)]
        role: Role,
    },
    /// Give a user a new password, which is asked for or read from standard input; their sessions end.
    #[command(after_help = "Example:\n  vedette user password --name bob")]
    Password(Whom),
    /// Have a user sign in with codes of an authenticator, too: prints the secret for it, once.
    #[command(
        after_help = "Examples:\n  vedette user totp --name bob\n  vedette user totp --name bob --remove"
    )]
    Totp {
        #[command(flatten)]
        whom: Whom,
        /// Ask for no codes any more, for instance where the authenticator was lost.
        #[arg(long)]
        remove: bool,
    },
}

fn role(text: &str) -> Result<Role, String> {
    Role::parse(text)
        .filter(|role| *role >= Role::Reader)
        .ok_or_else(|| "write reader, analyst, engineer or admin".to_owned())
}

/// Runs the command.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let config = args.folder.config()?;
    // Nobody is asked for a password for a name that is not to be had.
    if let Action::Add { whom, .. } = &args.action {
        with_store(&config, Access::Tool, async |store| {
            store.name_is_free(&whom.name).await.map_err(refused)
        })?;
    }
    // While the store is closed, so that it is not held while somebody thinks of one.
    let password = match &args.action {
        Action::Add { whom, .. } | Action::Password(whom) => Some(password(&whom.name)?),
        _ => None,
    };
    with_store(&config, Access::Tool, async |store| act(store, &args.action, password).await)
}

async fn act(store: &Store, action: &Action, password: Option<String>) -> Result<(), Failure> {
    let hash = |password: Option<String>| auth::hash_password(&password.unwrap_or_default()).world();
    match action {
        Action::Add { whom, role } => {
            let proof = Proof::Password { hash: hash(password)?, totp: None };
            store.add_user(&whom.name, *role, &proof, ACTOR).await.map_err(refused)?;
            say!("{} may sign in as {role}", whom.name.to_lowercase());
        }
        Action::List => print(&store.users().await.world()?)?,
        Action::Disable(whom) => {
            let changed = store.set_user_disabled(&whom.name, true, ACTOR).await.map_err(refused)?;
            say!("{} is {}kept out", whom.name, if changed { "" } else { "already " });
        }
        Action::Enable(whom) => {
            let changed = store.set_user_disabled(&whom.name, false, ACTOR).await.map_err(refused)?;
            say!("{} may {}sign in", whom.name, if changed { "" } else { "already " });
        }
        Action::Role { whom, role } => {
            let changed = store.set_user_role(&whom.name, *role, ACTOR).await.map_err(refused)?;
            say!("{} is {}{role}", whom.name, if changed { "" } else { "already " });
        }
        Action::Password(whom) => {
            store.set_password(&whom.name, &hash(password)?, ACTOR).await.map_err(refused)?;
            say!("{} has a new password and is signed out everywhere", whom.name);
        }
        Action::Totp { whom, remove: true } => {
            store.set_totp(&whom.name, None, ACTOR).await.map_err(refused)?;
            say!("{} signs in without a code", whom.name);
        }
        Action::Totp { whom, remove: false } => {
            let secret = auth::create_authenticator().world()?;
            let totp = Totp { secret: secret.clone(), step: 0 };
            store.set_totp(&whom.name, Some(&totp), ACTOR).await.map_err(refused)?;
            let link = auth::authenticator_link(&whom.name.to_lowercase(), &secret);
            let shown = writeln!(io::stdout(), "{}\n{link}", auth::written_authenticator(&secret));
            if let Err(e) = shown {
                // Nobody has seen it, and nobody could sign in.
                store.set_totp(&whom.name, None, ACTOR).await.map_err(refused)?;
                return Err(e).world();
            }
        }
    }
    Ok(())
}

fn print(users: &[User]) -> Result<(), Failure> {
    let time = |time: Option<Micros>| time.map_or("-".to_owned(), |time| time.to_string());
    let row = |user: &User| {
        let proof = match &user.proof {
            Proof::Password { totp: None, .. } => "password",
            Proof::Password { totp: Some(_), .. } => "password and code",
            Proof::Provider(_) => "single sign-on",
        };
        let (made, entered) = (user.created_at.to_string(), time(user.last_signed_in_at));
        vec![
            user.name.clone(),
            user.role.to_string(),
            proof.to_owned(),
            made,
            entered,
            time(user.disabled_at),
        ]
    };
    let rows: Vec<Vec<String>> = users.iter().map(row).collect();
    let heads = ["Name", "Role", "Signs in with", "Added", "Last signed in", "Disabled"];
    writeln!(io::stdout(), "{}", table::of(&heads, &rows)).world()
}

/// A new password: typed twice without being shown, or the first line of standard input.
fn password(name: &str) -> Result<String, Failure> {
    let usage = |what: String| Failure::Usage(anyhow::anyhow!(what));
    let password = if io::stdin().is_terminal() {
        let terminal = console::Term::stderr();
        let ask = |question: &str| -> Result<String, Failure> {
            terminal.write_str(question).world()?;
            terminal.read_secure_line().world()
        };
        let password = ask(&format!("Password for {name} (12 characters at least): "))?;
        if password != ask("The same again: ")? {
            return Err(usage("the two are not the same; nothing was changed".to_owned()));
        }
        password
    } else {
        let mut line = String::new();
        io::stdin().read_line(&mut line).world()?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    };
    auth::acceptable_password(name, &password).map_err(usage)?;
    Ok(password)
}
