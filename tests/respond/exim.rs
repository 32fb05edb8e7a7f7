//! A real mail server for tests: Exim as Debian ships it, which delivers into a folder of the test's own.
//!
//! In: `VEDETTE_MAIL`, as `.ci/mail/fetch` leaves it. Out: an [`Exim`] with a port for STARTTLS and one for TLS from the first byte on, on loopback
//! only, and what it delivered. Invariants: it is started for each connection, as inetd would, so that nothing outlives a connection; it takes
//! letters of the user `soc` alone, and shows the password's question within TLS only; nothing outside the folder is read or written.

use std::{
    env, fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::{
        fd::OwnedFd,
        unix::fs::{PermissionsExt as _, chown},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{certificate::self_signed, skipped};

/// The password of `soc`.
pub const PASSWORD: &str = "correct horse";

/// As whom it delivers where it was started by root, which delivers as root never.
const NOBODY: u32 = 65_534;

/// A mail server.
pub struct Exim {
    folder: tempfile::TempDir,
    /// Of SMTP with STARTTLS.
    pub port: u16,
    /// Of SMTP within TLS.
    pub tls_port: u16,
}

impl Exim {
    /// One that has no letters yet; `None` where there is none.
    pub fn start() -> Result<Option<Self>> {
        let Some(lib) = env::var_os("VEDETTE_MAIL").map(PathBuf::from) else {
            skipped::say("respond mail", "VEDETTE_MAIL is not set; .ci/mail/fetch fetches it");
            return Ok(None);
        };
        let folder = tempfile::Builder::new().prefix("vedette-mail-").tempdir()?;
        let at = folder.path();
        let root = rustix::process::geteuid().is_root();
        let user = if root { NOBODY } else { rustix::process::geteuid().as_raw() };
        // It starts itself again as another, who may not come by where it was fetched to.
        fs::copy(lib.join("usr/sbin/exim4"), at.join("exim4"))?;
        fs::copy(wrapper(&lib)?, at.join("wrapper.so"))?;
        fs::write(
            at.join("passwd"),
            format!("root:x:0:0::/:/bin/false\nDebian-exim:x:{user}:{user}::/:/bin/false\n"),
        )?;
        fs::write(at.join("group"), format!("root:x:0:\nDebian-exim:x:{user}:\n"))?;
        fs::write(at.join("exim.conf"), config(at, user))?;
        fs::create_dir(at.join("spool"))?;
        self_signed(at, "localhost", "DNS:localhost")?;
        if root {
            fs::set_permissions(at, fs::Permissions::from_mode(0o755))?;
            for owned in ["spool", "key.pem"] {
                chown(at.join(owned), Some(user), Some(user))?;
            }
        }
        let port = listen(at, &[])?;
        let tls_port = listen(at, &["-tls-on-connect"])?;
        Ok(Some(Self { folder, port, tls_port }))
    }

    /// The certificate, which is its own authority, for `localhost`.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    /// Waits until so many letters are delivered, and reads them, by name.
    pub fn letters(&self, many: usize) -> Result<Vec<String>> {
        let began = Instant::now();
        loop {
            let mut letters = Vec::new();
            for file in fs::read_dir(self.folder.path().join("spool/mail/new")).into_iter().flatten() {
                letters.push(fs::read_to_string(file?.path())?);
            }
            if letters.len() >= many {
                return Ok(letters);
            }
            if began.elapsed() > Duration::from_secs(30) {
                bail!("{} letters of {many}: {}", letters.len(), self.log());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// What it says of what it did.
    pub fn log(&self) -> String {
        let spool = self.folder.path().join("spool");
        let logs = ["mainlog", "paniclog", "../stderr"];
        let logs = logs.map(|log| fs::read_to_string(spool.join(log)).unwrap_or_default());
        logs.concat()
    }
}

fn wrapper(lib: &Path) -> Result<PathBuf> {
    let folders = fs::read_dir(lib.join("usr/lib"))?.flatten();
    let found = folders.map(|folder| folder.path().join("libnss_wrapper.so")).find(|path| path.is_file());
    found.context("libnss_wrapper.so")
}

/// Starts it for each connection to a port of its own.
fn listen(at: &Path, with: &'static [&'static str]) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let at = at.to_owned();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // A connection that it cannot be started for is closed, which the test sees.
            let _ = serve(&at, with, stream);
        }
    });
    Ok(port)
}

fn serve(at: &Path, with: &[&str], stream: TcpStream) -> Result<()> {
    let mut exim = Command::new(at.join("exim4"))
        .arg("-C")
        .arg(at.join("exim.conf"))
        .args(["-bs", "-odf"])
        .args(with)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LD_PRELOAD", at.join("wrapper.so"))
        .env("NSS_WRAPPER_PASSWD", at.join("passwd"))
        .env("NSS_WRAPPER_GROUP", at.join("group"))
        .stdin(Stdio::from(OwnedFd::from(stream.try_clone()?)))
        .stdout(Stdio::from(OwnedFd::from(stream)))
        .stderr(fs::File::options().create(true).append(true).open(at.join("stderr"))?)
        .spawn()?;
    thread::spawn(move || exim.wait());
    Ok(())
}

fn config(at: &Path, user: u32) -> String {
    let at = at.display();
    format!(
        "exim_user = {user}
exim_group = {user}
exim_path = {at}/exim4
keep_environment = ^LD_ : ^NSS_
spool_directory = {at}/spool
log_file_path = {at}/spool/%slog
primary_hostname = localhost
tls_advertise_hosts = *
tls_certificate = {at}/certificate.pem
tls_privatekey = {at}/key.pem
auth_advertise_hosts = ${{if eq{{$tls_in_cipher}}{{}}{{}}{{*}}}}
acl_smtp_rcpt = rcpt
acl_smtp_data = accept
host_lookup =
rfc1413_hosts =
domainlist ours = example.com

begin acl
rcpt:
  deny message = who are you
       !authenticated = *
  deny message = no such user
       local_parts = gone
  defer message = come back later
       local_parts = later
  accept domains = +ours
  deny message = not relayed

begin routers
ours:
  driver = accept
  domains = +ours
  transport = folder

begin transports
folder:
  driver = appendfile
  directory = {at}/spool/mail
  maildir_format
  create_directory
  envelope_to_add
  user = {user}
  group = {user}

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{soc}}}}{{eq{{$auth3}}{{{PASSWORD}}}}}}}}}
  server_set_id = $auth2
"
    )
}
