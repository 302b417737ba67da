//! Waiting for another process on a host that may be slow, or have been suspended.
//!
//! Only time in which this agent itself ran counts. During a suspend of the host, a stop of the agent together with its
//! supervisors, or a lack of processor time, the wait takes longer by the clock, and is never held against a process
//! that was stalled as well.

use std::time::Duration;

use tokio::time::sleep;

/// One step: it counts as this time, however long the agent was stalled meanwhile.
const STEP: Duration = Duration::from_millis(250);

/// Waits until the agent has run for this time, in steps of 250 ms.
pub(super) async fn awake(span: Duration) {
    for _ in 0..span.as_millis().div_ceil(STEP.as_millis()) {
        sleep(STEP).await;
    }
}
