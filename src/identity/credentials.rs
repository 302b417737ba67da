//! Credentials: a certificate with its chain, its key, and the trusted CAs.

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

/// Reason why credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file cannot be read.
    #[error("{}: cannot read it", .path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A key file is readable by others than its owner.
    #[error("{}: may be read by others than its owner (mode {mode:03o}); chmod 600 it", .path.display())]
    Exposed {
        /// Path of the file.
        path: PathBuf,
        /// Permissions of the file.
        mode: u32,
    },
    /// A PEM file has unexpected contents.
    #[error("{what}: {reason}")]
    Pem {
        /// The expected contents.
        what: &'static str,
        /// The error.
        reason: String,
    },
    /// The certificate contains no valid name.
    #[error(transparent)]
    Principal(#[from] BadPrincipal),
}

/// A principal with its proof of identity. `Debug` shows only the name.
pub struct Credentials {
    /// The principal named in the certificate.
    pub principal: Principal,
    /// The certificate and its chain up to the CA.
    pub chain: Vec<CertificateDer<'static>>,
    /// Private key of the certificate.
    pub key: PrivateKeyDer<'static>,
    /// Trusted CAs; several during a replacement.
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
    /// Parses credentials from PEM texts.
    ///
    /// # Errors
    /// A text has unexpected contents, or the certificate does not contain exactly one name.
    pub fn from_pem(chain: &[u8], key: &[u8], roots: &[u8]) -> Result<Credentials, CredentialError> {
        let chain = certificates("certificate", chain)?;
        // The text of an error could contain a part of the key.
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

    /// Loads credentials from the files `cert.pem`, `key.pem` and `ca.pem` in a folder.
    ///
    /// # Errors
    /// As for [`load`](Credentials::load).
    pub fn load_from(folder: &Path) -> Result<Credentials, CredentialError> {
        let [chain, key, roots] = ["cert.pem", "key.pem", "ca.pem"].map(|name| folder.join(name));
        Credentials::load(&chain, &key, &roots)
    }

    /// Loads credentials from PEM files; the key file must be accessible only by its owner.
    ///
    /// # Errors
    /// As for [`from_pem`](Credentials::from_pem), or a file cannot be read, or the key file is readable by others.
    pub fn load(chain: &Path, key: &Path, roots: &Path) -> Result<Credentials, CredentialError> {
        Credentials::from_pem(&read(chain)?, &read_secret(key)?, &read(roots)?)
    }
}

/// Credentials in the format of their files. `Debug` does not show the key.
#[cfg(feature = "authority")]
pub struct CredentialsPem {
    /// `cert.pem`: the certificate and its chain.
    pub chain: String,
    /// `key.pem`: the private key.
    pub key: String,
    /// `ca.pem`: the trusted CAs.
    pub roots: String,
}

#[cfg(feature = "authority")]
impl fmt::Debug for CredentialsPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialsPem").finish_non_exhaustive()
    }
}

/// Encodes a certificate as PEM.
#[cfg(feature = "authority")]
pub fn certificate_pem(certificate: &CertificateDer<'_>) -> String {
    ::pem::encode(&::pem::Pem::new("CERTIFICATE", certificate.as_ref()))
}

/// Encodes a private key as PEM.
#[cfg(feature = "authority")]
pub fn key_pem(key: &PrivateKeyDer<'_>) -> String {
    ::pem::encode(&::pem::Pem::new("PRIVATE KEY", key.secret_der()))
}

#[cfg(feature = "authority")]
impl Credentials {
    /// Encodes the credentials as PEM texts.
    pub fn to_pem(&self) -> CredentialsPem {
        let all = |certificates: &[CertificateDer<'_>]| certificates.iter().map(certificate_pem).collect();
        CredentialsPem {
            chain: all(&self.chain),
            key: key_pem(&self.key),
            roots: all(&self.roots),
        }
    }
}

/// Maximum size of a file with certificates or a key, in bytes; larger files are not read.
const MOST: u64 = 1024 * 1024;

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CredentialError {
    let path = path.to_owned();
    move |source| CredentialError::File { path, source }
}

fn read(path: &Path) -> Result<Vec<u8>, CredentialError> {
    let read = || -> io::Result<Vec<u8>> {
        // Checked before opening, since opening a pipe would block.
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
