//! Logs: to standard error, one event per line.
//!
//! Levels: `error` — this process cannot keep a guarantee, and an operator must act; `warn` — something outside the
//! process is not as it should be, and the process continues; `info` — events that an operator wants to see during
//! normal operation, never in proportion to heartbeats or requests; `debug` — one line per session, request or
//! decision; `trace` — one line per message.

mod aside;

use std::io::IsTerminal;

pub use aside::{aside, flush};
use tracing_subscriber::EnvFilter;

use crate::config::{BadConfig, LogFormat};

/// Checks a log filter.
pub fn check(filter: &str) -> Result<(), BadConfig> {
    let parsed = EnvFilter::try_new(filter).map(drop);
    parsed.map_err(|error| BadConfig::field("log", format!("{filter:?} is no log filter: {error}")))
}

/// Starts logging. Called once, before anything is logged.
pub fn start(filter: &str, format: LogFormat) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(aside::writer);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).init(),
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
            .init(),
    }
}
