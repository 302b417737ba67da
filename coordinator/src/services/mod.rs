//! The services, as thin layers: reads from the board and the store, commands to the engine.

mod access;
mod agent;
mod backup;
mod cluster;
mod coherence;
mod decision;
mod enrolment;
mod event;
mod scan;
mod telemetry;
mod workload;

use std::{net::IpAddr, ops::ControlFlow, sync::Arc};

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, oneshot, watch};
use tonic::Status;
use wyneos::convert::{ConvertError, FromAnswer};
use wyneos_core::{
    access::Access,
    autonomy::Mode,
    coherence::{NodeRow, Nodes},
    coordinator::{Answer, Command, Refusal},
    event::Event,
    id::NodeId,
    integrity::Digest,
    limits, registry,
    text::Span,
};

pub(crate) use agent::Agents;
pub(crate) use backup::Backups;

use crate::{
    answers::{Flight, Full, Ledger, Message, Quota, Taken},
    audit::Audit,
    board::{self, Board, Published},
    ca::Ca,
    config::Config,
    engine::{EngineSender, ToEngine},
    gate::Caller,
    limiter::Limiter,
    metrics::Metrics,
    reads::{Asker, Reads, Sort, Still},
    refusals::Refusals,
    status,
    store::{Along, History, Of, StoreError},
    turns::{Most, Turn, Turns},
};

/// The shared state of all services; clones share it.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) board: Arc<Board>,
    pub(crate) history: Arc<dyn History>,
    pub(crate) engine: EngineSender,
    pub(crate) events: broadcast::Sender<Arc<Event>>,
    /// Places of subscribers, per identity and in total.
    pub(crate) subscribers: Arc<Quota>,
    /// The ledger of memory that answers hold.
    pub(crate) ledger: Arc<Ledger>,
    /// Turns for plans: each occupies a processor while it is computed.
    pub(crate) plans: Arc<Turns>,
    /// Reads of the store and of the audit in progress, and their permits.
    pub(crate) reads: Arc<Reads>,
    /// Whether the coordinator is stopping, which ends streams.
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) config: Arc<Config>,
    /// Durable tokens and operators.
    pub(crate) access: Arc<ArcSwap<Access>>,
    pub(crate) audit: Audit,
    pub(crate) backups: Arc<Backups>,
    /// `None` without TLS.
    pub(crate) ca: Option<Arc<Ca>>,
    /// Rate limit of attempts to join.
    pub(crate) limiter: Arc<Limiter<IpAddr>>,
    /// Rate limit of renewals, by the key that is certified.
    pub(crate) renewals: Arc<Limiter<Digest>>,
    /// Keys whose renewal was refused recently.
    pub(crate) refused: Arc<Refusals<Digest>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) started: wyneos_core::time::WallTime,
    pub(crate) public_key: wyneos_core::integrity::PublicKey,
}

/// Limits of plans that are computed at once and that wait, in total and for one identity. More at once: less of the
/// processors is left for other work, and each plan may hold a copy of the state.
pub(crate) const PLANS: Most = Most {
    of_one: 1,
    of_all: 2,
    waiting_of_one: 32,
    waiting: 256,
};

/// Default number of rows per page.
const PAGE: u32 = 100;

/// Maximum number of rows per page.
const PAGE_MAX: u32 = 1_000;

/// The page size for a request.
fn page_size(asked: u32) -> Result<usize, Status> {
    match asked {
        0 => Ok(PAGE as usize),
        1..=PAGE_MAX => Ok(asked as usize),
        _ => Err(status::bad_field(
            "page_size",
            format!("{asked} is more than {PAGE_MAX}"),
        )),
    }
}

/// Bytes of rows after which a page ends, whatever its requested size: gRPC clients accept 4 MiB per message by
/// default.
const PAGE_BYTES: usize = 1024 * 1024;

/// At most `size` rows that fit a page, and whether there are more. A page has at least one row.
fn page<T: prost::Message>(mut rows: impl Iterator<Item = T>, size: usize) -> (Vec<T>, bool) {
    let (mut taken, mut bytes) = (Vec::new(), 0);
    while taken.len() < size && bytes < PAGE_BYTES {
        let Some(row) = rows.next() else {
            return (taken, false);
        };
        bytes += row.encoded_len();
        taken.push(row);
    }
    (taken, rows.next().is_some())
}

/// The contents of a page token: the number or id after which the next page begins.
fn page_token<T: std::str::FromStr>(token: &str) -> Result<Option<T>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    token
        .parse()
        .map(Some)
        .map_err(|_| status::bad_field("page_token", "not from an answer of this rpc"))
}

impl Services {
    /// The newest snapshot.
    fn newest(&self) -> Result<Arc<Published>, Status> {
        self.board.newest().ok_or_else(status::not_ready)
    }

    /// The newest snapshot, and the present nodes, which are as new or newer.
    fn present(&self) -> Result<(Arc<Published>, Arc<Nodes>), Status> {
        // In this order, because nodes are published before the snapshot that contains them.
        let published = self.newest()?;
        Ok((published, self.board.nodes()))
    }

    /// The row that `node` refers to.
    fn row<'a>(&self, nodes: &'a [Arc<NodeRow>], node: &str) -> Result<&'a Arc<NodeRow>, Status> {
        let rows = nodes.iter().map(|row| (row.record.id(), row));
        registry::resolve(node, rows, |row, text| row.record.facts.name == text)
            .map_err(|error| status::no_such_node(&error))
    }

    /// The id of the node that `node` refers to: a known one or, by its id, a forgotten one with retained events.
    async fn row_or_history(&self, asker: &Asker, node: &str) -> Result<NodeId, Status> {
        let (_, nodes) = self.present()?;
        let unknown = match self.row(&nodes.rows, node) {
            Ok(row) => return Ok(row.record.id()),
            Err(unknown) => unknown,
        };
        let Ok(id) = node.parse::<NodeId>() else {
            return Err(unknown);
        };
        let kept = self.read(Sort::Look, asker, move |history, _| {
            let mut kept = false;
            history.visit(Of::Node(id), Along::Before(u64::MAX), &mut |_| {
                kept = true;
                Ok(ControlFlow::Break(()))
            })?;
            Ok(kept)
        });
        match kept.await? {
            true => Ok(id),
            false => Err(unknown),
        }
    }

    /// Executes a command; answers once it is durable.
    async fn command<Request, Response>(
        &self,
        request: tonic::Request<Request>,
    ) -> Result<tonic::Response<Response>, Status>
    where
        Command: TryFrom<Request, Error = ConvertError>,
        Response: FromAnswer,
    {
        let caller = caller_of(&request);
        let command = Command::try_from(request.into_inner()).map_err(status::convert)?;
        self.answer(&caller, command).await
    }

    /// Executes a command of `caller`, and answers with its result.
    async fn answer<Response: FromAnswer>(
        &self,
        caller: &Caller,
        command: Command,
    ) -> Result<tonic::Response<Response>, Status> {
        let answer = self.carry_out(caller, command).await?;
        let response =
            Response::from_answer(answer).ok_or_else(|| Status::internal("the answer is to another command"))?;
        Ok(tonic::Response::new(response))
    }

    /// Executes a command of `caller`; answers once it is durable.
    async fn carry_out(&self, caller: &Caller, command: Command) -> Result<Answer, Status> {
        caller.about(about(&command));
        if command.is_plan() {
            caller.plans();
            let turn = self.turn_to_plan(caller).await?;
            let ask = |by, answer| ToEngine::Plan {
                command,
                by,
                turn,
                answer,
            };
            return self.ask(caller, ask).await;
        }
        let intent = match caller.changes() {
            true => Some(caller.intend(about(&command)).await?.intent()),
            false => None,
        };
        let ask = |by, answer| ToEngine::Command {
            command,
            by,
            intent,
            answer,
        };
        self.ask(caller, ask).await
    }

    /// Sends the engine a request; answers once it is durable.
    async fn ask(
        &self,
        caller: &Caller,
        ask: impl FnOnce(Arc<str>, oneshot::Sender<Result<Answer, Refusal>>) -> ToEngine,
    ) -> Result<Answer, Status> {
        let (sender, answer) = oneshot::channel();
        let asked = ask(Arc::clone(&caller.name), sender);
        let shutting_down = || {
            status::unavailable(
                "SHUTDOWN",
                "the coordinator is shutting down; whether it was carried out is unknown",
            )
        };
        self.engine.send(asked).await.map_err(|_| shutting_down())?;
        let answer = answer.await.map_err(|_| shutting_down())?;
        if matches!(answer, Ok(Answer::Admission { .. })) {
            self.refused.forget();
        }
        answer.map_err(|refusal| {
            if let Some(detail) = enrolment::about(&refusal) {
                caller.adds(detail);
            }
            status::refusal(&refusal)
        })
    }

    /// Waits for a turn to compute a plan of `caller`.
    async fn turn_to_plan(&self, caller: &Caller) -> Result<Turn, Status> {
        self.plans.take(caller.who()).await.map_err(|full| {
            let message = match full {
                Full::OfOne(most) => format!(
                    "{caller} has {most} plans in progress or waiting, the limit of one identity or source address; wait for their answers"
                ),
                Full::OfAll(most) => format!("{most} plans are in progress or waiting, the limit; retry"),
            };
            status::exhausted("PLANS", message)
        })
    }

    /// Reads from the store on a blocking thread, once there is a permit for it. `read` ends early if its caller is
    /// gone.
    async fn read<T: Send + 'static>(
        &self,
        sort: Sort,
        asker: &Asker,
        read: impl FnOnce(&dyn History, &Still) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Status> {
        let history = Arc::clone(&self.history);
        let result = self.reads.run(sort, asker, move |still| read(&*history, still)).await;
        result
            .ok_or_else(|| Status::internal("reading the store was cut off"))?
            .map_err(|error| status::store(&error))
    }

    /// Takes a place for a subscriber.
    fn subscribe(&self, caller: &Caller) -> Result<Taken, Status> {
        self.subscribers.take(caller.who()).map_err(|full| {
            let message = match full {
                Full::OfOne(most) => {
                    format!(
                        "{caller} has {most} subscriptions, the limit of one identity (max_subscribers_per_identity)"
                    )
                }
                Full::OfAll(most) => format!("there are {most} subscribers, the limit (max_subscribers)"),
            };
            status::exhausted("SUBSCRIBERS", message)
        })
    }

    /// Frames an answer.
    fn message(&self, message: &impl prost::Message) -> Message {
        Message::new(&self.ledger, message)
    }
}

/// The caller of a request, which the gate has set.
fn caller_of<T>(request: &tonic::Request<T>) -> Caller {
    request.extensions().get::<Caller>().cloned().unwrap_or_default()
}

/// The flight of a call; every call except an agent's session has one.
fn flight_of<T>(request: &tonic::Request<T>) -> Result<Arc<Flight>, Status> {
    let flight = request.extensions().get::<Arc<Flight>>().cloned();
    flight.ok_or_else(|| Status::internal("the call is not counted"))
}

/// The object of a command, for the audit.
fn about(command: &Command) -> String {
    match command {
        Command::Cordon { node } | Command::Uncordon { node } | Command::Refresh { node } | Command::Admit { node } => {
            format!("node {node}")
        }
        Command::Label { node, set, remove } => {
            let set = set.iter().map(|(key, value)| format!("{key}={value}"));
            let changes: Vec<String> = set.chain(remove.iter().map(|key| format!("{key}-"))).collect();
            format!("node {node}: {}", changes.join(", "))
        }
        Command::SetHeartbeat { node, interval } => match interval {
            Some(interval) => format!("node {node}: every {}", Span(*interval)),
            None => format!("node {node}: the cluster's own interval"),
        },
        Command::Revoke { node, reason } if reason.is_empty() => format!("node {node}"),
        Command::Revoke { node, reason } => format!("node {node}: {reason}"),
        Command::Forget { node, reason, .. } if reason.is_empty() => format!("node {node}"),
        Command::Forget { node, reason, .. } => format!("node {node}: {reason}"),
        Command::Enrol(enrolment) => format!("node {} by join token {}", enrolment.node, enrolment.token),
        Command::Renew { node, .. } => format!("node {node}"),
        Command::CreateToken { token, .. } => format!("join token {}", token.id),
        Command::DeleteToken { id } => format!("join token {id}"),
        Command::CreateOperator { name, role, .. } => format!("operator {name}, {}", role.name()),
        Command::RevokeOperator { name } => format!("operator {name}"),
        Command::AuthorityActivates | Command::AuthorityRetired => "CA".to_owned(),
        Command::Drain { node, .. } => format!("node {node}"),
        Command::Workload(command) => format!("workload {}", command.verb.workload()),
        Command::WhatIf { nodes, .. } => format!("what if {nodes}"),
        Command::Rebalance { .. } => "all nodes".to_owned(),
        Command::SetPolicy(change) => {
            let named = |mode: Option<Mode>| mode.map_or("as it is", Mode::name);
            let (heal, rebalance, preempt) = (named(change.heal), named(change.rebalance), named(change.preempt));
            format!("heal {heal}, rebalance {rebalance}, preempt {preempt}")
        }
        Command::Decide { id, .. } => format!("decision {id}"),
        Command::ReadLog { assignment, .. } => format!("assignment {assignment}"),
    }
}

/// The status that ends every stream when the coordinator stops.
fn stopped() -> Status {
    status::unavailable("SHUTDOWN", "the coordinator is shutting down; resume when it is back")
}

/// Waits until the coordinator stops.
async fn stops(stopping: &mut watch::Receiver<bool>) {
    // The sender lives as long as the process.
    drop(stopping.wait_for(|stopping| *stopping).await);
}

/// A label selector: `key=value`.
fn label_selector(field: &str, text: &str) -> Result<Option<(String, String)>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.split_once('=') {
        // A subscriber retains it, so its length is bounded like that of a label.
        Some((key, value)) if key.len() > limits::LABEL_KEY || value.len() > limits::LABEL_VALUE => {
            let (key, value) = (limits::LABEL_KEY, limits::LABEL_VALUE);
            let reason = format!("longer than any label: keys have at most {key} bytes, values {value}");
            Err(status::bad_field(field, reason))
        }
        Some((key, value)) if !key.is_empty() => Ok(Some((key.to_owned(), value.to_owned()))),
        _ => Err(status::bad_field(field, "not key=value")),
    }
}

/// The name of a node; empty if it is not known.
fn name_of(nodes: &[Arc<NodeRow>], id: NodeId) -> String {
    board::node(nodes, id).map_or_else(String::new, |row| row.record.facts.name.clone())
}
