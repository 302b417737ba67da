//! Instances of workloads: agents' reports, assignments, and readers' views.

use std::sync::Arc;

use prost::Message as _;
use wyneos_core::{
    coordinator::{Changed, FromAgent, PlannedStart, PlannedStop, Work},
    id::{NodeId, Revision},
    placement::Waiting,
    text::{SENTENCE, is_hidden, shortened},
    workload::{
        Assigned, AssignmentId, AssignmentRow, Doubt, Exit, Goal, Kind, Phase, Status, WorkloadRow, limits, log,
    },
};

use super::{
    ConvertError, check,
    node::same,
    time::{timestamp, timestamp_in},
    workload::{Values, score_out, spec_known, spec_out},
};
use crate::v1::{self, log_request, process_exit};

same!(
    Phase,
    v1::InstancePhase {
        Assigned,
        Starting,
        Running,
        Backoff,
        Stopping,
        Ended
    } but { Lost, Unknown }
);
same!(Goal, v1::Goal { Run, Stop });
same!(log::Stream, v1::LogStream { Stdout, Stderr });

/// Maximum number of instances per report.
const INSTANCES: usize = 64;

/// Maximum number of instances described per message.
const DESCRIBED: usize = 32;

/// Maximum length of a status detail, in bytes.
const DETAIL: usize = 1_024;

/// Maximum number of instances assigned per message.
const ASSIGNED: usize = 1_024;

/// Maximum size of the starts and stops listed in an answer, in bytes; further ones are counted. gRPC clients accept 4
/// MiB by default.
const LISTED: usize = 2 * 1024 * 1024;

/// Maximum size of the changes in an answer, including their lists, in bytes.
const CHANGES: usize = 3 * 1024 * 1024;

/// Size of a nested message's tag and length, in bytes.
const FRAME: usize = 6;

/// Replaces hidden characters in a text and truncates it.
fn plain(text: &str) -> String {
    let mut plain: String = text.chars().map(|one| if is_hidden(one) { ' ' } else { one }).collect();
    let mut end = plain.len().min(DETAIL);
    while !plain.is_char_boundary(end) {
        end -= 1;
    }
    plain.truncate(end);
    plain
}

pub(super) fn status_out(status: &Status) -> v1::InstanceStatus {
    let how = status.exit.map(|exit| match exit {
        Exit::Code(code) => process_exit::How::Code(code),
        Exit::Signal(signal) => process_exit::How::Signal(signal),
    });
    v1::InstanceStatus {
        phase: v1::InstancePhase::from(status.phase).into(),
        healthy: status.healthy,
        since: Some(timestamp(status.since)),
        pid: status.pid,
        restarts: status.restarts,
        exit: how.map(|how| v1::ProcessExit { how: Some(how) }),
        complete: status.complete,
        outcome_unknown: status.unknown,
        interrupted: status.interrupted,
        started_alone: status.started_alone,
        oom_kills: status.oom_kills,
        detail: plain(&status.detail),
        ports: status.ports.iter().map(|port| u32::from(*port)).collect(),
        last_stderr: status.last_stderr.clone(),
    }
}

/// Converts an instance's status as known.
fn shown_out(row: &AssignmentRow) -> v1::InstanceStatus {
    let mut status = status_out(&row.status);
    // Part of a log; callers who may read logs get it from `quoted`.
    status.last_stderr.clear();
    match row.doubt {
        Some(Doubt::Lost) => status.set_phase(v1::InstancePhase::Lost),
        Some(Doubt::Unknown) => status.set_phase(v1::InstancePhase::Unknown),
        None => {}
    }
    status
}

fn status_in(field: &str, status: v1::InstanceStatus) -> Result<Status, ConvertError> {
    let within = |name: &str| format!("{field}.{name}");
    let phase = status
        .phase()
        .try_into()
        .map_err(|_| ConvertError::new(within("phase"), format!("{} is not a value of this enum", status.phase)))?;
    let since = check::require(&within("since"), status.since)?;
    check::at_most(&within("ports"), status.ports.len(), limits::PORTS)?;
    let ports: Result<Vec<u16>, _> = status.ports.iter().map(|port| u16::try_from(*port)).collect();
    Ok(Status {
        phase,
        healthy: status.healthy,
        since: timestamp_in(&within("since"), &since)?,
        pid: status.pid,
        restarts: status.restarts,
        exit: status.exit.and_then(|exit| exit.how).map(|how| match how {
            process_exit::How::Code(code) => Exit::Code(code),
            process_exit::How::Signal(signal) => Exit::Signal(signal),
        }),
        complete: status.complete && !status.outcome_unknown,
        unknown: status.outcome_unknown,
        interrupted: status.interrupted,
        started_alone: status.started_alone,
        oom_kills: status.oom_kills,
        detail: check::text(&within("detail"), status.detail, DETAIL)?,
        ports: ports.map_err(|_| ConvertError::new(within("ports"), "not all between 0 and 65,535"))?,
        last_stderr: check::text(&within("last_stderr"), status.last_stderr, log::LAST_LINE)?,
    })
}

pub(super) fn instances_in(report: v1::InstanceReport) -> Result<FromAgent, ConvertError> {
    check::at_most("instances.instances", report.instances.len(), INSTANCES)?;
    let read = |(at, state): (usize, v1::InstanceState)| {
        let field = format!("instances.instances[{at}].status");
        let status = check::require(&field, state.status)?;
        Ok((AssignmentId(state.id), status_in(&field, status)?))
    };
    let instances = report.instances.into_iter().enumerate().map(read);
    Ok(FromAgent::Instances {
        instances: instances.collect::<Result<_, ConvertError>>()?,
        all: report.all,
    })
}

fn position_in(position: v1::LogPosition) -> log::Position {
    log::Position {
        life: position.life,
        part: position.part,
        offset: position.offset,
    }
}

fn position_out(position: log::Position) -> v1::LogPosition {
    v1::LogPosition {
        life: position.life,
        part: position.part,
        offset: position.offset,
    }
}

pub(super) fn chunk_in(chunk: v1::LogChunk) -> Result<log::Chunk, ConvertError> {
    check::at_most("log.data", chunk.data.len(), log::CHUNK)?;
    Ok(log::Chunk {
        number: chunk.number,
        data: chunk.data,
        next: chunk.next.map(position_in).unwrap_or_default(),
        at_end: chunk.at_end,
        error: check::text("log.error", chunk.error, DETAIL)?,
        none_before: chunk.none_before,
    })
}

pub(super) fn instances_out(instances: Vec<(AssignmentId, Status)>, all: bool) -> v1::InstanceReport {
    let state = |(id, status): (AssignmentId, Status)| v1::InstanceState {
        id: id.0,
        status: Some(status_out(&status)),
    };
    let instances = instances.into_iter().map(state).collect();
    v1::InstanceReport { instances, all }
}

pub(super) fn chunk_out(chunk: log::Chunk) -> v1::LogChunk {
    v1::LogChunk {
        number: chunk.number,
        data: chunk.data,
        next: Some(position_out(chunk.next)),
        at_end: chunk.at_end,
        error: plain(&chunk.error),
        none_before: chunk.none_before,
    }
}

fn assigned_out(assigned: Assigned) -> v1::AssignedInstance {
    v1::AssignedInstance {
        id: assigned.id.0,
        slot: assigned.slot,
        revision: assigned.revision.0,
        spec: Some(spec_out(&assigned.spec, Values::Shown)),
    }
}

fn assigned_in(field: &str, assigned: v1::AssignedInstance) -> Result<Assigned, ConvertError> {
    let field = format!("{field}.spec");
    let spec = check::require(&field, assigned.spec)?;
    Ok(Assigned {
        id: AssignmentId(assigned.id),
        slot: assigned.slot,
        revision: Revision(assigned.revision),
        spec: Arc::new(spec_known(spec).map_err(|error| error.within(&field))?),
    })
}

pub(super) fn described_out(instances: Vec<Assigned>) -> v1::InstanceDescription {
    let instances = instances.into_iter().map(assigned_out).collect();
    v1::InstanceDescription { instances }
}

pub(super) fn described_in(described: v1::InstanceDescription) -> Result<FromAgent, ConvertError> {
    check::at_most("described.instances", described.instances.len(), DESCRIBED)?;
    let (instances, refused) = accepted("described.instances", described.instances);
    Ok(FromAgent::Described { instances, refused })
}

/// Converts assignments; returns the accepted ones and the reasons against the others, so that one of an earlier
/// version does not block the rest.
fn accepted(field: &str, all: Vec<v1::AssignedInstance>) -> (Vec<Assigned>, Vec<(AssignmentId, String)>) {
    let (mut accepted, mut refused) = (Vec::new(), Vec::new());
    for (at, one) in all.into_iter().enumerate() {
        let id = AssignmentId(one.id);
        match assigned_in(&format!("{field}[{at}]"), one) {
            Ok(assigned) => accepted.push(assigned),
            Err(error) => refused.push((id, shortened(&error.to_string(), SENTENCE))),
        }
    }
    (accepted, refused)
}

pub(super) fn work_out(work: Work) -> v1::NodeWork {
    let stop = |(id, reason): (AssignmentId, String)| v1::StopInstance {
        id: id.0,
        reason: plain(&reason),
    };
    v1::NodeWork {
        assign: work.assign.into_iter().map(assigned_out).collect(),
        stop: work.stop.into_iter().map(stop).collect(),
        forget: work.forget.into_iter().map(|id| id.0).collect(),
        describe: work.describe.into_iter().map(|id| id.0).collect(),
        repeated: work.repeated.into_iter().map(|id| id.0).collect(),
    }
}

pub(super) fn work_in(work: v1::NodeWork) -> Result<Work, ConvertError> {
    check::at_most("work.assign", work.assign.len(), ASSIGNED)?;
    check::at_most("work.describe", work.describe.len(), ASSIGNED)?;
    let (assign, refused) = accepted("work.assign", work.assign);
    let stop = work.stop.into_iter().map(|stop| (AssignmentId(stop.id), stop.reason));
    Ok(Work {
        assign,
        refused,
        stop: stop.collect(),
        forget: work.forget.into_iter().map(AssignmentId).collect(),
        describe: work.describe.into_iter().map(AssignmentId).collect(),
        repeated: work.repeated.into_iter().map(AssignmentId).collect(),
    })
}

pub(super) fn log_request_out(request: log::Request) -> v1::LogRequest {
    let from = match request.from {
        log::From::Position(position) => log_request::From::Position(position_out(position)),
        log::From::Tail { bytes, previous } => log_request::From::Tail(v1::LogTail { bytes, previous }),
    };
    v1::LogRequest {
        number: request.number,
        id: request.id.0,
        stream: v1::LogStream::from(request.stream).into(),
        from: Some(from),
        within: request.within,
    }
}

pub(super) fn log_request_in(request: v1::LogRequest) -> Result<log::Request, ConvertError> {
    let stream = request.stream().try_into().unwrap_or_default();
    let from = match check::require("log.from", request.from)? {
        log_request::From::Position(position) => log::From::Position(position_in(position)),
        log_request::From::Tail(tail) => log::From::Tail {
            bytes: tail.bytes,
            previous: tail.previous,
        },
    };
    Ok(log::Request {
        number: request.number,
        id: AssignmentId(request.id),
        stream,
        from,
        within: request.within,
    })
}

/// Converts an instance; a caller who may read logs (`Shown`) also gets the last line of an ended process.
pub fn quoted(row: &AssignmentRow, values: Values) -> v1::Assignment {
    let mut one = v1::Assignment::from(row);
    if let (Values::Shown, Some(status)) = (values, &mut one.status) {
        status.last_stderr.clone_from(&row.status.last_stderr);
    }
    one
}

impl From<&AssignmentRow> for v1::Assignment {
    fn from(row: &AssignmentRow) -> v1::Assignment {
        let record = &row.record;
        let port = |(name, port): (&String, &u16)| v1::InstancePort {
            name: name.clone(),
            port: (*port).into(),
        };
        v1::Assignment {
            id: record.id.to_string(),
            workload: record.workload.to_string(),
            slot: record.slot,
            revision: record.revision.0,
            node_id: record.node.to_string(),
            goal: v1::Goal::from(record.goal).into(),
            status: Some(shown_out(row)),
            ports: row.ports.iter().zip(&row.status.ports).map(port).collect(),
            placed: Some(timestamp(record.placed)),
            reason: record.reason.clone(),
            score: Some(score_out(record.score)),
            decision_id: record.decision.0,
            replaces: record.replaces.map(|id| id.to_string()).unwrap_or_default(),
            attempt: record.attempt,
            stop_reason: record.stop_reason.clone(),
            orphaned: record.orphan.is_some(),
        }
    }
}

fn waiting_out(waiting: &Waiting) -> v1::Waiting {
    v1::Waiting {
        slots: waiting.slots,
        reason: waiting.reason.clone(),
        nodes: waiting.nodes.iter().cloned().map(rejection_out).collect(),
        more_nodes: 0,
        failures: waiting.failures,
        given_up: waiting.given_up,
    }
}

fn rejection_out((id, node_name, reason): (NodeId, String, String)) -> v1::Rejection {
    v1::Rejection {
        node_id: id.to_string(),
        node_name,
        reason,
    }
}

impl From<&WorkloadRow> for v1::Workload {
    fn from(row: &WorkloadRow) -> v1::Workload {
        let record = &row.record;
        let kind = match record.spec().map(|spec| spec.kind) {
            Some(Kind::Service { .. }) => "service",
            Some(Kind::Batch { .. }) => "batch",
            Some(Kind::Daemon) => "daemon",
            None => "",
        };
        v1::Workload {
            name: row.name().to_owned(),
            revision: record.revision.0,
            stable_revision: record.stable.0,
            time: Some(timestamp(record.time)),
            declared_by: record.by.clone(),
            deleted: record.deleted,
            desired: row.desired,
            running: row.running,
            healthy: row.healthy,
            current: row.current,
            complete: row.complete,
            waiting: row.waiting.iter().map(waiting_out).collect(),
            rolled_back: record.rolled_back.clone(),
            kind: kind.to_owned(),
            failing: row.failing,
            failing_restarts: row.restarts,
            oom_kills: row.oom_kills,
            failed_revision: record.failed.as_ref().map_or(0, |(revision, _)| revision.0),
            failed_because: record.failed.as_ref().map_or_else(String::new, |(_, why)| why.clone()),
            failure: row.failure.clone(),
            lost: row.lost,
            unknown: row.unknown,
            unwell: row.unwell,
            run: record.run,
        }
    }
}

/// Converts the change of a workload.
pub fn change_out(change: Changed) -> v1::WorkloadChange {
    change_within(change, &mut { LISTED })
}

/// Changes of workloads, limited to the size of an answer.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) listed: Vec<v1::WorkloadChange>,
    /// Number of omitted changes, and of their starts, stops and waiting slots.
    pub(super) more: u32,
    pub(super) more_starts: u32,
    pub(super) more_stops: u32,
    pub(super) more_waiting: u32,
}

/// Converts changes of workloads for one answer.
pub(super) fn changes_out(changes: Vec<Changed>) -> Changes {
    let (mut lists, mut room, mut out) = (LISTED, CHANGES, Changes::default());
    for change in changes {
        let (starts, stops) = (number(change.starts.len()), number(change.stops.len()));
        let waiting = change.waiting.iter().map(|waiting| waiting.slots).sum();
        let change = change_within(change, &mut lists);
        let bytes = change.encoded_len() + FRAME;
        if out.more == 0 && bytes <= room {
            room -= bytes;
            out.listed.push(change);
        } else {
            out.more += 1;
            out.more_starts = out.more_starts.saturating_add(starts);
            out.more_stops = out.more_stops.saturating_add(stops);
            out.more_waiting = out.more_waiting.saturating_add(waiting);
        }
    }
    out
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Converts waiting slots with their nodes while there is room; returns the number of other slots.
fn waiting_within(all: Vec<Waiting>, room: &mut usize) -> (Vec<v1::Waiting>, u32) {
    let (mut listed_waiting, mut more) = (Vec::new(), 0u32);
    for one in all {
        let mut waiting = v1::Waiting {
            slots: one.slots,
            reason: one.reason,
            failures: one.failures,
            given_up: one.given_up,
            ..v1::Waiting::default()
        };
        // In addition to its own fields: the number of omitted nodes.
        let bytes = waiting.encoded_len() + 2 * FRAME;
        if more > 0 || bytes > *room {
            more = more.saturating_add(waiting.slots);
            continue;
        }
        *room -= bytes;
        (waiting.nodes, waiting.more_nodes) = listed(one.nodes.into_iter().map(rejection_out), room);
        listed_waiting.push(waiting);
    }
    (listed_waiting, more)
}

/// Lists items while there is room; returns them with the number of the others.
fn listed<T: prost::Message>(all: impl Iterator<Item = T>, room: &mut usize) -> (Vec<T>, u32) {
    let (mut listed, mut more) = (Vec::new(), 0);
    for one in all {
        let bytes = one.encoded_len() + FRAME;
        if more == 0 && bytes <= *room {
            *room -= bytes;
            listed.push(one);
        } else {
            more += 1;
        }
    }
    (listed, more)
}

fn change_within(change: Changed, room: &mut usize) -> v1::WorkloadChange {
    let start = |start: PlannedStart| v1::PlannedStart {
        workload: start.workload,
        slot: start.slot,
        node_id: start.node.to_string(),
        node_name: start.node_name,
        score: Some(score_out(start.score)),
        reason: start.reason,
    };
    let stop = |stop: PlannedStop| v1::PlannedStop {
        assignment_id: stop.id.to_string(),
        node_name: stop.node_name,
        reason: stop.reason,
        unreplaced: stop.unreplaced,
        slot: Some(stop.slot),
    };
    let (starts, more_starts) = listed(change.starts.into_iter().map(start), room);
    let (stops, more_stops) = listed(change.stops.into_iter().map(stop), room);
    let (waiting, more_waiting) = waiting_within(change.waiting, room);
    let (rejections, more_rejections) = listed(change.rejections.into_iter().map(rejection_out), room);
    v1::WorkloadChange {
        name: change.name,
        revision: change.revision.0,
        applied: change.applied,
        changed: change.changed,
        // Values are hidden: the deploying caller knows them, and output is often stored.
        spec: change.spec.map(|spec| spec_out(&spec, Values::Hidden)),
        starts,
        stops,
        later: change.later,
        waiting,
        rejections,
        event_sequence: change.event.0,
        adopted: change.adopted,
        replicas_before: change.replicas_before,
        more_starts,
        more_stops,
        more_waiting,
        more_rejections,
    }
}

#[cfg(test)]
mod tests;
