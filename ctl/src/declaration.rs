//! Declarations of workloads in files: TOML, or JSON of the same structure.

mod file;
mod spec;

use std::path::Path;

use wyneos::v1;
use wyneos_shell::files;

use self::file::File;
use crate::{exit::Exit, failure::Failure};

/// The contents of a declaration's file.
#[derive(Debug)]
pub(crate) struct Declaration {
    pub(crate) spec: v1::WorkloadSpec,
    /// Whether the file does not set the number of instances: the present number of a declared workload is kept.
    pub(crate) keep_replicas: bool,
}

/// Reads the declaration in a file: JSON if its name ends in `.json`, otherwise TOML.
pub(crate) fn read(path: &Path) -> Result<Declaration, Failure> {
    let wrong = |why: String| Failure::new(Exit::Usage, format!("{}: {why}", path.display()));
    let text = files::read_named_text(path, files::TEXT).map_err(|error| wrong(error.to_string()))?;
    parse(&text, path.extension().is_some_and(|extension| extension == "json")).map_err(wrong)
}

/// An error with the number of its line, but without the line, which may contain a secret.
fn at_line(text: &str, error: &toml::de::Error) -> String {
    let message = error.message();
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message.to_owned(),
    }
}

fn parse(text: &str, is_json: bool) -> Result<Declaration, String> {
    let file: File = match is_json {
        true => serde_json::from_str(text).map_err(|error| error.to_string())?,
        false => toml::from_str(text).map_err(|error| at_line(text, &error))?,
    };
    let keep_replicas = file.replicas.is_none();
    let spec = file.spec()?;
    Ok(Declaration { spec, keep_replicas })
}

#[cfg(test)]
mod tests;
