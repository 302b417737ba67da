//! Waiting until a change of a workload is complete or has failed.

use std::{future::Future, io::IsTerminal, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, transport::Channel};
use wyneos::v1::{self, workload_service_client::WorkloadServiceClient};
use wyneos_core::text::Quoted;

use super::workloads::{given_up, state};
use crate::{args::WaitArgs, context::Context, exit::Exit, failure::Failure, text};

/// Interval between two polls of a workload.
const LOOK: Duration = Duration::from_millis(500);

/// Progress of a change.
#[derive(Debug, PartialEq, Eq)]
enum Settled {
    /// In progress.
    No,
    /// Complete.
    Well,
    /// The canaries are healthy; an operator has to promote.
    Canaries,
    /// Failed permanently.
    Failed(String),
}

/// Returns whether a change to this revision is complete, given the number of healthy canaries.
fn settled(workload: &v1::Workload, revision: u64, canary: u32, canaries: u32) -> Settled {
    // A failure remains on record even when all instances are healthy again.
    if workload.failed_revision == revision {
        return Settled::Failed(text::clean(&workload.failed_because));
    }
    if !workload.rolled_back.is_empty() {
        return Settled::Failed(text::clean(&workload.rolled_back));
    }
    if workload.deleted {
        return Settled::Failed("it is being deleted".to_owned());
    }
    if workload.revision > revision {
        return Settled::Failed(format!("another change followed: revision {}", workload.revision));
    }
    if workload.kind == "batch" {
        let failed = given_up(workload);
        return match (workload.complete.saturating_add(failed) >= workload.desired, failed) {
            (false, _) => Settled::No,
            (true, 0) => Settled::Well,
            (true, _) => Settled::Failed(state(workload)),
        };
    }
    let all = workload.healthy >= workload.desired && workload.unwell == 0;
    if all && workload.stable_revision == workload.revision {
        return Settled::Well;
    }
    let waits = canary > 0 && workload.stable_revision > 0 && (canary..workload.desired).contains(&workload.current);
    if all && waits && canaries >= canary {
        Settled::Canaries
    } else {
        Settled::No
    }
}

/// Number of healthy instances of a revision that were never restarted.
fn canaries(answer: &v1::GetWorkloadResponse, revision: u64) -> u32 {
    let is_well = |one: &&v1::Assignment| {
        let status = one.status.as_ref();
        one.revision == revision && status.is_some_and(|status| status.healthy && status.restarts == 0)
    };
    answer.assignments.iter().filter(is_well).count() as u32
}

/// Follows a workload, and reports its state on standard error whenever that changes.
struct Follower<'a> {
    context: &'a Context,
    client: WorkloadServiceClient<Channel>,
    name: &'a str,
    what: &'a str,
    told: String,
}

impl Follower<'_> {
    /// The workload and its instances; `None` if there is no workload of that name.
    async fn look(&mut self) -> Result<Option<v1::GetWorkloadResponse>, Failure> {
        let request = v1::GetWorkloadRequest {
            name: self.name.to_owned(),
        };
        let asked = async {
            match self.client.get_workload(request).await {
                Err(status) if status.code() == Code::NotFound => Ok(tonic::Response::new(None)),
                answer => answer.map(|answer| answer.map(Some)),
            }
        };
        let answer = self.context.call(self.what, asked).await?;
        let answer = answer.filter(|answer| answer.workload.is_some());
        if let Some(workload) = answer.as_ref().and_then(|answer| answer.workload.as_ref()) {
            self.tell(state(workload));
        }
        Ok(answer)
    }

    fn tell(&mut self, how: String) {
        if self.told != how {
            text::stderr(&format!("{}: {how}", text::clean(self.name)));
            self.told = how;
        }
    }

    async fn until_settled(&mut self, revision: u64, canary: u32, min_healthy: Duration) -> Result<(), Failure> {
        let mut since = None;
        loop {
            let Some(answer) = self.look().await? else {
                return Err(self.failed("it was deleted"));
            };
            let workload = answer.workload.clone().unwrap_or_default();
            let now = settled(&workload, revision, canary, canaries(&answer, revision));
            let lasts = match now {
                Settled::Canaries => since.get_or_insert_with(Instant::now).elapsed() >= min_healthy,
                _ => {
                    since = None;
                    true
                }
            };
            match now {
                _ if !lasts => sleep(LOOK).await,
                Settled::No => sleep(LOOK).await,
                Settled::Well => return Ok(()),
                Settled::Canaries => {
                    let name = text::clean(self.name);
                    self.tell(format!(
                        "the canaries are healthy; `wynectl promote {name}` continues the update"
                    ));
                    return Ok(());
                }
                Settled::Failed(why) => return Err(self.failed(&why)),
            }
        }
    }

    async fn until_gone(&mut self) -> Result<(), Failure> {
        while self.look().await?.is_some() {
            sleep(LOOK).await;
        }
        self.tell("is deleted".to_owned());
        Ok(())
    }

    fn failed(&self, why: &str) -> Failure {
        Failure::new(Exit::Failed, format!("{}: {why}", self.what))
    }
}

/// The condition to wait for.
pub(super) enum Until {
    /// All instances of the workload, or its canaries if it has any, are healthy under this revision for this time.
    Settled(u64, u32, Duration),
    /// There is no workload of that name.
    Gone,
}

/// Waits as requested; `by_itself`: on a terminal also without a request.
pub(super) async fn wait(
    context: &Context,
    client: WorkloadServiceClient<Channel>,
    (what, name): (&str, &str),
    args: &WaitArgs,
    by_itself: bool,
    until: Until,
) -> Result<(), Failure> {
    let at_terminal = by_itself && !context.is_json() && std::io::stdout().is_terminal();
    if args.no_wait || !(args.wait || args.wait_timeout.is_some() || at_terminal) {
        return Ok(());
    }
    let mut follower = Follower {
        context,
        client,
        name,
        what,
        told: String::new(),
    };
    let waits: std::pin::Pin<Box<dyn Future<Output = Result<(), Failure>>>> = match until {
        Until::Settled(revision, canary, lasts) => Box::pin(follower.until_settled(revision, canary, lasts)),
        Until::Gone => Box::pin(follower.until_gone()),
    };
    let Some(most) = args.wait_timeout else {
        return waits.await;
    };
    match timeout_at(Instant::now() + most, waits).await {
        Ok(result) => result,
        Err(_) => {
            let why = format!("workload {} is not complete after {}", Quoted(name), text::span(most));
            Err(Failure::new(Exit::Failed, format!("{what}: {why}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> v1::Workload {
        v1::Workload {
            name: "web".to_owned(),
            kind: "service".to_owned(),
            revision: 3,
            stable_revision: 2,
            desired: 4,
            running: 4,
            healthy: 4,
            current: 4,
            ..v1::Workload::default()
        }
    }

    #[test]
    fn a_service_is_through_when_it_is_stable_or_has_failed() {
        assert_eq!(settled(&service(), 3, 0, 1), Settled::No);
        let stable = v1::Workload {
            stable_revision: 3,
            ..service()
        };
        assert_eq!(settled(&stable, 3, 0, 1), Settled::Well);
        let one_lost = v1::Workload {
            healthy: 3,
            unwell: 1,
            ..stable.clone()
        };
        assert_eq!(settled(&one_lost, 3, 0, 1), Settled::No);
        let canary = v1::Workload {
            current: 1,
            ..service()
        };
        assert_eq!(settled(&canary, 3, 1, 1), Settled::Canaries);
        assert_eq!(settled(&canary, 3, 0, 1), Settled::No);
        assert_eq!(settled(&canary, 3, 1, 0), Settled::No);
        // The update was rolled back, and all instances are healthy again.
        let back = v1::Workload {
            revision: 4,
            stable_revision: 4,
            failed_revision: 3,
            failed_because: "it failed 3 times".to_owned(),
            ..service()
        };
        assert_eq!(settled(&back, 3, 0, 0), Settled::Failed("it failed 3 times".to_owned()));
        let back = v1::Workload {
            revision: 4,
            rolled_back: "no node takes it".to_owned(),
            ..service()
        };
        assert_eq!(settled(&back, 3, 0, 1), Settled::Failed("no node takes it".to_owned()));
        let other = v1::Workload { revision: 4, ..stable };
        assert!(matches!(settled(&other, 3, 0, 1), Settled::Failed(_)));
    }

    #[test]
    fn a_batch_is_through_when_every_part_is_done_or_has_failed_for_good() {
        let batch = |complete, failed| {
            let waiting = v1::Waiting {
                slots: failed,
                given_up: true,
                ..v1::Waiting::default()
            };
            v1::Workload {
                kind: "batch".to_owned(),
                complete,
                waiting: vec![waiting],
                ..service()
            }
        };
        assert_eq!(settled(&batch(3, 0), 3, 0, 1), Settled::No);
        assert_eq!(settled(&batch(4, 0), 3, 0, 1), Settled::Well);
        assert!(matches!(settled(&batch(3, 1), 3, 0, 1), Settled::Failed(_)));
    }
}
