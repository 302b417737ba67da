//! Contexts: coordinators and the credentials used for them, in the user's configuration directory.

use std::{
    collections::BTreeMap,
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use wyneos::identity::{CredentialError, Credentials, Expected, Keys, TlsError, Trust, client_config};
use wyneos_shell::files;

use crate::{exit::Exit, failure::Failure};

/// Default address of the coordinator.
pub(crate) const ADDRESS: &str = "127.0.0.1:7400";

/// A coordinator, and the credentials used for it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// Address, as host:port.
    pub(crate) address: String,
    /// Directory of ca.pem, cert.pem and key.pem; none for a coordinator without TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) credentials: Option<PathBuf>,
}

/// The user's contexts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The context that is used if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// All contexts by name.
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Entry>,
}

/// The directory of the user's configuration.
pub(crate) fn folder() -> Result<PathBuf, Failure> {
    let set = |name: &str| {
        let value = std::env::var_os(name).map(PathBuf::from);
        value.filter(|path| path.is_absolute())
    };
    let folder = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    let folder = folder.map(|folder| folder.join("wyneos"));
    folder.ok_or_else(|| {
        Failure::new(
            Exit::Failed,
            "neither XDG_CONFIG_HOME nor HOME is set, so there is no directory for contexts",
        )
    })
}

fn failed<'a>(what: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> Failure + 'a {
    move |error| Failure::new(Exit::Failed, format!("{}: cannot {what}: {error}", path.display()))
}

/// Creates a directory that only its owner may read.
pub(crate) fn private(path: &Path) -> Result<(), Failure> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(failed("create it", path))
}

impl Contexts {
    /// Loads the user's contexts; none if there is no file.
    pub(crate) fn load() -> Result<Contexts, Failure> {
        let Ok(folder) = folder() else {
            return Ok(Contexts::default());
        };
        let path = folder.join("contexts.toml");
        let text = match files::read_regular_text(&path, files::TEXT) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Contexts::default()),
            Err(error) => return Err(failed("read it", &path)(error)),
        };
        toml::from_str(&text).map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", path.display())))
    }

    /// Writes the contexts.
    pub(crate) fn save(&self) -> Result<(), Failure> {
        let folder = folder()?;
        private(&folder)?;
        let path = folder.join("contexts.toml");
        let text = toml::to_string(self).map_err(io::Error::other);
        let written = text.and_then(|text| files::write_durably(&path, text.as_bytes(), 0o600));
        written.map_err(failed("write it", &path))
    }

    /// Returns the context of this name.
    pub(crate) fn get(&self, name: &str) -> Result<&Entry, Failure> {
        let unknown = || {
            let known: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            let failure = Failure::new(Exit::NotFound, format!("no context {name:?}"));
            match known.is_empty() {
                true => failure.hint("there are no contexts yet; `wynectl context add` creates one"),
                false => failure.hint(format!("existing contexts: {}", known.join(", "))),
            }
        };
        self.contexts.get(name).ok_or_else(unknown)
    }
}

/// The options of the command line that select the coordinator and credentials.
pub(crate) struct Asked {
    pub(crate) address: Option<String>,
    pub(crate) context: Option<String>,
    pub(crate) credentials: Option<PathBuf>,
}

/// The coordinator to contact, and the credentials.
pub(crate) struct Way {
    pub(crate) address: String,
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Way {
    /// A connection to no coordinator.
    pub(crate) fn nowhere() -> Way {
        let (address, tls) = (ADDRESS.to_owned(), None);
        Way { address, tls }
    }
}

/// Combines the command line with the context. An address alone means a coordinator without TLS, unless it is the
/// context's own.
pub(crate) fn way(asked: Asked) -> Result<Way, Failure> {
    let contexts = Contexts::load()?;
    let named = asked.context.as_deref().or(contexts.current.as_deref());
    let entry = match (&asked.context, named) {
        (None, Some(_)) if asked.credentials.is_some() => None,
        (_, Some(name)) => Some(contexts.get(name)?.clone()),
        (_, None) => None,
    };
    let elsewhere =
        |address: &String| asked.context.is_none() && entry.as_ref().is_some_and(|entry| entry.address != *address);
    let entry = match &asked.address {
        Some(address) if elsewhere(address) => None,
        _ => entry,
    };
    let credentials = asked
        .credentials
        .or_else(|| entry.as_ref().and_then(|entry| entry.credentials.clone()));
    let address = asked
        .address
        .or_else(|| entry.map(|entry| entry.address))
        .unwrap_or_else(|| ADDRESS.to_owned());
    let tls = credentials.map(|folder| tls(&folder)).transpose()?;
    Ok(Way { address, tls })
}

/// TLS with the credentials in a directory.
pub(crate) fn tls(folder: &Path) -> Result<Arc<ClientConfig>, Failure> {
    let credentials = load(folder)?;
    let config = || -> Result<Arc<ClientConfig>, TlsError> {
        let keys = Keys::new(&credentials)?;
        let trust = Trust::new(credentials.principal.cluster, &credentials.roots)?;
        client_config(Some(&keys), Expected::Coordinator(trust))
    };
    config().map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", folder.display())))
}

/// Loads the credentials in a directory.
pub(crate) fn load(folder: &Path) -> Result<Credentials, Failure> {
    Credentials::load_from(folder).map_err(|error: CredentialError| {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        let failure = Failure::new(Exit::Failed, format!("{error}{}", source.unwrap_or_default()));
        failure.hint("a directory of credentials contains ca.pem, cert.pem and key.pem")
    })
}
