//! WorkloadService: declarations, instances, and their output.

mod logs;

use std::{
    collections::{BTreeSet, VecDeque},
    ops::ControlFlow,
    sync::Arc,
};

use futures_util::stream;
use logs::LogReader;
use prost::Message as _;
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use wyneos::{
    convert::{self, Values},
    identity::sees_environment,
    v1::{self, workload_service_server::WorkloadService},
};
use wyneos_core::{
    autonomy::{Because, Decision, Evidence, Fact, Why},
    coherence::NodeRow,
    command::{ChangeWorkload, Rebalance, WhatIf, WorkloadVerb},
    event::EventBody,
    id::{DecisionId, NodeId},
    text::{Quoted, looked_up},
    workload::{AssignmentId, AssignmentRow, Goal, Rows, Secret, View, limits::NAME},
};

use super::{PAGE_BYTES, Services, caller_of, flight_of, page, page_size, page_token, scan::Scan, stopped, stops};
use crate::{
    answers::{self, Answers, Flight, Message, Taken},
    board::{self, Work},
    gate::Caller,
    reads::{Asker, Sort, Still},
    status,
    store::{Along, History, Of, StoreError},
};

/// Maximum number of instances in the answer for one workload.
const SHOWN: usize = 1_000;

/// Limits of events about a workload that an explanation examines and returns.
const LOOKED_AT: usize = 2_000;
const DECISIONS: usize = 20;
const EVENTS: usize = 50;

/// Maximum length of a dot and a slot's number, as in `web.3`.
const SLOT: usize = 11;

/// Maximum number of decisions among the causes of an explanation.
const CAUSES: usize = 20;

/// An instance, as identified in events about its workload.
struct Mark {
    id: AssignmentId,
    workload: Arc<str>,
    slot: u32,
    decision: DecisionId,
}

impl Mark {
    fn is_of(&self, decision: &Decision) -> bool {
        decision.id == self.decision || decision.evidence.iter().any(|evidence| self.is_told_by(evidence))
    }

    fn is_told_by(&self, evidence: &Evidence) -> bool {
        match &evidence.fact {
            // Earlier versions recorded only a sentence.
            Fact::Told(fact) => fact.contains(&format!("{}.{} ", self.workload, self.slot)),
            fact => fact
                .instance()
                .is_some_and(|one| (&one.workload, one.slot) == (&self.workload, self.slot)),
        }
    }
}

/// The earlier decisions that led to a decision, each with a node whose events include it. For a decision about several
/// instances, causes that concern only instances other than `mark` are omitted.
fn led_to<'a>(
    decision: &'a Decision,
    mark: Option<&'a Mark>,
) -> impl Iterator<Item = (DecisionId, Option<NodeId>)> + 'a {
    decision.caused_by.iter().filter_map(move |because| {
        let Because::Decision(id) = *because else { return None };
        let is_why = |evidence: &&Evidence| evidence.fact.why().and_then(Why::because) == Some(*because);
        let mut moves = decision.evidence.iter().filter(is_why).peekable();
        let node = moves.peek().and_then(|one| Some(one.fact.why()?.loss()?.node));
        let is_of_others = moves.peek().is_some() && mark.is_some_and(|mark| !moves.any(|one| mark.is_told_by(one)));
        (!is_of_others).then_some((id, node.or(decision.node)))
    })
}

/// The last record of the decision with this id, among the events about a node.
fn decision_about(
    history: &dyn History,
    scan: &mut Scan<'_>,
    node: NodeId,
    id: DecisionId,
) -> Result<Option<Arc<Decision>>, StoreError> {
    let mut found = None;
    history.visit(Of::Node(node), Along::Before(u64::MAX), &mut |kept| {
        if !scan.takes(&kept) {
            return Ok(ControlFlow::Break(()));
        }
        if kept.is("decision")
            && let EventBody::Decision(decision) = kept.decode()?.body
            && decision.id == id
        {
            found = Some(decision);
        }
        Ok(match found {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        })
    })?;
    Ok(found)
}

/// The decisions that led to decisions, directly or indirectly: effects before causes.
fn causes(
    history: &dyn History,
    still: &Still,
    decisions: &[Arc<Decision>],
    mark: Option<&Mark>,
) -> Result<Vec<Arc<Decision>>, StoreError> {
    let mut scan = Scan::new(still, LOOKED_AT);
    let mut seen: BTreeSet<DecisionId> = decisions.iter().map(|decision| decision.id).collect();
    let mut wanted: VecDeque<(DecisionId, Option<NodeId>)> =
        decisions.iter().flat_map(|decision| led_to(decision, mark)).collect();
    let mut causes = Vec::new();
    while let Some((id, node)) = wanted.pop_front() {
        if causes.len() >= CAUSES {
            break;
        }
        let Some(node) = node.filter(|_| seen.insert(id)) else {
            continue;
        };
        if let Some(decision) = decision_about(history, &mut scan, node, id)? {
            wanted.extend(led_to(&decision, None));
            causes.push(decision);
        }
    }
    Ok(causes)
}

/// The history of a workload, or of one of its instances.
#[derive(Default)]
struct Happened {
    /// Whether there are events about it.
    any: bool,
    decisions: Vec<Arc<Decision>>,
    causes: Vec<Arc<Decision>>,
    others: Vec<v1::WorkloadHappening>,
}

fn happened(history: &dyn History, still: &Still, workload: &str, mark: Option<&Mark>) -> Result<Happened, StoreError> {
    let (mut told, mut scan) = (Happened::default(), Scan::new(still, LOOKED_AT));
    history.visit(Of::Work(workload), Along::Before(u64::MAX), &mut |kept| {
        told.any = true;
        let wants = (told.decisions.len() < DECISIONS, told.others.len() < EVENTS);
        if wants == (false, false) || !scan.takes(&kept) {
            return Ok(ControlFlow::Break(()));
        }
        if !(wants.0 && kept.is("decision") || wants.1 && kept.is("workload")) {
            return Ok(ControlFlow::Continue(()));
        }
        let event = kept.decode()?;
        match &event.body {
            EventBody::Decision(decision) if mark.is_none_or(|mark| mark.is_of(decision)) => {
                told.decisions.push(Arc::clone(decision));
            }
            EventBody::Workload { assignment, .. }
                if mark.is_none_or(|mark| assignment.is_none_or(|one| one == mark.id)) =>
            {
                told.others.push(v1::WorkloadHappening {
                    event_sequence: event.sequence.0,
                    time: Some(convert::timestamp(event.time)),
                    summary: event.summary.clone(),
                    assignment_id: assignment.map(|id| id.to_string()).unwrap_or_default(),
                });
            }
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    })?;
    told.causes = causes(history, still, &told.decisions, mark)?;
    Ok(told)
}

fn told(decisions: &[Arc<Decision>]) -> Vec<v1::Decision> {
    decisions.iter().map(|decision| (&**decision).into()).collect()
}

fn no_workload(name: &str) -> Status {
    status::not_found("UNKNOWN", format!("no workload {}", Quoted(name)))
}

/// The user that an instance's program runs as; empty if it is not known.
fn user(view: &View, row: &AssignmentRow, node: Option<&Arc<NodeRow>>) -> String {
    let record = &row.record;
    let declared = view.workload(&record.workload);
    let declared = declared.and_then(|workload| workload.record.revisions.get(&record.revision));
    match record.orphan.as_ref().or(declared) {
        None => String::new(),
        Some(spec) if !spec.user.is_empty() => spec.user.clone(),
        Some(_) => {
            let users = node.and_then(|node| node.record.facts.attributes.users.as_ref());
            users.map(|users| users.default.clone()).unwrap_or_default()
        }
    }
}

/// Returns whether a caller sees quotes of an instance's log: only those who may read it see its last line.
fn quotes(caller: &Caller) -> Values {
    match sees_environment(caller.role) {
        true => Values::Shown,
        false => Values::Hidden,
    }
}

/// An instance with its node's name, its user, and its addresses.
fn row(nodes: &[Arc<NodeRow>], view: &View, row: &AssignmentRow, values: Values) -> v1::AssignmentRow {
    let node = board::node(nodes, row.record.node);
    let host = node.and_then(|node| Some(node.record.facts.probe_address.rsplit_once(':')?.0));
    // No instance on a node in doubt is shown as healthy; an instance that is to end has no addresses.
    let is_found = row.status.healthy && row.record.goal == Goal::Run;
    let addresses = match host.filter(|_| is_found) {
        Some(host) => row.status.ports.iter().map(|port| format!("{host}:{port}")).collect(),
        None => Vec::new(),
    };
    v1::AssignmentRow {
        assignment: Some(convert::quoted(row, values)),
        node_name: node.map(|node| node.record.facts.name.clone()).unwrap_or_default(),
        addresses,
        user: user(view, row, node),
    }
}

/// The workload of a slot that is named as in `web.3` and has no instance, because it waits.
fn empty_slot<'a>(view: &View, name: &'a str) -> Result<&'a str, Status> {
    let unknown = || status::not_found("UNKNOWN", format!("no workload or instance {}", Quoted(name)));
    let (workload, slot) = name.rsplit_once('.').ok_or_else(unknown)?;
    let slot: u32 = slot.parse().map_err(|_| unknown())?;
    let row = view.workload(workload).ok_or_else(unknown)?;
    if slot >= row.desired {
        let message = format!(
            "workload {workload} has no instance {slot}: it has {} desired, counted from 0",
            row.desired
        );
        return Err(status::not_found("UNKNOWN", message));
    }
    Ok(workload)
}

/// Changes between two views, of one workload or (if empty) of all: as many as fit an answer of about `most` bytes.
/// With `more`, also the rows that the reader then has.
fn changes(
    before: &View,
    after: &View,
    workload: &str,
    most: usize,
    row: impl Fn(&AssignmentRow) -> v1::AssignmentRow,
) -> (v1::WatchAssignmentsResponse, Option<Rows>) {
    let of = |row: &&Arc<AssignmentRow>| workload.is_empty() || &*row.record.workload == workload;
    let mut old = before.assignments.iter().filter(of).peekable();
    let mut new = after.assignments.iter().filter(of).peekable();
    let (mut answer, mut bytes) = (v1::WatchAssignmentsResponse::default(), 0);
    loop {
        let ids = [old.peek(), new.peek()].map(|row| row.map(|row| row.record.id));
        let Some(id) = ids.into_iter().flatten().min() else {
            return (answer, None);
        };
        if bytes >= most {
            answer.more = true;
            let told = after.assignments.iter().filter(|row| row.record.id < id);
            let rest = before.assignments.iter().filter(|row| row.record.id >= id);
            return (answer, Some(told.chain(rest).cloned().collect()));
        }
        match (
            old.next_if(|row| row.record.id == id),
            new.next_if(|row| row.record.id == id),
        ) {
            (Some(old), Some(new)) if Arc::ptr_eq(old, new) => {}
            (_, Some(new)) => {
                let row = row(new);
                bytes += row.encoded_len();
                answer.changed.push(row);
            }
            (_, None) => {
                let id = id.to_string();
                bytes += id.len();
                answer.removed.push(id);
            }
        }
    }
}

impl Services {
    /// Removes the values of `env` from a plan whose caller may not see them. Declared variables keep their values, and
    /// others get one that no variable has: whether anything would change must not reveal whether a value was guessed.
    fn without_values(&self, command: &mut ChangeWorkload) {
        let WorkloadVerb::Apply(spec) = &mut command.verb else {
            return;
        };
        let work = self.board.work();
        let declared = work.workload(&spec.name).and_then(|row| row.record.spec());
        for (name, value) in &mut Arc::make_mut(spec).env {
            let known = declared.and_then(|declared| declared.env.get(name));
            *value = known.cloned().unwrap_or_else(|| Secret::HIDDEN.to_owned().into());
        }
    }
}

/// A subscriber of WatchAssignments. The view that its client has is held by the call's flight, which releases it when
/// the memory is needed.
struct AssignmentWatcher {
    services: Services,
    flight: Arc<Flight>,
    views: watch::Receiver<Arc<Work>>,
    workload: String,
    values: Values,
    /// Whether all instances were sent.
    told: bool,
    stopping: watch::Receiver<bool>,
    _permit: Taken,
}

impl AssignmentWatcher {
    async fn next(&mut self) -> Result<Message, Status> {
        loop {
            let after = Arc::clone(&self.views.borrow_and_update());
            let (_, nodes) = self.services.present()?;
            let before = self.flight.view();
            let nothing = View::default();
            let before = before.as_ref().map_or(&nothing, |before| &*before.view);
            let (mut answer, between) = changes(before, &after.view, &self.workload, PAGE_BYTES, |one| {
                row(&nodes.rows, &after.view, one, self.values)
            });
            // A client that was told that more follows must be told the end.
            let news = !self.told || !answer.changed.is_empty() || !answer.removed.is_empty();
            answer.all = !self.told;
            self.told = !answer.more;
            self.flight.hold_view(match between {
                Some(assignments) => {
                    let workloads = Vec::new();
                    let view = View { workloads, assignments };
                    Work::between(&self.services.ledger, view)
                }
                None => after,
            });
            if news {
                return Ok(self.services.message(&answer));
            }
            tokio::select! {
                changed = self.views.changed() => changed.map_err(|_| stopped())?,
                () = stops(&mut self.stopping) => return Err(stopped()),
            }
        }
    }
}

/// Refuses a name that matches several instances.
fn one_is_called(work: &View, name: &str) -> Result<(), Status> {
    let called = work.called(name);
    if called.is_empty() {
        return Ok(());
    }
    let ids: Vec<String> = called.iter().map(ToString::to_string).collect();
    let message = format!(
        "{} is the name of several instances: use an id, {}",
        Quoted(name),
        ids.join(" or ")
    );
    Err(status::precondition("INSTANCE_AMBIGUOUS", message))
}

#[tonic::async_trait]
impl WorkloadService for Services {
    type WatchAssignmentsStream = Answers<v1::WatchAssignmentsResponse>;
    type ReadLogsStream = Answers<v1::ReadLogsResponse>;

    async fn plan_workload(
        &self,
        request: Request<v1::PlanWorkloadRequest>,
    ) -> Result<Response<v1::PlanWorkloadResponse>, Status> {
        let caller = caller_of(&request);
        let mut command = ChangeWorkload::try_from(request.into_inner()).map_err(status::convert)?;
        if !sees_environment(caller.role) {
            self.without_values(&mut command);
        }
        self.answer(&caller, command).await
    }

    async fn apply_workload(
        &self,
        request: Request<v1::ApplyWorkloadRequest>,
    ) -> Result<Response<v1::ApplyWorkloadResponse>, Status> {
        self.command::<ChangeWorkload, _>(request).await
    }

    async fn scale_workload(
        &self,
        request: Request<v1::ScaleWorkloadRequest>,
    ) -> Result<Response<v1::ScaleWorkloadResponse>, Status> {
        self.command::<ChangeWorkload, _>(request).await
    }

    async fn restart_workload(
        &self,
        request: Request<v1::RestartWorkloadRequest>,
    ) -> Result<Response<v1::RestartWorkloadResponse>, Status> {
        self.command::<ChangeWorkload, _>(request).await
    }

    async fn promote_workload(
        &self,
        request: Request<v1::PromoteWorkloadRequest>,
    ) -> Result<Response<v1::PromoteWorkloadResponse>, Status> {
        self.command::<ChangeWorkload, _>(request).await
    }

    async fn delete_workload(
        &self,
        request: Request<v1::DeleteWorkloadRequest>,
    ) -> Result<Response<v1::DeleteWorkloadResponse>, Status> {
        self.command::<ChangeWorkload, _>(request).await
    }

    async fn what_if(&self, request: Request<v1::WhatIfRequest>) -> Result<Response<v1::WhatIfResponse>, Status> {
        self.command::<WhatIf, _>(request).await
    }

    async fn rebalance(
        &self,
        request: Request<v1::RebalanceRequest>,
    ) -> Result<Response<v1::RebalanceResponse>, Status> {
        self.command::<Rebalance, _>(request).await
    }

    async fn list_workloads(
        &self,
        request: Request<v1::ListWorkloadsRequest>,
    ) -> Result<Response<v1::ListWorkloadsResponse>, Status> {
        let request = request.into_inner();
        let size = page_size(request.page_size)?;
        let work = self.board.work();
        let after = request.page_token.as_str();
        let rows = work.workloads.iter().filter(|row| row.name() > after);
        let (workloads, more) = page(rows.map(|row| v1::Workload::from(&**row)), size);
        let last = workloads.last().filter(|_| more);
        let next_page_token = last.map(|row| row.name.clone()).unwrap_or_default();
        Ok(Response::new(v1::ListWorkloadsResponse {
            workloads,
            next_page_token,
        }))
    }

    async fn get_workload(
        &self,
        request: Request<v1::GetWorkloadRequest>,
    ) -> Result<Response<v1::GetWorkloadResponse>, Status> {
        // Callers who see values of the environment may read logs, and vice versa.
        let values = quotes(&caller_of(&request));
        let name = request.into_inner().name;
        let work = self.board.work();
        let found = work.workload(&name).ok_or_else(|| no_workload(&name))?;
        let instances = work.assignments.iter().filter(|row| *row.record.workload == *name);
        Ok(Response::new(v1::GetWorkloadResponse {
            workload: Some((&**found).into()),
            spec: found.record.spec().map(|spec| convert::spec_out(spec, values)),
            assignments: page(instances.map(|row| convert::quoted(row, values)), SHOWN).0,
        }))
    }

    async fn list_assignments(
        &self,
        request: Request<v1::ListAssignmentsRequest>,
    ) -> Result<Response<v1::ListAssignmentsResponse>, Status> {
        let values = quotes(&caller_of(&request));
        let request = request.into_inner();
        let size = page_size(request.page_size)?;
        let after = page_token::<AssignmentId>(&request.page_token)?;
        let ((_, nodes), work) = (self.present()?, self.board.work());
        if !request.workload.is_empty() && !work.knows(&request.workload) {
            return Err(no_workload(&request.workload));
        }
        let node = match request.node.as_str() {
            "" => None,
            node => Some(self.row(&nodes.rows, node)?.record.id()),
        };
        let wanted = |row: &&Arc<AssignmentRow>| {
            let record = &row.record;
            let of = request.workload.is_empty() || *record.workload == *request.workload;
            let on = node.is_none_or(|node| node == record.node);
            of && on && (request.ended || record.end.is_none()) && after.is_none_or(|after| record.id > after)
        };
        let rows = work.assignments.iter().filter(wanted);
        let (assignments, more) = page(rows.map(|one| row(&nodes.rows, &work, one, values)), size);
        let last = assignments.last().filter(|_| more);
        let last = last.and_then(|row| row.assignment.as_ref());
        Ok(Response::new(v1::ListAssignmentsResponse {
            next_page_token: last.map(|last| last.id.clone()).unwrap_or_default(),
            assignments,
        }))
    }

    async fn watch_assignments(
        &self,
        request: Request<v1::WatchAssignmentsRequest>,
    ) -> Result<Response<Self::WatchAssignmentsStream>, Status> {
        let values = quotes(&caller_of(&request));
        let permit = self.subscribe(&caller_of(&request))?;
        let flight = flight_of(&request)?;
        let workload = looked_up(request.into_inner().workload, NAME);
        let views = self.board.watch_work();
        if !workload.is_empty() && !views.borrow().view.knows(&workload) {
            return Err(no_workload(&workload));
        }
        let watcher = AssignmentWatcher {
            services: self.clone(),
            flight,
            views,
            workload,
            values,
            told: false,
            stopping: self.stopping.clone(),
            _permit: permit,
        };
        Ok(answers::stream(stream::unfold(Some(watcher), async |watcher| {
            let mut watcher = watcher?;
            match watcher.next().await {
                Ok(answer) => Some((Ok(answer), Some(watcher))),
                Err(status) => Some((Err(status), None)),
            }
        })))
    }

    async fn explain_workload(
        &self,
        request: Request<v1::ExplainWorkloadRequest>,
    ) -> Result<Response<v1::ExplainWorkloadResponse>, Status> {
        let (asker, values) = (Asker::of(&request), quotes(&caller_of(&request)));
        let name = request.into_inner().name;
        let ((_, nodes), work) = (self.present()?, self.board.work());
        one_is_called(&work, &name)?;
        let found = work.knows(&name);
        let instance = match found {
            true => None,
            false => work.assignment(&name),
        };
        let waits = (!found && instance.is_none()).then(|| empty_slot(&work, &name));
        let of = match (instance, &waits) {
            (Some(row), _) => &*row.record.workload,
            (None, Some(Ok(of))) => *of,
            (None, _) => name.as_str(),
        };
        let about = of.to_owned();
        let mark = instance.map(|row| Mark {
            id: row.record.id,
            workload: Arc::clone(&row.record.workload),
            slot: row.record.slot,
            decision: row.record.decision,
        });
        let read = move |history: &dyn History, still: &Still| happened(history, still, &about, mark.as_ref());
        let happened = self.read(Sort::Look, &asker, read).await?;
        // Events about a deleted workload are shown as long as they are retained.
        if let (Some(Err(unknown)), false) = (waits, happened.any) {
            return Err(unknown);
        }
        let before = instance.and_then(|one| logs::before(&work, &one.record));
        Ok(Response::new(v1::ExplainWorkloadResponse {
            workload: work.workload(of).map(|row| (&**row).into()),
            assignment: instance.map(|one| row(&nodes.rows, &work, one, values)),
            before: before.map(|one| row(&nodes.rows, &work, &one, values)),
            decisions: told(&happened.decisions),
            causes: told(&happened.causes),
            events: happened.others,
        }))
    }

    async fn read_logs(&self, request: Request<v1::ReadLogsRequest>) -> Result<Response<Self::ReadLogsStream>, Status> {
        let caller = caller_of(&request);
        let permit = self.subscribe(&caller)?;
        let mut request = request.into_inner();
        request.assignment = looked_up(request.assignment, NAME + SLOT);
        one_is_called(&self.board.work(), &request.assignment)?;
        let reader = LogReader::new(self, caller, request, permit);
        Ok(answers::stream(stream::unfold(Some(reader), async |reader| {
            let mut reader = reader?;
            match reader.next().await {
                Ok(Some(chunk)) => Some((Ok(chunk), Some(reader))),
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        })))
    }
}

#[cfg(test)]
mod tests;
