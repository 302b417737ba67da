//! Waiting for another process on a host that may be slow, or have been asleep.
//!
//! What counts is time in which this agent itself ran. A host that is suspended, an agent that is stopped together with its supervisors, and one that
//! gets no processor wait longer by the clock, and never hold that against a process which stood still with them.

use std::time::Duration;

use tokio::time::sleep;

/// One step: however long the agent stood still meanwhile, it counts as this.
const STEP: Duration = Duration::from_millis(250);

/// Waits until the agent has run for so long, in steps of 250 ms.
pub(super) async fn awake(span: Duration) {
    for _ in 0..span.as_millis().div_ceil(STEP.as_millis()) {
        sleep(STEP).await;
    }
}
