//! Stop requests: signals, or the end of standard input.

use rustix::process::{Signal, set_parent_process_death_signal};
use tokio::{
    io::AsyncReadExt,
    signal::unix::{SignalKind, signal},
};

/// Waits for SIGTERM or SIGINT, or, with `with_stdin`, for the end of standard input (for a parent that may be killed).
/// Returns the name of the event.
pub async fn requested(with_stdin: bool) -> std::io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    if with_stdin {
        // The kernel sends SIGCONT when the parent ends, so that a stopped process resumes and ends as well.
        set_parent_process_death_signal(Some(Signal::CONT))?;
    }
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        () = end_of_stdin(), if with_stdin => "end of standard input",
    })
}

async fn end_of_stdin() {
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0; 64];
    while matches!(stdin.read(&mut ignored).await, Ok(1..)) {}
}
