//! Where secrets come from: the environment, or the files `master.key` and `admin.key` of the data directory, readable by
//! the owner only.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use crate::failure::{Failure, Result};

/// What a program that starts knarr may set instead of the file.
const MASTER_VARIABLE: &str = "KNARR_MASTER_KEY";
const MASTER_FILE: &str = "master.key";
const ADMIN_FILE: &str = "admin.key";

/// A pair of keys. No Debug: the secret must not reach a log.
pub(crate) struct Credentials {
    /// The public half.
    pub(crate) access_key: String,
    /// The other.
    pub(crate) secret_key: Zeroizing<String>,
}

/// `KNARR_ACCESS_KEY` and `KNARR_SECRET_KEY`; one without the other is a mistake. Never flags: command lines are public
/// on a host.
pub(crate) fn credentials_from_env() -> Result<Option<Credentials>> {
    match (variable("KNARR_ACCESS_KEY"), variable("KNARR_SECRET_KEY")) {
        (Some(access_key), Some(secret)) => Ok(Some(Credentials { access_key, secret_key: Zeroizing::new(secret) })),
        (None, None) => Ok(None),
        _ => Err(Failure::usage("KNARR_ACCESS_KEY and KNARR_SECRET_KEY go together: one of them is not set")),
    }
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// Makes the data directory, for its owner only, where it is missing.
pub(crate) fn make_dir(dir: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| Failure::file(&dir.display().to_string(), e))
}

/// The key that encrypts stored secrets, as hex: from `KNARR_MASTER_KEY`, else from `DIR/master.key`, which is made on the
/// first start.
pub(crate) fn master_key(dir: &Path) -> Result<Zeroizing<String>> {
    if let Some(text) = variable(MASTER_VARIABLE) {
        return Ok(Zeroizing::new(text));
    }
    let path = dir.join(MASTER_FILE);
    let shown = path.display().to_string();
    if !path.exists() {
        let fresh = random_hex()?;
        // Whoever links first wins; a second process that starts at the same time reads the winner's.
        create_secret(&path, &fresh)
            .or_else(|e| if e.kind() == ErrorKind::AlreadyExists { Ok(()) } else { Err(e) })
            .map_err(|e| Failure::file(&shown, e))?;
    }
    let text = read_secret(&path)?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// Writes a generated administrator's key to `DIR/admin.key`, in place of an older one, and gives the lines for stdout.
pub(crate) fn write_admin_key(dir: &Path, access_key: &str, secret_key: &str) -> Result<Zeroizing<String>> {
    let path = dir.join(ADMIN_FILE);
    let lines = Zeroizing::new(shell_lines(access_key, secret_key));
    let written = match fs::remove_file(&path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => create_secret(&path, &lines),
    };
    written.map_err(|e| Failure::file(&path.display().to_string(), e))?;
    Ok(Zeroizing::new(format!(
        "knarr made an administrator's key, shown this once; it is also in {}\n{}",
        path.display(),
        *lines
    )))
}

/// A pair of keys in the form that a shell can source.
pub(crate) fn shell_lines(access_key: &str, secret_key: &str) -> String {
    format!("export KNARR_ACCESS_KEY={access_key}\nexport KNARR_SECRET_KEY={secret_key}\n")
}

/// A durable, whole file of mode 0600 that did not exist before: written and synced under another name, then linked.
fn create_secret(path: &Path, text: &str) -> std::io::Result<()> {
    let part = path.with_extension(format!("key.{}", std::process::id()));
    let linked = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::hard_link(&part, path)
    })();
    fs::remove_file(&part)?;
    linked?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Refuses a file that others may read: a secret that leaked is better replaced than used.
fn read_secret(path: &Path) -> Result<Zeroizing<String>> {
    let shown = path.display().to_string();
    let mut file = File::open(path).map_err(|e| Failure::file(&shown, e))?;
    let mode = file.metadata().map_err(|e| Failure::file(&shown, e))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Failure::usage(format!("{shown}: others may read it (mode {:o}); chmod 600", mode & 0o777)));
    }
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text).map_err(|e| Failure::file(&shown, e))?;
    Ok(text)
}

fn random_hex() -> Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0u8; 32]);
    getrandom::fill(bytes.as_mut()).map_err(|e| Failure::failed(format!("no randomness: {e}")))?;
    Ok(Zeroizing::new(bytes.iter().map(|b| format!("{b:02x}")).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("exists").permissions().mode() & 0o777
    }

    #[test]
    fn the_master_key_is_made_once_for_its_owner_only() {
        let outer = tempfile::tempdir().expect("a directory");
        let dir = outer.path().join("data");
        make_dir(&dir).expect("made");
        assert_eq!(mode(&dir), 0o700);
        let first = master_key(&dir).expect("made");
        assert_eq!(first.len(), 64);
        assert_eq!(mode(&dir.join(MASTER_FILE)), 0o600);
        assert_eq!(master_key(&dir).expect("read"), first);
        assert_eq!(fs::read_dir(&dir).expect("listed").count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_master_key_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        master_key(dir.path()).expect("made");
        fs::set_permissions(dir.path().join(MASTER_FILE), fs::Permissions::from_mode(0o640)).expect("chmod");
        let refused = master_key(dir.path()).expect_err("refused");
        assert!(refused.to_string().contains("chmod 600"), "{refused}");
    }

    #[test]
    fn the_admin_key_file_is_replaced_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(ADMIN_FILE);
        fs::write(&path, "old").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
        let shown = write_admin_key(dir.path(), "AKLTx", "secret").expect("written");
        let text = fs::read_to_string(&path).expect("read");
        assert_eq!(text, "export KNARR_ACCESS_KEY=AKLTx\nexport KNARR_SECRET_KEY=secret\n");
        assert!(shown.ends_with(&text));
        assert_eq!(mode(&path), 0o600);
    }
}
