//! Logs: to standard error, one event a line.
//!
//! Levels: `error` — something this process promised is not kept, somebody must act; `warn` — something outside is not as
//! it should be, and the process goes on; `info` — what an operator would want to see of a normal day, never in
//! proportion to heartbeats or requests; `debug` — one line a session, request or decision; `trace` — one a message.

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
