//! Credentials: a certificate with its chain, its key, and the CAs that are trusted.

use std::{
    fmt,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject as _},
};

use super::{BadPrincipal, Principal};

/// Why credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file cannot be read.
    #[error("{}: cannot read it", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key may be read by others than its owner.
    #[error("{}: may be read by others than its owner (mode {mode:03o}); chmod 600 it", .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A PEM file holds something else than it should.
    #[error("{what}: {reason}")]
    Pem {
        /// What was looked for.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The certificate names nobody.
    #[error(transparent)]
    Principal(#[from] BadPrincipal),
}

/// Who somebody is, with the proof of it. `Debug` tells the name alone.
pub struct Credentials {
    /// Whom the certificate names.
    pub principal: Principal,
    /// The certificate, and the chain up to its CA.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// The CAs that are trusted; several while one is being replaced.
    pub roots: Vec<CertificateDer<'static>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Credentials").field(&self.principal.to_string()).finish()
    }
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CredentialError> {
    let wrong = |reason: String| CredentialError::Pem { what, reason };
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(wrong("no certificate in it".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(wrong(error.to_string())),
    }
}

impl Credentials {
    /// Credentials of PEM texts.
    ///
    /// # Errors
    /// One of them holds something else than it should, or the certificate does not bear exactly one name.
    pub fn from_pem(chain: &[u8], key: &[u8], roots: &[u8]) -> Result<Credentials, CredentialError> {
        let chain = certificates("certificate", chain)?;
        // The text behind an error could be a part of the key.
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CredentialError::Pem {
            what: "key",
            reason: "no private key in it".to_owned(),
        })?;
        let roots = certificates("CA", roots)?;
        let principal = Principal::of(&chain[0])?;
        Ok(Credentials {
            principal,
            chain,
            key,
            roots,
        })
    }

    /// Credentials of the files `cert.pem`, `key.pem` and `ca.pem` in a folder.
    ///
    /// # Errors
    /// As [`load`](Credentials::load).
    pub fn load_from(folder: &Path) -> Result<Credentials, CredentialError> {
        let [chain, key, roots] = ["cert.pem", "key.pem", "ca.pem"].map(|name| folder.join(name));
        Credentials::load(&chain, &key, &roots)
    }

    /// Credentials of PEM files; the key's must be its owner's alone.
    ///
    /// # Errors
    /// As [`from_pem`](Credentials::from_pem), or a file cannot be read, or the key's may be read by others.
    pub fn load(chain: &Path, key: &Path, roots: &Path) -> Result<Credentials, CredentialError> {
        Credentials::from_pem(&read(chain)?, &read_secret(key)?, &read(roots)?)
    }
}

/// Credentials as their files have them. `Debug` does not tell the key.
#[cfg(feature = "authority")]
pub struct CredentialsPem {
    /// `cert.pem`: the certificate and its chain.
    pub chain: String,
    /// `key.pem`: its key.
    pub key: String,
    /// `ca.pem`: the CAs that are trusted.
    pub roots: String,
}

#[cfg(feature = "authority")]
impl fmt::Debug for CredentialsPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialsPem").finish_non_exhaustive()
    }
}

/// A certificate as its file has it.
#[cfg(feature = "authority")]
pub fn certificate_pem(certificate: &CertificateDer<'_>) -> String {
    ::pem::encode(&::pem::Pem::new("CERTIFICATE", certificate.as_ref()))
}

/// A key as its file has it.
#[cfg(feature = "authority")]
pub fn key_pem(key: &PrivateKeyDer<'_>) -> String {
    ::pem::encode(&::pem::Pem::new("PRIVATE KEY", key.secret_der()))
}

#[cfg(feature = "authority")]
impl Credentials {
    /// As PEM texts.
    pub fn to_pem(&self) -> CredentialsPem {
        let all = |certificates: &[CertificateDer<'_>]| certificates.iter().map(certificate_pem).collect();
        CredentialsPem {
            chain: all(&self.chain),
            key: key_pem(&self.key),
            roots: all(&self.roots),
        }
    }
}

/// Bytes of a file of certificates or a key. Beyond, it is not read.
const MOST: u64 = 1024 * 1024;

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CredentialError {
    let path = path.to_owned();
    move |source| CredentialError::File { path, source }
}

fn read(path: &Path) -> Result<Vec<u8>, CredentialError> {
    let read = || -> io::Result<Vec<u8>> {
        // Before it is opened, which a pipe would hold up.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no regular file"));
        }
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(MOST + 1).read_to_end(&mut bytes)?;
        match bytes.len() as u64 > MOST {
            true => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it is larger than {MOST} bytes"),
            )),
            false => Ok(bytes),
        }
    };
    read().map_err(failed(path))
}

fn read_secret(path: &Path) -> Result<Vec<u8>, CredentialError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let mode = std::fs::metadata(path).map_err(failed(path))?.mode() & 0o777;
        if mode & 0o077 != 0 {
            let path = path.to_owned();
            return Err(CredentialError::Exposed { path, mode });
        }
    }
    read(path)
}
