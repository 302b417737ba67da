//! `wynectl context`: which coordinators there are, and by which credentials they are talked to.

use std::fs;

use wyneos_shell::files;

use super::nothing;
use crate::{
    args::ContextCommand,
    config::{self, Contexts, Entry},
    context::Context,
    exit::Exit,
    failure::Failure,
    text::{self, Table, clean},
};

/// Lists and changes contexts; asks no coordinator.
pub(crate) fn run(context: &Context, command: ContextCommand) -> Result<(), Failure> {
    let mut contexts = Contexts::load()?;
    match command {
        ContextCommand::List => return list(context, &contexts),
        ContextCommand::Use { name } => {
            contexts.get(&name)?;
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
                let reason = "a context's name has 1 to 64 letters, digits, '.', '_' and '-', and begins with no '.'";
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
            let entry = Entry {
                address: coordinator,
                credentials,
            };
            contexts.contexts.insert(name.clone(), entry);
            contexts.current.get_or_insert(name);
        }
        ContextCommand::Remove { name } => {
            contexts.get(&name)?;
            contexts.contexts.remove(&name);
            if contexts.current.as_ref() == Some(&name) {
                contexts.current = None;
            }
            contexts.save()?;
            let folder = config::folder()?.join("credentials").join(&name);
            return match fs::remove_dir_all(&folder) {
                Err(error) if folder.exists() => Err(Failure::new(
                    Exit::Failed,
                    format!("{}: cannot remove it: {error}", folder.display()),
                )),
                _ => Ok(()),
            };
        }
    }
    contexts.save()
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
            None => "nobody: without TLS".to_owned(),
            Some(folder) => match config::load(folder) {
                Ok(credentials) => clean(&format!(
                    "{}/{}",
                    credentials.principal.role.name(),
                    credentials.principal.name
                )),
                Err(_) => "credentials that cannot be used".to_owned(),
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
        text::stderr("none is in use; `wynectl context use NAME`");
    }
    Ok(())
}
