//! `wynectl context`: coordinators, and the credentials used for them.

use std::fs;

use wyneos::{
    identity::{self, Credentials},
    v1::{self, enrollment_service_client::EnrollmentServiceClient},
};
use wyneos_shell::files;

use super::nothing;
use crate::{
    args::ContextCommand,
    config::{self, Contexts, Entry, Way},
    context::Context,
    exit::Exit,
    failure::Failure,
    text::{self, Table, clean},
};

/// Lists and changes contexts; only `renew` contacts a coordinator.
pub(crate) async fn run(context: &Context, command: ContextCommand) -> Result<(), Failure> {
    let mut contexts = Contexts::load()?;
    let told;
    match command {
        ContextCommand::List => return list(context, &contexts),
        ContextCommand::Use { name } => {
            let address = clean(&contexts.get(&name)?.address);
            told = format!("{name}: now in use, for the coordinator at {address}\n");
            contexts.current = Some(name);
        }
        ContextCommand::Add {
            name,
            coordinator,
            from,
        } => {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            let is_name = (1..=64).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(fits);
            if !is_name {
                let reason =
                    "a context's name has 1 to 64 letters, digits, '.', '_' and '-', and does not begin with '.'";
                return Err(Failure::new(Exit::Usage, reason));
            }
            let credentials = match from {
                Some(from) => {
                    let credentials = config::load(&from)?;
                    let folder = config::folder()?.join("credentials").join(&name);
                    config::private(&folder)?;
                    let written = files::write_credentials(&folder, &credentials);
                    written.map_err(|error| {
                        Failure::new(
                            Exit::Failed,
                            format!("{}: cannot write into it: {error}", folder.display()),
                        )
                    })?;
                    Some(folder)
                }
                None => None,
            };
            let who = match &credentials {
                Some(folder) => held(&config::load(folder)?),
                None => "no identity, without TLS".to_owned(),
            };
            let verb = match contexts.contexts.contains_key(&name) {
                true => "replaced",
                false => "added",
            };
            let entry = Entry {
                address: coordinator,
                credentials,
            };
            let address = clean(&entry.address);
            contexts.contexts.insert(name.clone(), entry);
            let current = contexts.current.get_or_insert(name.clone());
            let used = match *current == name {
                true => "in use".to_owned(),
                false => format!("`wynectl context use {name}` uses it; in use is {}", clean(current)),
            };
            told = format!("{name}: {verb}, for the coordinator at {address} as {who}; {used}\n");
        }
        ContextCommand::Renew { name } => return renew(context, &contexts, name).await,
        ContextCommand::Remove { name } => {
            contexts.get(&name)?;
            contexts.contexts.remove(&name);
            if contexts.current.as_ref() == Some(&name) {
                contexts.current = None;
            }
            contexts.save()?;
            let folder = config::folder()?.join("credentials").join(&name);
            let removed = format!("{}: removed\n", clean(&name));
            return match fs::remove_dir_all(&folder) {
                Err(error) if folder.exists() => Err(Failure::new(
                    Exit::Failed,
                    format!("{}: cannot remove it: {error}", folder.display()),
                )),
                _ => context.text(&removed),
            };
        }
    }
    contexts.save()?;
    context.text(&told)
}

/// The identity of credentials, and the end of their validity.
fn held(credentials: &Credentials) -> String {
    let principal = &credentials.principal;
    let until = credentials
        .chain
        .first()
        .and_then(|first| identity::validity(first).ok());
    let until = until.map_or_else(String::new, |validity| {
        format!(", until {}", humantime::format_rfc3339_seconds(validity.end))
    });
    clean(&format!("{}/{}{until}", principal.role.name(), principal.name))
}

async fn renew(context: &Context, contexts: &Contexts, name: Option<String>) -> Result<(), Failure> {
    let none = || Failure::new(Exit::NotFound, "no context is in use").hint("give its name");
    let name = name.or_else(|| contexts.current.clone()).ok_or_else(none)?;
    let entry = contexts.get(&name)?;
    let folder = entry.credentials.as_ref().ok_or_else(|| {
        Failure::new(
            Exit::Failed,
            format!("context {name:?} has no credentials: its coordinator is contacted without TLS"),
        )
    })?;
    let old = config::load(folder)?;
    let cannot = |what: &str, why: &dyn std::fmt::Display| Failure::new(Exit::Failed, format!("cannot {what}: {why}"));
    let request = identity::request_for(&old.key).map_err(|error| cannot("create a request", &error))?;
    let way = Way {
        address: entry.address.clone(),
        tls: Some(config::tls(folder)?),
    };
    let context = context.to(way);
    let mut client = EnrollmentServiceClient::new(context.connect().await?);
    let request = v1::RenewRequest {
        certificate_request: request.to_vec(),
    };
    let answer = context.call("renew the certificate", client.renew(request)).await?;
    let issued = answer.certificate.unwrap_or_default();
    let der = |all: Vec<Vec<u8>>| all.into_iter().map(Into::into).collect();
    let new = Credentials {
        principal: old.principal,
        chain: der(issued.chain),
        key: old.key,
        roots: der(issued.roots),
    };
    let names = new.chain.first().map(identity::Principal::of);
    if names != Some(Ok(new.principal.clone())) {
        return Err(cannot("use the answer", &"it has no certificate of this name"));
    }
    files::write_credentials(folder, &new).map_err(|error| cannot("write the certificate", &error))?;
    context.text(&format!("{}: renewed, {}\n", clean(&name), held(&new)))
}

fn list(context: &Context, contexts: &Contexts) -> Result<(), Failure> {
    if context.is_json() {
        let json = serde_json::to_string_pretty(contexts)
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot write the contexts as JSON: {error}")))?;
        return context.text(&format!("{json}\n"));
    }
    if contexts.contexts.is_empty() {
        nothing("contexts");
        return Ok(());
    }
    let mut table = Table::new(["", "NAME", "COORDINATOR", "WHO"]);
    for (name, entry) in &contexts.contexts {
        let who = match &entry.credentials {
            None => "no identity, without TLS".to_owned(),
            Some(folder) => match config::load(folder) {
                Ok(credentials) => clean(&format!(
                    "{}/{}",
                    credentials.principal.role.name(),
                    credentials.principal.name
                )),
                Err(_) => "unusable credentials".to_owned(),
            },
        };
        let mark = if contexts.current.as_ref() == Some(name) {
            "*"
        } else {
            ""
        };
        table.row([mark.to_owned(), clean(name), clean(&entry.address), who]);
    }
    context.text(&table.text(0))?;
    if contexts.current.is_none() {
        text::stderr("no context is in use; select one with `wynectl context use NAME`");
    }
    Ok(())
}
