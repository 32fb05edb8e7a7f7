//! Secrets at rest: sealed with a key that lies beside the database, in a file of its own.
//!
//! In: a secret, and whose it is. Out: bytes for the database, and the secret again. Invariants: who reads the database alone, or a copy
//! of it, learns no secret; a secret opens only for whom it was sealed; a key is never replaced, so what was sealed opens for as long
//! as its file is there; what earlier builds wrote in clear opens, too.

use std::{
    fmt, fs, io,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom as _, SystemRandom},
};

use crate::{error::Error, lease::own_file};

/// The key's file in the data folder.
pub(crate) const FILE: &str = "vedette.key";
const KEY: usize = 32;
/// The first byte of what is sealed.
const FORM: u8 = 1;

/// The key of a data folder, read when it is first needed.
pub(crate) struct Seal {
    folder: PathBuf,
    key: OnceLock<LessSafeKey>,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Seal {
    pub(crate) fn of(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), key: OnceLock::new() }
    }

    /// A secret as the database holds it.
    pub(crate) fn seal(&self, whose: &str, secret: &[u8]) -> Result<Vec<u8>, Error> {
        let key = match self.key()? {
            Some(key) => key,
            None => {
                self.make()?;
                self.key()?.ok_or_else(|| self.wrong("is not there"))?
            }
        };
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_| self.wrong("needs random numbers, and the system gave none"))?;
        let mut sealed = secret.to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(whose), &mut sealed)
            .map_err(|_| self.wrong("sealed nothing"))?;
        Ok([&[FORM][..], &nonce, &sealed].concat())
    }

    /// The secret again; none if it was sealed for somebody else or with another key, or that is gone.
    pub(crate) fn open(&self, whose: &str, held: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let Some((nonce, sealed)) =
            held.strip_prefix(&[FORM]).and_then(|rest| rest.split_at_checked(NONCE_LEN))
        else {
            return Ok(None);
        };
        let (Some(key), Ok(nonce)) = (self.key()?, Nonce::try_assume_unique_for_key(nonce)) else {
            return Ok(None);
        };
        let mut sealed = sealed.to_vec();
        Ok(key.open_in_place(nonce, Aad::from(whose), &mut sealed).ok().map(|secret| secret.to_vec()))
    }

    fn key(&self) -> Result<Option<&LessSafeKey>, Error> {
        if let Some(key) = self.key.get() {
            return Ok(Some(key));
        }
        let mut bytes = Vec::with_capacity(KEY);
        let read =
            fs::File::open(self.path()).and_then(|file| file.take(KEY as u64 + 1).read_to_end(&mut bytes));
        match read {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.failed(source)),
            Ok(KEY) => {}
            Ok(_) => return Err(self.wrong("is no key: it has another length than 32 bytes")),
        }
        let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes).map_err(|_| self.wrong("is no key"))?;
        Ok(Some(self.key.get_or_init(|| LessSafeKey::new(key))))
    }

    /// Makes the key. Whole under a name of its own first, so that nobody reads half of it, and two that make one agree on the first.
    fn make(&self) -> Result<(), Error> {
        let mut key = [0; KEY];
        SystemRandom::new()
            .fill(&mut key)
            .map_err(|_| self.wrong("needs random numbers, and the system gave none"))?;
        let new = self.path().with_extension(format!("key.{}", std::process::id()));
        let made = own_file(&new).and_then(|mut file| {
            file.write_all(&key)?;
            file.sync_all()
        });
        let linked = made.and_then(|()| match fs::hard_link(&new, self.path()) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
        let removed = fs::remove_file(&new);
        linked.and(removed).map_err(|source| self.failed(source))?;
        fs::File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| self.failed(source))
    }

    fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Key { file: self.path(), detail: format!("cannot be used: {source}") }
    }

    fn wrong(&self, detail: &str) -> Error {
        Error::Key { file: self.path(), detail: detail.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_secret_opens_for_whom_it_was_sealed_and_with_its_key_alone() {
        let folder = tempfile::tempdir().unwrap();
        let seal = Seal::of(folder.path());
        assert_eq!(seal.open("ann", &[FORM; 60]).unwrap(), None, "there is no key");
        let held = seal.seal("ann", b"secret of ann").unwrap();
        assert!(!held.windows(6).any(|part| part == b"secret"));
        assert_ne!(held, seal.seal("ann", b"secret of ann").unwrap());
        // Another process reads the same key.
        let other = Seal::of(folder.path());
        assert_eq!(other.open("ann", &held).unwrap().unwrap(), b"secret of ann");
        assert_eq!(other.open("bob", &held).unwrap(), None);
        for at in 0..held.len() {
            let mut changed = held.clone();
            changed[at] ^= 1;
            assert_eq!(other.open("ann", &changed).unwrap(), None, "{at}");
            assert_eq!(other.open("ann", &held[..at]).unwrap(), None, "{at}");
        }
        let elsewhere = tempfile::tempdir().unwrap();
        let stranger = Seal::of(elsewhere.path());
        stranger.seal("ann", b"x").unwrap();
        assert_eq!(stranger.open("ann", &held).unwrap(), None);
    }

    #[test]
    fn a_key_is_its_owners_alone_and_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let held = Seal::of(folder.path()).seal("ann", b"x").unwrap();
        let key = fs::read(&path).unwrap();
        let again = Seal::of(folder.path());
        again.make().unwrap();
        assert_eq!(fs::read(&path).unwrap(), key);
        assert_eq!(again.open("ann", &held).unwrap().unwrap(), b"x");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        fs::write(&path, b"short").unwrap();
        let refused = Seal::of(folder.path()).open("ann", &held).unwrap_err().to_string();
        assert!(refused.contains("vedette.key") && refused.contains("is no key"), "{refused}");
    }
}
