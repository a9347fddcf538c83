//! Secrets of access keys: made here, sealed under the master key, shown only where a caller says `expose`.
//!
//! Neither type has `Debug`, `Display` or a serialised form, so a secret reaches no log, error or answer by accident.

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::Error;
use crate::dialect::{Columns, Connection};

const NONCE_BYTES: usize = 24;
/// Associated data and plaintext of the stored proof that a master key is the right one.
const VERIFIER: &str = "knarr master key";

/// The secret half of an access key; wiped when dropped.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// 256 random bits as 64 hexadecimal digits.
    pub(crate) fn random() -> Result<Self, Error> {
        Ok(Self(Zeroizing::new(hex(&random::<32>()?[..]))))
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text itself, still wiped when dropped.
    pub fn into_inner(self) -> Zeroizing<String> {
        self.0
    }
}

/// The key that seals every stored secret; wiped when dropped.
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl MasterKey {
    /// A new one.
    pub fn random() -> Result<Self, Error> {
        random().map(Self)
    }

    /// From 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Result<Self, Error> {
        let mut key = Zeroizing::new([0; 32]);
        let digits = text.as_bytes();
        if digits.len() != 2 * key.len() {
            return Err(Error::MalformedMasterKey);
        }
        for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(key))
    }

    /// 64 hexadecimal digits, for the file that keeps it.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex(&self.0[..]))
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.0).into())
    }

    /// Nonce and ciphertext of `text`, bound to `owner`: it opens under no other id.
    pub(crate) fn seal(&self, owner: &str, text: &str) -> Result<Vec<u8>, Error> {
        let nonce = random::<NONCE_BYTES>()?;
        let payload = Payload { msg: text.as_bytes(), aad: owner.as_bytes() };
        let sealed = self.cipher().encrypt(XNonce::from_slice(&nonce[..]), payload);
        // Encryption fails only for texts of 256 GiB and more.
        let sealed = sealed.map_err(|_| Error::OutOfRange { what: "length of a secret" })?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// The text that [`MasterKey::seal`] sealed for `owner`; None if key, owner or bytes differ.
    pub(crate) fn open(&self, owner: &str, sealed: &[u8]) -> Option<Secret> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES)?;
        let payload = Payload { msg: sealed, aad: owner.as_bytes() };
        let text = Zeroizing::new(self.cipher().decrypt(XNonce::from_slice(nonce), payload).ok()?);
        Some(Secret(Zeroizing::new(std::str::from_utf8(&text).ok()?.to_owned())))
    }
}

/// Compares `master` with the one the database was made with; the first ever seen becomes that one.
pub(crate) async fn check_master(connection: &mut Connection, master: &MasterKey) -> Result<(), Error> {
    let stored =
        sqlx::query("SELECT value FROM settings WHERE name = 'master_key'").fetch_optional(&mut *connection).await?;
    if let Some(row) = stored {
        let proof = master.open(VERIFIER, &row.bytes("value")?);
        return proof.filter(|text| text.expose() == VERIFIER).map(drop).ok_or(Error::WrongMasterKey);
    }
    sqlx::query("INSERT INTO settings (name, value) VALUES ('master_key', $1)")
        .bind(master.seal(VERIFIER, VERIFIER)?)
        .execute(connection)
        .await?;
    Ok(())
}

/// Bytes from the system's generator.
pub(crate) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, Error> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut bytes[..]).map_err(Error::Random)?;
    Ok(bytes)
}

/// Lower-case hexadecimal digits. Reserves once, so that no copy of a secret is left behind by growing.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
        }
    }
    text
}

fn digit(digit: u8) -> Result<u8, Error> {
    let value = char::from(digit).to_digit(16).ok_or(Error::MalformedMasterKey)?;
    u8::try_from(value).map_err(|_| Error::MalformedMasterKey)
}

#[cfg(test)]
mod tests;
