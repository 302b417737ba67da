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
use wyneos::convert::ConvertError;
use wyneos_core::{
    access::Access,
    coherence::{NodeRow, Nodes},
    command::{Answer, Asked, Command, Refusal},
    event::Event,
    id::NodeId,
    integrity::Digest,
    limits, registry,
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

    /// Executes the command of a request; answers once it is durable.
    async fn command<C: Command, Response: From<C::Reply>>(
        &self,
        request: tonic::Request<impl TryInto<C, Error = ConvertError>>,
    ) -> Result<tonic::Response<Response>, Status> {
        let caller = caller_of(&request);
        let command = request.into_inner().try_into().map_err(status::convert)?;
        self.answer(&caller, command).await
    }

    /// Executes a command of `caller`, and converts its reply to the response.
    async fn answer<C: Command, Response: From<C::Reply>>(
        &self,
        caller: &Caller,
        command: C,
    ) -> Result<tonic::Response<Response>, Status> {
        let reply = self.ask(caller, command).await?;
        Ok(tonic::Response::new(reply.into()))
    }

    /// Executes a command of `caller`; answers once it is durable. Records its intent in the audit; plans wait for their turn.
    async fn ask<C: Command>(&self, caller: &Caller, command: C) -> Result<C::Reply, Status> {
        let command: Asked = command.into();
        caller.about(command.about());
        if command.is_plan() {
            caller.plans();
            let turn = self.turn_to_plan(caller).await?;
            let ask = |by, answer| ToEngine::Plan {
                command,
                by,
                turn,
                answer,
            };
            return self.reply::<C>(caller, ask).await;
        }
        let intent = match caller.changes() {
            true => Some(caller.intend(command.about()).await?.intent()),
            false => None,
        };
        self.ask_recorded::<C>(caller, command, intent).await
    }

    /// Executes a command whose intent, if it needs one, is recorded.
    async fn ask_recorded<C: Command>(
        &self,
        caller: &Caller,
        command: Asked,
        intent: Option<u64>,
    ) -> Result<C::Reply, Status> {
        let ask = |by, answer| ToEngine::Command {
            command,
            by,
            intent,
            answer,
        };
        self.reply::<C>(caller, ask).await
    }

    /// Sends the engine a command, and waits for its reply.
    async fn reply<C: Command>(
        &self,
        caller: &Caller,
        ask: impl FnOnce(Arc<str>, oneshot::Sender<Result<Answer, Refusal>>) -> ToEngine,
    ) -> Result<C::Reply, Status> {
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
        if let Ok(Answer::Admit(_) | Answer::Revoke(_) | Answer::Enrol(_) | Answer::Renew(_)) = answer {
            self.refused.forget();
        }
        let answer = answer.map_err(|refusal| {
            if let Some(detail) = enrolment::about(&refusal) {
                caller.adds(detail);
            }
            status::refusal(&refusal)
        })?;
        C::Reply::try_from(answer).map_err(|other| Status::internal(other.to_string()))
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
