//! What an agent's logic wants done, as its driver would do it; and its transports.

use std::mem;

use prost::Message as _;
use rand::RngExt;
use wyneos::{convert::BEACON_BYTES, v1};
use wyneos_core::{
    agent::{Effect, Input, Notice},
    coordinator::Message,
    node::ConnId,
    telemetry::{Channel, Reading},
};

use super::{PATIENCE, SYN, WRITE};
use crate::{
    event::{Ask, Way, What},
    names::{id_of, name, node_of},
    net::SMALL,
    pins::{Pin, of_agent},
    streams::Item,
    world::World,
};

impl World<'_> {
    pub(super) fn do_for_agent(&mut self, node: usize, effect: Effect) {
        let now = self.now;
        self.pin(Pin::Effects, || of_agent(&effect));
        match effect {
            Effect::Connect { conn, .. } => {
                let generation = self.machines[node].generation;
                self.dial(node, generation, conn, 0);
            }
            Effect::Send { conn, report } => {
                if let Some(stream) = self.stream_of(node, conn) {
                    let bytes = v1::SessionRequest::from(report).encode_to_vec();
                    self.push(stream, Way::Up, Item::Bytes(bytes.into()));
                }
            }
            Effect::Close { conn } => {
                if let Some(stream) = self.machines[node].streams.remove(&conn) {
                    self.push(stream, Way::Up, Item::End);
                }
            }
            Effect::TouchDisk => {
                let takes = self.machines[node].disk_stalled_until.since(now) + WRITE;
                let generation = self.machines[node].generation;
                self.later(takes, What::Written(node, generation));
            }
            Effect::Measure => {
                let step: f32 = self.rng.random_range(-0.02..0.02);
                let machine = &mut self.machines[node];
                machine.load = (machine.load + step).clamp(0.05, 0.95);
                let load = machine.loaded.unwrap_or(machine.load);
                let reading: Reading = std::array::from_fn(|channel| (channel < Channel::COUNT).then_some(load));
                let (local, wall) = (machine.clock.local(now), machine.clock.wall(now));
                if let Some(core) = &mut machine.core {
                    core.handle(local, Input::WallClock(wall));
                    core.handle(local, Input::Measured(reading));
                }
            }
            Effect::Probe {
                target,
                sequence,
                timeout,
                ..
            } => {
                let subject = node_of(target);
                if subject < self.machines.len() {
                    self.machines[node].probes.push((subject, sequence, now));
                    self.at_last(now + timeout, What::ProbeTimeout(node, subject, sequence));
                    self.begin_probe(node, subject, sequence);
                }
            }
            Effect::Beacons { to, .. } => {
                for recipient in to.iter() {
                    let peer = node_of(recipient.node);
                    if peer < self.machines.len()
                        && let Some(takes) = self.net.packet(&mut self.rng, node, peer, BEACON_BYTES)
                    {
                        self.later(takes, What::Beacon(node, peer, recipient.observes));
                    }
                }
            }
            Effect::Ask {
                cluster,
                via,
                question,
                number,
                ..
            } => {
                let ask = Ask {
                    caller: node,
                    via: node_of(via),
                    cluster,
                    question,
                    number,
                };
                if let Some(takes) = self.net.packet(&mut self.rng, node, ask.via, SMALL) {
                    self.later(takes, What::Ask(Box::new(ask)));
                } else {
                    self.later(PATIENCE, What::Answered(Box::new((ask, None))));
                }
            }
            Effect::Answer { id, standing } => {
                let Some(ask) = self.machines[node].questions.remove(&id) else {
                    return;
                };
                let back = self.net.packet(&mut self.rng, node, ask.caller, SMALL);
                let standing = back.and(standing);
                self.later(back.unwrap_or(PATIENCE), What::Answered(Box::new((ask, standing))));
            }
            Effect::Tell(Notice::Lapsed) => {
                self.note(Pin::Verdicts, "lapsed", &id_of(node).0);
                self.lapses.push((self.now, node));
            }
            Effect::Tell(Notice::Told { standing, .. }) => {
                self.note(Pin::Verdicts, "told", standing.liveness.name().as_bytes());
                self.told.push((self.now, node, standing.liveness));
            }
            effect @ (Effect::Run(_)
            | Effect::Halt { .. }
            | Effect::Lease { .. }
            | Effect::Discard { .. }
            | Effect::Presume { .. }) => {
                self.do_for_instances(node, effect);
            }
            Effect::Targets(plan) => {
                self.machines[node].targets = plan.targets.iter().map(|(id, _)| node_of(*id)).collect();
                self.truth.stale |= self.net.has_cuts();
            }
            Effect::Tell(_) | Effect::ReadLog(_) | Effect::TakeOver => {}
            Effect::Stopped => {
                self.kill_agent(node);
                if mem::take(&mut self.machines[node].restarts) {
                    self.start_agent(node);
                }
            }
        }
    }

    pub(crate) fn dial(&mut self, node: usize, generation: u32, conn: ConnId, attempt: u32) {
        let machine = &self.machines[node];
        if machine.generation != generation || !machine.runs() {
            return;
        }
        let hub = self.hub();
        let there = self.net.packet(&mut self.rng, node, hub, SMALL);
        let back = self.net.packet(&mut self.rng, hub, node, SMALL);
        let (Some(there), Some(back)) = (there, back) else {
            if attempt < 4 {
                self.later(SYN * 2u32.pow(attempt), What::Dial(node, generation, conn, attempt + 1));
            }
            return;
        };
        if !self.host.runs() {
            self.tell_agent(
                node,
                Input::Closed {
                    conn,
                    reason: "connection refused".to_owned(),
                },
            );
            return;
        }
        let stream = self.open_stream(node, conn);
        self.machines[node].streams.insert(conn, stream);
        // The handshake: what follows takes its own way.
        self.at(self.now + there + back, What::Stands(stream));
    }

    pub(crate) fn agent_hears(&mut self, node: usize, conn: ConnId, item: Item) {
        match item {
            Item::Bytes(bytes) => {
                self.note(Pin::Wire, "down", &bytes);
                let decoded = v1::SessionResponse::decode(bytes).map_err(|error| error.to_string());
                let message =
                    decoded.and_then(|response| Message::try_from(response).map_err(|error| error.to_string()));
                match message {
                    Ok(message) => self.tell_agent(node, Input::Message { conn, message }),
                    Err(error) => self.fail(format!("{} cannot read the coordinator: {error}", name(node))),
                }
            }
            Item::End => self.agent_loses(node, conn, "the coordinator ended it"),
        }
    }

    pub(crate) fn agent_loses(&mut self, node: usize, conn: ConnId, reason: &str) {
        self.machines[node].streams.remove(&conn);
        let reason = reason.to_owned();
        self.tell_agent(node, Input::Closed { conn, reason });
    }
}
