//! What agents and the coordinator say in a session.

use std::sync::Arc;

use wyneos_core::{
    agent::Report,
    behaviour::{Directive, Order, State},
    coordinator::{Heartbeat, Input, Message, ProbePlan, RefusalReason, Refused, Welcome},
    id::{BadUuid, NodeId},
    limits,
    mesh::{Coordinate, DIMENSIONS, LinkReport, LinkState, Observation, REPORTS, Sight},
    node::{ConnId, Facts, Health, Hello, Origin},
    telemetry::Channel,
    text::SENTENCE,
    time::WallTime,
};

use super::{
    ConvertError, check,
    instance::{
        chunk_in, chunk_out, described_in, described_out, instances_in, instances_out, log_request_in, log_request_out,
        work_in, work_out,
    },
    node::{labels_out, same},
    standing::{lease_in, standing_in, standing_out},
    time::{duration, duration_in, timestamp, timestamp_in},
};
use crate::v1::{self, session_request, session_response};

same!(
    State,
    v1::DirectiveState {
        Issued,
        Delivered,
        Acknowledged,
        Done,
        Failed,
        Refused,
        Expired
    }
);
same!(
    LinkState,
    v1::LinkState {
        Unknown,
        Up,
        Lossy,
        Down,
        Slow
    }
);
same!(Sight, v1::Sight { Heard, Silent, Refused });
same!(
    RefusalReason,
    v1::RefusalReason {
        Invalid,
        Stale,
        Revoked,
        Replaced,
        Disputed,
        Readmitted,
        Unreadable,
        Shutdown,
        Overloaded,
        Timeout
    }
);

/// Bytes of a fixed length; none at all for zero, which says nothing.
fn optional<const N: usize>(field: &str, bytes: &[u8]) -> Result<[u8; N], ConvertError> {
    match bytes.len() {
        0 => Ok([0; N]),
        length => bytes
            .try_into()
            .map_err(|_| ConvertError::new(field, format!("{length} bytes; either {N} or none"))),
    }
}

fn optional_out<const N: usize>(bytes: &[u8; N]) -> Vec<u8> {
    if *bytes == [0; N] { Vec::new() } else { bytes.to_vec() }
}

fn no_such_value(field: &str, value: i32) -> ConvertError {
    ConvertError::new(field, format!("{value} is not a value of this enum"))
}

/// What an agent's message, which comes from `origin`, is to the coordinator. A message without content (a newer agent's, of a kind unknown here) is
/// an error.
pub fn session_input(conn: ConnId, origin: &Origin, request: v1::SessionRequest) -> Result<Input, ConvertError> {
    match check::require("message", request.message)? {
        session_request::Message::Hello(hello) => {
            let hello = Box::new(Hello::try_from(hello).map_err(|error| error.within("hello"))?);
            let origin = origin.clone();
            Ok(Input::Hello { conn, hello, origin })
        }
        session_request::Message::Heartbeat(heartbeat) => {
            let heartbeat = Heartbeat::try_from(heartbeat).map_err(|error| error.within("heartbeat"))?;
            Ok(Input::Heartbeat { conn, heartbeat })
        }
        session_request::Message::Directive(update) => {
            let state = update
                .state()
                .try_into()
                .map_err(|_| no_such_value("directive.state", update.state))?;
            let detail = check::text("directive.detail", update.detail, 1024)?;
            Ok(Input::DirectiveUpdate {
                conn,
                id: update.id,
                state,
                detail,
            })
        }
        session_request::Message::Goodbye(goodbye) => Ok(Input::Goodbye {
            conn,
            reason: check::text("goodbye.reason", goodbye.reason, 256)?,
        }),
        session_request::Message::Sightings(sightings) => {
            check::at_most("sightings.observations", sightings.observations.len(), REPORTS)?;
            let read = |(at, observation)| {
                observation_in(observation).map_err(|error| error.within(&format!("sightings.observations[{at}]")))
            };
            let observations = sightings.observations.into_iter().enumerate().map(read);
            Ok(Input::Evidence {
                conn,
                observations: observations.collect::<Result<_, _>>()?,
                health: sightings.health.map(|health| Health {
                    strained: health.strained,
                    disk_stalled: health.disk_stalled,
                }),
            })
        }
        session_request::Message::Instances(report) => instances_in(conn, report),
        session_request::Message::Described(described) => described_in(conn, described),
        session_request::Message::Log(chunk) => Ok(Input::Log {
            conn,
            chunk: chunk_in(chunk)?,
        }),
        session_request::Message::Question(question) => Ok(Input::Question {
            conn,
            number: question.number,
            asker: check::uuid("question.asker_id", &question.asker_id)?,
            incarnation: question.incarnation,
        }),
        session_request::Message::Arrivals(arrivals) => {
            check::at_most("arrivals.arrivals", arrivals.arrivals.len(), REPORTS)?;
            let read = |(at, arrival): (usize, v1::Arrival)| {
                let sender = check::uuid(&format!("arrivals.arrivals[{at}].sender_id"), &arrival.sender_id)?;
                Ok((sender, arrival.arrives))
            };
            let arrivals = arrivals.arrivals.into_iter().enumerate().map(read);
            Ok(Input::Arrivals {
                conn,
                arrivals: arrivals.collect::<Result<_, ConvertError>>()?,
            })
        }
    }
}

impl TryFrom<v1::Hello> for Hello {
    type Error = ConvertError;

    fn try_from(hello: v1::Hello) -> Result<Hello, ConvertError> {
        check::at_most("channels", hello.channels.len(), limits::CHANNELS)?;
        let channels: Vec<Option<Channel>> = hello.channels.iter().map(|name| Channel::from_name(name)).collect();
        let mut known: Vec<Channel> = channels.iter().flatten().copied().collect();
        known.sort_unstable();
        if known.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(ConvertError::new("channels", "a channel stands twice in the list"));
        }
        let name = check::text("name", hello.name, limits::NAME)?;
        if name.trim().is_empty() {
            return Err(ConvertError::new("name", "missing"));
        }
        let boot_time = check::require("boot_time", hello.boot_time)?;
        let capacity = check::require("capacity", hello.capacity)?;
        let attributes = check::require("attributes", hello.attributes)?;
        let facts = Facts {
            id: check::uuid("node_id", &hello.node_id)?,
            name,
            agent_version: check::text("agent_version", hello.agent_version, 64)?,
            boot_time: timestamp_in("boot_time", &boot_time)?,
            capacity: capacity
                .try_into()
                .map_err(|error: ConvertError| error.within("capacity"))?,
            attributes: attributes
                .try_into()
                .map_err(|error: ConvertError| error.within("attributes"))?,
            labels: check::labels("labels", hello.labels)?,
            binary_digest: check::digest("binary_digest", &hello.binary_digest)?,
            config_digest: check::digest("config_digest", &hello.config_digest)?,
            probe_address: check::address("probe_address", hello.probe_address)?,
        };
        let incarnation = check::range("incarnation", hello.incarnation, 1, u64::MAX)?;
        Ok(Hello {
            facts,
            incarnation,
            attempt: hello.attempt,
            channels,
            instance: optional("instance", &hello.instance)?,
            machine: optional("machine", &hello.machine)?,
            last_failure: check::text("last_failure", hello.last_failure, SENTENCE)?,
        })
    }
}

impl TryFrom<v1::Heartbeat> for Heartbeat {
    type Error = ConvertError;

    fn try_from(heartbeat: v1::Heartbeat) -> Result<Heartbeat, ConvertError> {
        check::at_most("values", heartbeat.values.len(), limits::CHANNELS)?;
        check::at_most("links", heartbeat.links.len(), REPORTS)?;
        if let Some(at) = heartbeat.values.iter().position(|value| !value.is_finite()) {
            return Err(ConvertError::new(
                format!("values[{at}]"),
                "not finite; list its position in `absent` instead",
            ));
        }
        // NaN is in no range.
        if !(0.0..=1.0).contains(&heartbeat.load) {
            return Err(ConvertError::new(
                "load",
                format!("{} is not between 0 and 1", heartbeat.load),
            ));
        }
        let ascending = heartbeat.absent.windows(2).all(|pair| pair[0] < pair[1]);
        let within = heartbeat
            .absent
            .last()
            .is_none_or(|&last| (last as usize) < heartbeat.values.len());
        if !ascending || !within {
            return Err(ConvertError::new("absent", "not ascending positions in `values`"));
        }
        let links = heartbeat
            .links
            .into_iter()
            .enumerate()
            .map(|(at, link)| link_in(link).map_err(|error| error.within(&format!("links[{at}]"))));
        Ok(Heartbeat {
            sequence: heartbeat.sequence,
            wall: WallTime(heartbeat.wall_millis),
            load: heartbeat.load,
            values: heartbeat.values,
            absent: heartbeat.absent,
            links: links.collect::<Result<_, _>>()?,
            coordinate: heartbeat.coordinate.map(coordinate_in).transpose()?,
            acknowledged: (heartbeat.acknowledged_epoch, heartbeat.acknowledged_cycle),
        })
    }
}

/// The coordinate that a message states.
pub fn coordinate_in(coordinate: v1::Coordinate) -> Result<Coordinate, ConvertError> {
    let wrong = |_| ConvertError::new("coordinate.position", format!("not {DIMENSIONS} numbers"));
    let position: [f32; DIMENSIONS] = coordinate.position.try_into().map_err(wrong)?;
    let (height, error) = (f64::from(coordinate.height), f64::from(coordinate.error));
    Coordinate::new(position.map(f64::from), height, error)
        .ok_or_else(|| ConvertError::new("coordinate", "a number is not finite or out of range"))
}

/// A coordinate as messages state it.
pub fn coordinate_out(coordinate: Coordinate) -> v1::Coordinate {
    v1::Coordinate {
        position: coordinate.position.map(|part| part as f32).to_vec(),
        height: coordinate.height as f32,
        error: coordinate.error as f32,
    }
}

fn link_in(link: v1::LinkReport) -> Result<(NodeId, LinkReport), ConvertError> {
    let subject = check::uuid("subject_id", &link.subject_id)?;
    if !(0.0..=1.0).contains(&link.loss) {
        return Err(ConvertError::new(
            "loss",
            format!("{} is not between 0 and 1", link.loss),
        ));
    }
    let report = LinkReport {
        state: link
            .state()
            .try_into()
            .map_err(|_| no_such_value("state", link.state))?,
        rtt_micros: link.rtt_micros,
        rtt_p95_micros: link.rtt_p95_micros,
        loss: link.loss,
        last_success_age_millis: link.last_success_age_millis,
    };
    Ok((subject, report))
}

fn observation_in(observation: v1::Observation) -> Result<(NodeId, Observation), ConvertError> {
    let subject = check::uuid("subject_id", &observation.subject_id)?;
    let sight = observation
        .sight()
        .try_into()
        .map_err(|_| no_such_value("sight", observation.sight))?;
    let last_heard_age_millis = observation.last_heard_age_millis;
    Ok((
        subject,
        Observation {
            sight,
            last_heard_age_millis,
        },
    ))
}

fn observation_out((subject, observation): (NodeId, Observation)) -> v1::Observation {
    v1::Observation {
        subject_id: subject.to_string(),
        sight: v1::Sight::from(observation.sight).into(),
        last_heard_age_millis: observation.last_heard_age_millis,
    }
}

impl From<Report> for v1::SessionRequest {
    fn from(report: Report) -> v1::SessionRequest {
        let message = match report {
            Report::Hello(hello) => session_request::Message::Hello((*hello).into()),
            Report::Heartbeat(heartbeat) => session_request::Message::Heartbeat((*heartbeat).into()),
            Report::Directive { id, state, detail } => session_request::Message::Directive(v1::DirectiveUpdate {
                id,
                state: v1::DirectiveState::from(state).into(),
                detail,
            }),
            Report::Evidence { observations, health } => session_request::Message::Sightings(v1::Sightings {
                observations: observations.into_iter().map(observation_out).collect(),
                health: health.map(|health| v1::AgentHealth {
                    strained: health.strained,
                    disk_stalled: health.disk_stalled,
                }),
            }),
            Report::Arrivals(arrivals) => {
                let arrivals = arrivals.into_iter().map(|(sender, arrives)| v1::Arrival {
                    sender_id: sender.to_string(),
                    arrives,
                });
                let arrivals = arrivals.collect();
                session_request::Message::Arrivals(v1::Arrivals { arrivals })
            }
            Report::Question {
                number,
                asker,
                incarnation,
            } => session_request::Message::Question(v1::Question {
                number,
                asker_id: asker.to_string(),
                incarnation,
            }),
            Report::Instances { instances, all } => session_request::Message::Instances(instances_out(instances, all)),
            Report::Described(assigned) => session_request::Message::Described(described_out(*assigned)),
            Report::Log(chunk) => session_request::Message::Log(chunk_out(chunk)),
            Report::Goodbye { reason } => session_request::Message::Goodbye(v1::Goodbye { reason }),
        };
        v1::SessionRequest { message: Some(message) }
    }
}

impl From<Hello> for v1::Hello {
    fn from(hello: Hello) -> v1::Hello {
        let facts = hello.facts;
        v1::Hello {
            node_id: facts.id.to_string(),
            name: facts.name,
            incarnation: hello.incarnation,
            agent_version: facts.agent_version,
            boot_time: Some(timestamp(facts.boot_time)),
            capacity: Some(facts.capacity.into()),
            attributes: Some((&facts.attributes).into()),
            labels: labels_out(&facts.labels),
            channels: hello
                .channels
                .iter()
                .flatten()
                .map(|channel| channel.name().to_owned())
                .collect(),
            binary_digest: facts.binary_digest.to_vec(),
            config_digest: facts.config_digest.to_vec(),
            probe_address: facts.probe_address,
            attempt: hello.attempt,
            instance: optional_out(&hello.instance),
            machine: optional_out(&hello.machine),
            last_failure: hello.last_failure,
        }
    }
}

impl From<Heartbeat> for v1::Heartbeat {
    fn from(heartbeat: Heartbeat) -> v1::Heartbeat {
        let link_out = |(subject, link): (NodeId, LinkReport)| v1::LinkReport {
            subject_id: subject.to_string(),
            state: v1::LinkState::from(link.state).into(),
            rtt_micros: link.rtt_micros,
            rtt_p95_micros: link.rtt_p95_micros,
            loss: link.loss,
            last_success_age_millis: link.last_success_age_millis,
        };
        v1::Heartbeat {
            sequence: heartbeat.sequence,
            wall_millis: heartbeat.wall.0,
            load: heartbeat.load,
            values: heartbeat.values,
            absent: heartbeat.absent,
            links: heartbeat.links.into_iter().map(link_out).collect(),
            acknowledged_epoch: heartbeat.acknowledged.0,
            acknowledged_cycle: heartbeat.acknowledged.1,
            coordinate: heartbeat.coordinate.map(coordinate_out),
        }
    }
}

impl From<Message> for v1::SessionResponse {
    fn from(message: Message) -> v1::SessionResponse {
        let mut heard_sequence = 0;
        let message = match message {
            Message::Welcome(welcome) => session_response::Message::Welcome((*welcome).into()),
            Message::Refused(refused) => session_response::Message::Refused(v1::Refused {
                reason: v1::RefusalReason::from(refused.reason).into(),
                detail: refused.detail,
                retry_after: refused.retry_after.map(duration),
            }),
            Message::Directive(directive) => session_response::Message::Directive(directive.into()),
            Message::ProbePlan(plan) => session_response::Message::ProbePlan(plan.into()),
            Message::Seal { seal, heard } => {
                heard_sequence = heard;
                session_response::Message::Seal((&*seal).into())
            }
            Message::Ping => session_response::Message::Ping(v1::Ping {}),
            Message::Work(work) => session_response::Message::Work(work_out(*work)),
            Message::ReadLog(request) => session_response::Message::Log(log_request_out(request)),
            Message::Standing { number, standing } => session_response::Message::Answer(v1::QuestionAnswer {
                number,
                standing: Some(standing_out(standing)),
            }),
        };
        v1::SessionResponse {
            message: Some(message),
            heard_sequence,
        }
    }
}

impl From<Welcome> for v1::Welcome {
    fn from(welcome: Welcome) -> v1::Welcome {
        v1::Welcome {
            cluster_id: welcome.cluster.to_string(),
            epoch: welcome.epoch,
            session: welcome.session,
            cycle_interval: Some(duration(welcome.cycle_interval)),
            heartbeat_interval: Some(duration(welcome.heartbeat_interval)),
            probe_plan: Some(welcome.probe_plan.into()),
            admission: v1::Admission::from(welcome.admission).into(),
            lease: Some(duration(welcome.lease)),
        }
    }
}

impl From<ProbePlan> for v1::ProbePlan {
    fn from(plan: ProbePlan) -> v1::ProbePlan {
        let target = |(id, address): (NodeId, String)| v1::ProbeTarget {
            node_id: id.to_string(),
            address,
        };
        v1::ProbePlan {
            version: plan.version,
            interval: Some(duration(plan.interval)),
            targets: plan.targets.into_iter().map(target).collect(),
            observer_ids: plan.observers.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<Directive> for v1::Directive {
    fn from(directive: Directive) -> v1::Directive {
        use v1::directive::Order as Wire;
        let order = match directive.order {
            Order::Refresh => Wire::Refresh(v1::Refresh {}),
            Order::SetHeartbeat(interval) => Wire::SetHeartbeat(v1::SetHeartbeat {
                interval: Some(duration(interval)),
            }),
        };
        v1::Directive {
            id: directive.id,
            epoch: directive.epoch,
            session: directive.session,
            expires_in: Some(duration(directive.expires_in)),
            order: Some(order),
        }
    }
}

impl TryFrom<v1::SessionResponse> for Message {
    type Error = ConvertError;

    fn try_from(response: v1::SessionResponse) -> Result<Message, ConvertError> {
        use session_response::Message as Wire;
        Ok(match check::require("message", response.message)? {
            Wire::Welcome(welcome) => Message::Welcome(Box::new(
                welcome
                    .try_into()
                    .map_err(|error: ConvertError| error.within("welcome"))?,
            )),
            Wire::Refused(refused) => Message::Refused(Refused {
                reason: refused
                    .reason()
                    .try_into()
                    .map_err(|_| no_such_value("refused.reason", refused.reason))?,
                retry_after: optional_span("refused.retry_after", refused.retry_after)?,
                detail: refused.detail,
            }),
            Wire::Directive(directive) => Message::Directive(
                directive
                    .try_into()
                    .map_err(|error: ConvertError| error.within("directive"))?,
            ),
            Wire::ProbePlan(plan) => Message::ProbePlan(
                plan.try_into()
                    .map_err(|error: ConvertError| error.within("probe_plan"))?,
            ),
            Wire::Ping(v1::Ping {}) => Message::Ping,
            Wire::Work(work) => Message::Work(Box::new(work_in(work)?)),
            Wire::Log(request) => Message::ReadLog(log_request_in(request)?),
            Wire::Seal(seal) => Message::Seal {
                seal: Arc::new((&seal).try_into().map_err(|error: ConvertError| error.within("seal"))?),
                heard: response.heard_sequence,
            },
            Wire::Answer(answer) => {
                let standing = check::require("answer.standing", answer.standing)?;
                Message::Standing {
                    number: answer.number,
                    standing: standing_in(standing).map_err(|error| error.within("answer.standing"))?,
                }
            }
        })
    }
}

fn span(field: &str, span: Option<prost_types::Duration>) -> Result<std::time::Duration, ConvertError> {
    duration_in(field, &check::require(field, span)?)
}

fn optional_span(
    field: &str,
    span: Option<prost_types::Duration>,
) -> Result<Option<std::time::Duration>, ConvertError> {
    span.map(|span| duration_in(field, &span)).transpose()
}

impl TryFrom<v1::Welcome> for Welcome {
    type Error = ConvertError;

    fn try_from(welcome: v1::Welcome) -> Result<Welcome, ConvertError> {
        let plan = check::require("probe_plan", welcome.probe_plan.clone())?;
        Ok(Welcome {
            cluster: check::uuid("cluster_id", &welcome.cluster_id)?,
            epoch: welcome.epoch,
            session: welcome.session,
            cycle_interval: span("cycle_interval", welcome.cycle_interval)?,
            heartbeat_interval: span("heartbeat_interval", welcome.heartbeat_interval)?,
            probe_plan: plan
                .try_into()
                .map_err(|error: ConvertError| error.within("probe_plan"))?,
            admission: welcome
                .admission()
                .try_into()
                .map_err(|_| no_such_value("admission", welcome.admission))?,
            lease: lease_in("lease", welcome.lease)?,
        })
    }
}

impl TryFrom<v1::ProbePlan> for ProbePlan {
    type Error = ConvertError;

    fn try_from(plan: v1::ProbePlan) -> Result<ProbePlan, ConvertError> {
        check::at_most("targets", plan.targets.len(), 64)?;
        check::at_most("observer_ids", plan.observer_ids.len(), 64)?;
        let observer = |(at, id): (usize, &String)| {
            let named = |bad: BadUuid| ConvertError::new(format!("observer_ids[{at}]"), bad.to_string());
            id.parse().map_err(named)
        };
        let observers = plan.observer_ids.iter().enumerate().map(observer);
        let target = |(at, target): (usize, v1::ProbeTarget)| {
            target_in(target).map_err(|error| error.within(&format!("targets[{at}]")))
        };
        Ok(ProbePlan {
            version: plan.version,
            interval: span("interval", plan.interval)?,
            observers: observers.collect::<Result<_, ConvertError>>()?,
            targets: plan
                .targets
                .into_iter()
                .enumerate()
                .map(target)
                .collect::<Result<_, ConvertError>>()?,
        })
    }
}

fn target_in(target: v1::ProbeTarget) -> Result<(NodeId, String), ConvertError> {
    Ok((
        check::uuid("node_id", &target.node_id)?,
        check::address("address", target.address)?,
    ))
}

impl TryFrom<v1::Directive> for Directive {
    type Error = ConvertError;

    fn try_from(directive: v1::Directive) -> Result<Directive, ConvertError> {
        use v1::directive::Order as Wire;
        let order = match check::require("order", directive.order)? {
            Wire::Refresh(v1::Refresh {}) => Order::Refresh,
            Wire::SetHeartbeat(set) => Order::SetHeartbeat(span("set_heartbeat.interval", set.interval)?),
        };
        Ok(Directive {
            id: directive.id,
            epoch: directive.epoch,
            session: directive.session,
            expires_in: span("expires_in", directive.expires_in)?,
            order,
        })
    }
}
