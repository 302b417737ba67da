//! The state of a workload in words.

use wyneos::v1;

use crate::text::{self, clean};

/// Instances that end repeatedly, their number of failures, and the reason.
fn failing(workload: &v1::Workload) -> Option<String> {
    let again: Vec<&v1::Waiting> = workload
        .waiting
        .iter()
        .filter(|waiting| waiting.failures > 0 && !waiting.given_up)
        .collect();
    let number = u64::from(workload.failing) + again.iter().map(|waiting| u64::from(waiting.slots)).sum::<u64>();
    let mut why: Vec<String> = again.iter().map(|waiting| clean(&waiting.reason)).collect();
    if workload.failing > 0 {
        let restarts = text::count(workload.failing_restarts, "restart");
        let last = match workload.failure.as_str() {
            "" => "its process ended".to_owned(),
            failure => clean(failure),
        };
        why.insert(0, format!("{restarts}, the last because of: {last}"));
    }
    (number > 0).then(|| format!("failing: {}; {}", text::count(number, "instance"), why.join("; ")))
}

/// Parts of a batch that failed permanently.
pub(in crate::commands) fn given_up(workload: &v1::Workload) -> u32 {
    let over = workload.waiting.iter().filter(|waiting| waiting.given_up);
    over.map(|waiting| waiting.slots).sum()
}

/// The parts of a batch: done, failed with the reasons, and waiting with the reasons.
fn batch(workload: &v1::Workload) -> String {
    let reasons = |given_up: bool| {
        let those = workload
            .waiting
            .iter()
            .filter(move |waiting| waiting.given_up == given_up);
        let reasons: Vec<String> = those.map(|waiting| clean(&waiting.reason)).collect();
        reasons.join("; ")
    };
    let mut told = format!("{} of {} done", workload.complete, workload.desired);
    if let Some(unsure) = unsure(workload) {
        told += &format!(", {unsure}");
    }
    let failed = given_up(workload);
    if failed > 0 {
        told += &format!(", {failed} failed: {}", reasons(true));
    }
    if let Some(failing) = failing(workload) {
        return format!("{told}; {failing}");
    }
    let waiting: u32 = workload.waiting.iter().map(|waiting| waiting.slots).sum();
    match waiting.saturating_sub(failed) {
        0 => told,
        1 => format!("{told}; 1 waits: {}", reasons(false)),
        more => format!("{told}; {more} wait: {}", reasons(false)),
    }
}

/// Counts of a workload's instances.
pub(super) fn instances(workload: &v1::Workload) -> String {
    let (desired, running, healthy) = (workload.desired, workload.running, workload.healthy);
    match workload.kind.as_str() {
        "batch" => format!(
            "{desired} desired, {} done, {} failed, {running} running",
            workload.complete,
            given_up(workload)
        ),
        _ => {
            let unsure = unsure(workload).map_or_else(String::new, |unsure| format!(", {unsure}"));
            format!("{desired} desired, {running} running, {healthy} healthy{unsure}")
        }
    }
}

/// Counts of instances that are lost or unknown.
fn unsure(workload: &v1::Workload) -> Option<String> {
    let counts = [(workload.lost, "lost"), (workload.unknown, "unknown")];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let told: Vec<String> = counts.map(|(count, what)| format!("{count} {what}")).collect();
    (!told.is_empty()).then(|| told.join(", "))
}

/// The state of a workload in a few words.
pub(in crate::commands) fn state(workload: &v1::Workload) -> String {
    match workload.oom_kills {
        0 => state_but_for_memory(workload),
        kills => format!("{}; {}", state_but_for_memory(workload), out_of_memory(kills)),
    }
}

/// Number of processes that were killed, whether or not their instances noticed.
pub(in crate::commands) fn out_of_memory(kills: u32) -> String {
    match kills {
        1 => "1 process was killed: out of memory".to_owned(),
        _ => format!("{kills} processes were killed: out of memory"),
    }
}

fn state_but_for_memory(workload: &v1::Workload) -> String {
    let waiting: u32 = workload.waiting.iter().map(|waiting| waiting.slots).sum();
    if workload.deleted {
        return "is being deleted".to_owned();
    }
    if workload.kind == "batch" {
        return batch(workload);
    }
    if let Some(failing) = failing(workload) {
        return failing;
    }
    if waiting > 0 {
        let first = workload
            .waiting
            .first()
            .map(|waiting| clean(&waiting.reason))
            .unwrap_or_default();
        let verb = if waiting == 1 { "waits" } else { "wait" };
        return format!("{waiting} {verb}: {first}");
    }
    if !workload.rolled_back.is_empty() {
        return format!("the last update failed: {}", clean(&workload.rolled_back));
    }
    if workload.revision != workload.stable_revision {
        let phase = match workload.stable_revision {
            0 => "starting",
            _ => "updating",
        };
        let all = workload.healthy >= workload.desired && workload.current >= workload.desired;
        return match all {
            true => format!("{phase}: all are healthy, and must remain so for `min_healthy`"),
            false => phase.to_owned(),
        };
    }
    if workload.healthy < workload.desired {
        return match unsure(workload) {
            Some(unsure) => format!("recovering: {unsure}"),
            None => "recovering".to_owned(),
        };
    }
    "well".to_owned()
}
