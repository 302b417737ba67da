//! Declarations of workloads, as files have them: TOML, or JSON of the same shape.

mod file;
mod spec;

use std::path::Path;

use wyneos::v1;
use wyneos_shell::files;

use self::file::File;
use crate::{exit::Exit, failure::Failure};

/// What a file declares.
#[derive(Debug)]
pub(crate) struct Declaration {
    pub(crate) spec: v1::WorkloadSpec,
    /// It does not say how many instances there should be: as many as there are, where there are any.
    pub(crate) keep_replicas: bool,
}

/// The declaration in a file: JSON when its name ends so, TOML else.
pub(crate) fn read(path: &Path) -> Result<Declaration, Failure> {
    let wrong = |why: String| Failure::new(Exit::Usage, format!("{}: {why}", path.display()));
    let text = files::read_named_text(path, files::TEXT).map_err(|error| wrong(error.to_string()))?;
    parse(&text, path.extension().is_some_and(|extension| extension == "json")).map_err(wrong)
}

/// An error with its line's number, and not with the line: it may have a secret in it.
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
