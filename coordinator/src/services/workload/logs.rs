//! Output of instances for readers: of one instance, or of a slot from one instance to the next.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};
use tonic::{Code, Status};
use wyneos::v1;
use wyneos_core::{
    command::ReadLog,
    workload::{Assignment, AssignmentRow, Goal, Kind, View, log},
};

use super::super::{Services, stopped, stops};
use crate::{
    answers::{Message, Taken},
    board,
    gate::Caller,
    status,
};

/// Interval at which new output of an instance is polled.
const FOLLOW: Duration = Duration::from_millis(500);

/// The complete retained output.
const EVERYTHING: u64 = u64::MAX;

/// A reader of an instance's output. Each chunk is requested when there is room for it, so nothing waits in a queue.
pub(super) struct LogReader {
    services: Services,
    caller: Caller,
    /// The instance's id, or the name that the caller used.
    id: String,
    stream: log::Stream,
    from: log::From,
    previous: bool,
    follow: bool,
    /// Whether the caller named a slot rather than an instance, and the reader follows the slot.
    of_slot: bool,
    /// Whether something was read: a node that does not answer is then waited for.
    begun: bool,
    /// The last known state of the instance.
    row: Option<Arc<AssignmentRow>>,
    /// Whether the instance is no longer known.
    gone: bool,
    /// The next instance that is read, of which the caller has not been informed yet.
    moved: Option<Arc<AssignmentRow>>,
    /// The reason for which another instance is read than the caller named.
    before: Option<String>,
    /// Set when everything was read and nothing more is expected.
    ended: bool,
    stopping: watch::Receiver<bool>,
    _permit: Taken,
}

/// The successor of an instance in its slot.
enum Next {
    /// This instance.
    Is(Arc<AssignmentRow>),
    /// A successor is expected, or this instance continues.
    Awaited,
    /// None.
    Nothing,
}

fn same_slot(row: &AssignmentRow, record: &Assignment) -> bool {
    let of = &row.record;
    of.workload == record.workload && of.slot == record.slot && of.orphan.is_none()
}

/// The instance after this one.
fn after(view: &View, record: &Assignment) -> Option<Arc<AssignmentRow>> {
    let mut rows = view.assignments.iter();
    rows.find(|row| row.record.id > record.id && same_slot(row, record))
        .cloned()
}

/// The retained instance before this one.
pub(super) fn before(view: &View, record: &Assignment) -> Option<Arc<AssignmentRow>> {
    let rows = view.assignments.iter().rev();
    let mut rows = rows.skip_while(|row| row.record.id >= record.id);
    rows.find(|row| same_slot(row, record)).cloned()
}

/// Returns whether an instance that has ended will have a successor.
fn is_to_follow(view: &View, record: &Assignment) -> bool {
    let Some(workload) = view
        .workload(&record.workload)
        .filter(|workload| !workload.record.deleted)
    else {
        return false;
    };
    let Some(spec) = workload.record.spec() else {
        return false;
    };
    match (spec.kind, &record.end) {
        (Kind::Daemon, _) => true,
        _ if record.slot >= workload.desired => false,
        (Kind::Batch { retries, .. }, Some(end)) if record.goal == Goal::Run => {
            !end.complete && !end.unknown && record.attempt < retries
        }
        _ => true,
    }
}

impl LogReader {
    pub(super) fn new(services: &Services, caller: Caller, request: v1::ReadLogsRequest, permit: Taken) -> LogReader {
        let stream = request.stream().try_into().unwrap_or_default();
        let bytes = match request.tail_bytes {
            0 => EVERYTHING,
            bytes => bytes,
        };
        let previous = request.previous;
        // A name and slot may refer to another instance later.
        let work = services.board.work();
        let row = work.assignment(&request.assignment).cloned();
        LogReader {
            services: services.clone(),
            caller,
            of_slot: request.assignment.contains('.'),
            id: row.as_ref().map_or(request.assignment, |row| row.record.id.to_string()),
            row,
            gone: false,
            stream,
            from: log::From::Tail { bytes, previous },
            previous,
            follow: request.follow,
            begun: false,
            moved: None,
            before: None,
            ended: false,
            stopping: services.stopping.clone(),
            _permit: permit,
        }
    }

    /// Reads one chunk of an instance's output.
    async fn read(&self) -> Result<log::Chunk, Status> {
        let command = ReadLog {
            assignment: self.id.clone(),
            stream: self.stream,
            from: self.from,
            within: self.previous,
        };
        self.services.ask(&self.caller, command).await
    }

    fn look(&mut self) {
        let row = self.services.board.work().assignment(&self.id).cloned();
        self.gone = row.is_none();
        self.row = row.or(self.row.take());
    }

    /// The next chunk; `None` if the instance has ended, or everything was read and nothing is waited for.
    pub(super) async fn next(&mut self) -> Result<Option<Message>, Status> {
        while !self.ended {
            // Checked first, so that output from before its end is read in any case.
            self.look();
            let mut stopping = self.stopping.clone();
            let chunk = tokio::select! {
                chunk = self.read() => chunk,
                () = stops(&mut stopping) => return Err(stopped()),
            };
            let chunk = match chunk {
                Ok(chunk) if chunk.none_before => {
                    self.go_back()?;
                    continue;
                }
                Ok(chunk) => chunk,
                Err(status) => {
                    self.failed(status).await?;
                    continue;
                }
            };
            self.begun = true;
            self.from = log::From::Position(chunk.next);
            if !chunk.data.is_empty() {
                return Ok(Some(self.message(chunk.data)));
            }
            if !chunk.at_end {
                continue;
            }
            let over = self.gone || self.row.as_ref().is_none_or(|row| row.record.end.is_some());
            self.ended = !self.follow || self.previous || over && !self.goes_on();
            if self.moved.is_some() {
                // The caller is informed before any output of it.
                return Ok(Some(self.message(Vec::new())));
            }
            if !self.ended {
                self.wait().await?;
            }
        }
        Ok(None)
    }

    fn message(&mut self, data: Vec<u8>) -> Message {
        let mut answer = v1::ReadLogsResponse {
            data,
            ..v1::ReadLogsResponse::default()
        };
        if let Some(row) = self.moved.take() {
            answer.assignment_id = row.record.id.to_string();
            answer.node_name = self.node_name(&row);
        }
        self.services.message(&answer)
    }

    fn node_name(&self, row: &AssignmentRow) -> String {
        let present = self.services.present().ok();
        let node = present
            .as_ref()
            .and_then(|(_, nodes)| board::node(&nodes.rows, row.record.node));
        node.map_or_else(|| row.record.node.to_string(), |node| node.record.facts.name.clone())
    }

    async fn wait(&mut self) -> Result<(), Status> {
        tokio::select! {
            () = sleep(FOLLOW) => Ok(()),
            () = stops(&mut self.stopping) => Err(stopped()),
        }
    }

    /// The successor of the instance, for readers that follow its slot.
    fn successor(&self) -> Next {
        let Some(row) = self.row.as_ref().filter(|_| self.of_slot && self.follow) else {
            return Next::Nothing;
        };
        let work = self.services.board.work();
        let is_there = !self.gone && row.record.end.is_none();
        match after(&work, &row.record) {
            Some(next) => Next::Is(next),
            None if is_there || is_to_follow(&work, &row.record) => Next::Awaited,
            None => Next::Nothing,
        }
    }

    /// Continues with the instance after one that is over. False if there is none and none is expected.
    fn goes_on(&mut self) -> bool {
        match self.successor() {
            Next::Nothing => false,
            Next::Awaited => true,
            Next::Is(next) => {
                self.id = next.record.id.to_string();
                self.from = log::From::Position(log::Position::default());
                self.moved = Some(next);
                true
            }
        }
    }

    /// Changes to the previous instance in the slot, on whichever node that ran, because the instance has had at most
    /// one process.
    fn go_back(&mut self) -> Result<(), Status> {
        let row = self.row.as_ref();
        let found = row.and_then(|row| before(&self.services.board.work(), &row.record));
        let (Some(found), log::From::Tail { bytes, .. }) = (found, self.from) else {
            let message = "there was no previous process, and no instance before it in its slot is retained";
            return Err(status::unavailable("LOG", message));
        };
        let (id, node) = (found.record.id, self.node_name(&found));
        self.before = Some(format!("instance {id}, previously in its slot, on node {node}"));
        self.id = id.to_string();
        self.from = log::From::Tail { bytes, previous: false };
        self.moved = Some(found);
        Ok(())
    }

    /// Handles a failed read. A reader that follows a slot continues with the next instance, or waits.
    async fn failed(&mut self, status: Status) -> Result<(), Status> {
        let passes = [Code::Unavailable, Code::FailedPrecondition, Code::NotFound].contains(&status.code());
        if self.begun && self.follow && passes {
            match self.successor() {
                Next::Is(_) => {
                    self.goes_on();
                    return Ok(());
                }
                Next::Awaited => return self.wait().await,
                Next::Nothing if self.gone => {
                    self.ended = true;
                    return Ok(());
                }
                Next::Nothing => {}
            }
        }
        Err(match &self.before {
            Some(before) => status::within(before, &status),
            None => status,
        })
    }
}
