//! Start and exit of a server.

use std::{error::Error, path::Path, process::ExitCode, time::Duration};

use crate::{config::Layered, exit, log};

/// Time limit for writing the last log events to standard error.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// An error that ends a server, with its exit code.
pub trait Fatal: Error {
    /// Returns the exit code: [`exit::FAILED`] if a restart can help, otherwise [`exit::BAD_CONFIG`].
    fn exit_code(&self) -> u8;
}

/// Returns the exit code of a command that is not a server; on failure prints the reason to standard error.
pub fn finish<E: Fatal>(name: &str, result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::from(exit::OK),
        Err(error) => {
            let source = error.source().map(|source| format!(": {source}"));
            eprintln!("{name}: {error}{}", source.unwrap_or_default());
            ExitCode::from(error.exit_code())
        }
    }
}

/// Loads the configuration, starts logging and runs the server. With `check`, it only prints the configuration, and
/// `warn` logs the warnings that a start would log.
pub fn start<C: Layered, E: Fatal>(
    name: &str,
    file: Option<&Path>,
    overrides: C::Overrides,
    check: bool,
    warn: impl FnOnce(&C),
    run: impl FnOnce(C) -> Result<(), E>,
) -> ExitCode {
    let config = match C::load(file, overrides) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{name}: {error}");
            return ExitCode::from(exit::BAD_CONFIG);
        }
    };
    if check {
        print!("{}", config.to_toml());
        let (filter, format) = config.logging();
        log::start(filter, format);
        warn(&config);
        return ExitCode::from(exit::OK);
    }
    let (filter, format) = config.logging();
    log::start(filter, format);
    let code = match run(config) {
        Ok(()) => exit::OK,
        Err(error) => {
            let source = error.source().map(ToString::to_string);
            tracing::error!(source, "{error}");
            error.exit_code()
        }
    };
    log::flush(LAST_WORDS);
    ExitCode::from(code)
}
