//! Messages of agents to the coordinator.

use wyneos_core::{
    agent::FromAgent,
    behaviour::State,
    coordinator::{Heartbeat, Input},
    id::{ClusterId, Cycle, DirectiveId, Epoch, NodeId, ProcessId},
    limits,
    mesh::{Coordinate, DIMENSIONS, LinkFailure, LinkReport, LinkState, Observation, REPORTS, Sight},
    node::{ConnId, Facts, Health, Hello, Origin},
    standing::{HOPS, Question},
    telemetry::Channel,
    text::SENTENCE,
    time::WallTime,
};

use super::{
    ConvertError, check,
    instance::{chunk_in, chunk_out, described_in, described_out, instances_in, instances_out},
    node::{labels_out, same},
    time::{timestamp, timestamp_in},
};
use crate::v1::{self, session_request};

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
    LinkFailure,
    v1::LinkFailure {
        Late,
        Refused,
        Unreachable,
        Mistaken,
        Other
    }
);

/// Converts an optional failure.
pub(super) fn failure_out(failure: Option<LinkFailure>) -> i32 {
    failure
        .map_or(v1::LinkFailure::Unspecified, v1::LinkFailure::from)
        .into()
}

/// Converts bytes of a fixed length; none yields zeros, meaning unknown.
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

pub(super) fn no_such_value(field: &str, value: i32) -> ConvertError {
    ConvertError::new(field, format!("{value} is not a value of this enum"))
}

/// Converts a message of an agent at `origin` to an input. A message without content (of a kind added by a newer agent)
/// is an error.
pub fn session_input(conn: ConnId, origin: &Origin, request: v1::SessionRequest) -> Result<Input, ConvertError> {
    Ok(match FromAgent::try_from(request)? {
        FromAgent::Hello(hello) => Input::Opened {
            conn,
            hello,
            origin: origin.clone(),
        },
        said => Input::FromAgent(conn, said),
    })
}

impl TryFrom<v1::SessionRequest> for FromAgent {
    type Error = ConvertError;

    fn try_from(request: v1::SessionRequest) -> Result<FromAgent, ConvertError> {
        match check::require("message", request.message)? {
            session_request::Message::Hello(hello) => {
                let hello = Box::new(Hello::try_from(hello).map_err(|error| error.within("hello"))?);
                Ok(FromAgent::Hello(hello))
            }
            session_request::Message::Heartbeat(heartbeat) => {
                let heartbeat = Heartbeat::try_from(heartbeat).map_err(|error| error.within("heartbeat"))?;
                Ok(FromAgent::Heartbeat(heartbeat))
            }
            session_request::Message::Directive(update) => {
                let state = update
                    .state()
                    .try_into()
                    .map_err(|_| no_such_value("directive.state", update.state))?;
                let detail = check::text("directive.detail", update.detail, 1024)?;
                Ok(FromAgent::Directive {
                    id: DirectiveId(update.id),
                    state,
                    detail,
                })
            }
            session_request::Message::Goodbye(goodbye) => Ok(FromAgent::Goodbye {
                reason: check::text("goodbye.reason", goodbye.reason, 256)?,
            }),
            session_request::Message::Sightings(sightings) => Ok(FromAgent::Evidence {
                observations: observations_in("sightings.observations", sightings.observations)?,
                health: sightings.health.map(|health| Health {
                    strained: health.strained,
                    disk_stalled: health.disk_stalled,
                }),
                sent_millis: sightings.sent_millis,
            }),
            session_request::Message::Instances(report) => instances_in(report),
            session_request::Message::Described(described) => described_in(described),
            session_request::Message::Log(chunk) => Ok(FromAgent::Log(chunk_in(chunk)?)),
            session_request::Message::Question(question) => Ok(FromAgent::Question {
                number: question.number,
                question: Box::new(Question {
                    asker: check::uuid("question.asker_id", &question.asker_id)?,
                    incarnation: question.incarnation,
                    path: path_in("question.path_ids", &question.path_ids)?,
                    observations: observations_in("question.observations", question.observations)?,
                }),
                sent_millis: question.sent_millis,
            }),
            session_request::Message::Arrivals(arrivals) => {
                check::at_most("arrivals.arrivals", arrivals.arrivals.len(), REPORTS)?;
                let read = |(at, arrival): (usize, v1::Arrival)| {
                    let sender = check::uuid(&format!("arrivals.arrivals[{at}].sender_id"), &arrival.sender_id)?;
                    Ok((sender, arrival.arrives))
                };
                let arrivals = arrivals.arrivals.into_iter().enumerate().map(read);
                let arrivals = arrivals.collect::<Result<_, ConvertError>>()?;
                Ok(FromAgent::Arrivals(arrivals))
            }
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
            process_id: ProcessId(optional("instance", &hello.instance)?),
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
            acknowledged: (Epoch(heartbeat.acknowledged_epoch), Cycle(heartbeat.acknowledged_cycle)),
            answers: heartbeat.answers,
            sent_millis: heartbeat.sent_millis,
        })
    }
}

/// Converts a coordinate from the wire.
pub fn coordinate_in(coordinate: v1::Coordinate) -> Result<Coordinate, ConvertError> {
    let wrong = |_| ConvertError::new("coordinate.position", format!("not {DIMENSIONS} numbers"));
    let position: [f32; DIMENSIONS] = coordinate.position.try_into().map_err(wrong)?;
    let (height, error) = (f64::from(coordinate.height), f64::from(coordinate.error));
    Coordinate::new(position.map(f64::from), height, error)
        .ok_or_else(|| ConvertError::new("coordinate", "a number is not finite or out of range"))
}

/// Converts a coordinate for the wire.
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
        // Agents of a later version may report values that are unknown here.
        failure: link.failure().try_into().ok(),
    };
    Ok((subject, report))
}

fn observations_in(
    field: &str,
    observations: Vec<v1::Observation>,
) -> Result<Vec<(NodeId, Observation)>, ConvertError> {
    check::at_most(field, observations.len(), REPORTS)?;
    let read = |(at, observation)| observation_in(observation).map_err(|error| error.within(&format!("{field}[{at}]")));
    observations.into_iter().enumerate().map(read).collect()
}

fn path_in(field: &str, ids: &[String]) -> Result<Vec<NodeId>, ConvertError> {
    check::at_most(field, ids.len(), HOPS - 1)?;
    let read = |(at, id): (usize, &String)| check::uuid(&format!("{field}[{at}]"), id);
    ids.iter().enumerate().map(read).collect()
}

/// Converts a question sent from one agent to another: the sender is the last node of its path, or the asker.
pub fn ask_out(cluster: ClusterId, via: NodeId, question: Question) -> v1::AskRequest {
    let caller = question.peer();
    let mut path = question.path;
    path.pop();
    v1::AskRequest {
        cluster_id: cluster.to_string(),
        node_id: caller.to_string(),
        via_id: via.to_string(),
        incarnation: question.incarnation,
        asker_id: question.asker.to_string(),
        path_ids: path.iter().map(NodeId::to_string).collect(),
        observations: question.observations.into_iter().map(observation_out).collect(),
    }
}

/// Converts a question received from another agent; returns it with its cluster.
pub fn ask_in(request: v1::AskRequest) -> Result<(ClusterId, Question), ConvertError> {
    let caller = check::uuid("node_id", &request.node_id)?;
    let asker = match request.asker_id.as_str() {
        "" => caller,
        id => check::uuid("asker_id", id)?,
    };
    let mut path = path_in("path_ids", &request.path_ids)?;
    if asker != caller {
        path.push(caller);
    } else if !path.is_empty() {
        return Err(ConvertError::new(
            "path_ids",
            "the caller asks for itself, and nobody can have passed that on",
        ));
    }
    let question = Question {
        asker,
        incarnation: request.incarnation,
        path,
        observations: observations_in("observations", request.observations)?,
    };
    Ok((check::uuid("cluster_id", &request.cluster_id)?, question))
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

impl From<FromAgent> for v1::SessionRequest {
    fn from(report: FromAgent) -> v1::SessionRequest {
        let message = match report {
            FromAgent::Hello(hello) => session_request::Message::Hello((*hello).into()),
            FromAgent::Heartbeat(heartbeat) => session_request::Message::Heartbeat(heartbeat.into()),
            FromAgent::Directive { id, state, detail } => session_request::Message::Directive(v1::DirectiveUpdate {
                id: id.0,
                state: v1::DirectiveState::from(state).into(),
                detail,
            }),
            FromAgent::Evidence {
                observations,
                health,
                sent_millis,
            } => session_request::Message::Sightings(v1::Sightings {
                observations: observations.into_iter().map(observation_out).collect(),
                health: health.map(|health| v1::AgentHealth {
                    strained: health.strained,
                    disk_stalled: health.disk_stalled,
                }),
                sent_millis,
            }),
            FromAgent::Arrivals(arrivals) => {
                let arrivals = arrivals.into_iter().map(|(sender, arrives)| v1::Arrival {
                    sender_id: sender.to_string(),
                    arrives,
                });
                let arrivals = arrivals.collect();
                session_request::Message::Arrivals(v1::Arrivals { arrivals })
            }
            FromAgent::Question {
                number,
                question,
                sent_millis,
            } => session_request::Message::Question(v1::Question {
                number,
                asker_id: question.asker.to_string(),
                incarnation: question.incarnation,
                path_ids: question.path.iter().map(NodeId::to_string).collect(),
                observations: question.observations.into_iter().map(observation_out).collect(),
                sent_millis,
            }),
            FromAgent::Instances { instances, all } => {
                session_request::Message::Instances(instances_out(instances, all))
            }
            FromAgent::Described { instances, .. } => session_request::Message::Described(described_out(instances)),
            FromAgent::Log(chunk) => session_request::Message::Log(chunk_out(chunk)),
            FromAgent::Goodbye { reason } => session_request::Message::Goodbye(v1::Goodbye { reason }),
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
            instance: optional_out(&hello.process_id.0),
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
            failure: failure_out(link.failure),
        };
        v1::Heartbeat {
            sequence: heartbeat.sequence,
            wall_millis: heartbeat.wall.0,
            load: heartbeat.load,
            values: heartbeat.values,
            absent: heartbeat.absent,
            links: heartbeat.links.into_iter().map(link_out).collect(),
            acknowledged_epoch: heartbeat.acknowledged.0.0,
            acknowledged_cycle: heartbeat.acknowledged.1.0,
            answers: heartbeat.answers,
            sent_millis: heartbeat.sent_millis,
            coordinate: heartbeat.coordinate.map(coordinate_out),
        }
    }
}
