//! Execution of an agent's effects, in place of its driver; and its transports.

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

use super::{Machines, PATIENCE, SYN, WRITE};
use crate::{
    event::{Ask, Way, What},
    names::{id_of, name, node_of},
    net::SMALL,
    pins::{Pin, of_agent},
    scene::Scene,
    wires::Item,
};

impl Machines {
    pub(super) fn do_for_agent(&mut self, scene: &mut Scene<'_>, node: usize, effect: Effect) {
        let now = scene.stage.now;
        scene.stage.pin(Pin::Effects, || of_agent(&effect));
        match effect {
            Effect::Connect { conn, .. } => {
                let generation = self.all[node].generation;
                self.dial(scene, node, generation, conn, 0);
            }
            Effect::Send { conn, report } => {
                if let Some(stream) = self.stream_of(node, conn) {
                    let bytes = v1::SessionRequest::from(report).encode_to_vec();
                    scene
                        .wires
                        .push(&mut scene.stage, stream, Way::Up, Item::Bytes(bytes.into()));
                }
            }
            Effect::Close { conn } => {
                if let Some(stream) = self.all[node].streams.remove(&conn) {
                    scene.wires.push(&mut scene.stage, stream, Way::Up, Item::End);
                }
            }
            Effect::TouchDisk => {
                let takes = self.all[node].disk_stalled_until.since(now) + WRITE;
                let generation = self.all[node].generation;
                scene.stage.later(takes, What::Written(node, generation));
            }
            Effect::Measure => {
                let step: f32 = scene.stage.rng.random_range(-0.02..0.02);
                let machine = &mut self.all[node];
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
                if subject < scene.wires.hub() {
                    self.all[node].probes.push((subject, sequence, now));
                    scene
                        .stage
                        .at_last(now + timeout, What::ProbeTimeout(node, subject, sequence));
                    self.begin_probe(scene, node, subject, sequence);
                }
            }
            Effect::Beacons { to, .. } => {
                for recipient in to.iter() {
                    let peer = node_of(recipient.node);
                    if peer < scene.wires.hub()
                        && let Some(takes) = scene.wires.net.packet(&mut scene.stage.rng, node, peer, BEACON_BYTES)
                    {
                        scene.stage.later(takes, What::Beacon(node, peer, recipient.observes));
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
                if let Some(takes) = scene.wires.net.packet(&mut scene.stage.rng, node, ask.via, SMALL) {
                    scene.stage.later(takes, What::Ask(Box::new(ask)));
                } else {
                    scene.stage.later(PATIENCE, What::Answered(Box::new((ask, None))));
                }
            }
            Effect::Answer { id, standing } => {
                let Some(ask) = self.all[node].questions.remove(&id) else {
                    return;
                };
                let back = scene.wires.net.packet(&mut scene.stage.rng, node, ask.caller, SMALL);
                let standing = back.and(standing);
                scene
                    .stage
                    .later(back.unwrap_or(PATIENCE), What::Answered(Box::new((ask, standing))));
            }
            Effect::Tell(Notice::Lapsed) => {
                scene.stage.note(Pin::Verdicts, "lapsed", &id_of(node).0);
                scene.witness.lapses.push((scene.stage.now, node));
            }
            Effect::Tell(Notice::Told { standing, .. }) => {
                scene
                    .stage
                    .note(Pin::Verdicts, "told", standing.liveness.name().as_bytes());
                scene.witness.told.push((scene.stage.now, node, standing.liveness));
            }
            effect @ (Effect::Run(_)
            | Effect::Halt { .. }
            | Effect::Lease { .. }
            | Effect::Discard { .. }
            | Effect::Presume { .. }) => {
                if !self.all[node].holds_up(scene.stage.now, &effect) {
                    self.do_for_instances(scene, node, effect);
                }
            }
            Effect::Targets(plan) => {
                self.all[node].targets = plan.targets.iter().map(|(id, _)| node_of(*id)).collect();
                scene.witness.truth.stale |= scene.wires.net.has_cuts();
            }
            Effect::Tell(_) | Effect::ReadLog(_) | Effect::TakeOver => {}
            Effect::Stopped => {
                self.kill_agent(scene, node);
                if mem::take(&mut self.all[node].restarts) {
                    self.start_agent(scene, node);
                }
            }
        }
    }

    pub(crate) fn dial(&mut self, scene: &mut Scene<'_>, node: usize, generation: u32, conn: ConnId, attempt: u32) {
        let machine = &self.all[node];
        if machine.generation != generation || !machine.runs() {
            return;
        }
        let hub = scene.wires.hub();
        let there = scene.wires.net.packet(&mut scene.stage.rng, node, hub, SMALL);
        let back = scene.wires.net.packet(&mut scene.stage.rng, hub, node, SMALL);
        let (Some(there), Some(back)) = (there, back) else {
            if attempt < 4 {
                scene
                    .stage
                    .later(SYN * 2u32.pow(attempt), What::Dial(node, generation, conn, attempt + 1));
            }
            return;
        };
        let Some(listener) = scene.wires.listener else {
            self.tell_agent(
                scene,
                node,
                Input::Closed {
                    conn,
                    reason: "connection refused".to_owned(),
                },
            );
            return;
        };
        let stream = scene
            .wires
            .open_stream(&mut scene.stage, node, generation, conn, listener);
        self.all[node].streams.insert(conn, stream);
        // Time of the handshake; later packets have their own delay.
        scene.stage.at(scene.stage.now + there + back, What::Stands(stream));
    }

    pub(crate) fn agent_hears(&mut self, scene: &mut Scene<'_>, node: usize, conn: ConnId, item: Item) {
        match item {
            Item::Bytes(bytes) => {
                scene.stage.note(Pin::Wire, "down", &bytes);
                let decoded = v1::SessionResponse::decode(bytes).map_err(|error| error.to_string());
                let message =
                    decoded.and_then(|response| Message::try_from(response).map_err(|error| error.to_string()));
                match message {
                    Ok(message) => self.tell_agent(scene, node, Input::Message { conn, message }),
                    Err(error) => scene
                        .stage
                        .fail(format!("{} cannot read the coordinator: {error}", name(node))),
                }
            }
            Item::End => self.agent_loses(scene, node, conn, "the coordinator ended it"),
        }
    }

    pub(crate) fn agent_loses(&mut self, scene: &mut Scene<'_>, node: usize, conn: ConnId, reason: &str) {
        self.all[node].streams.remove(&conn);
        let reason = reason.to_owned();
        self.tell_agent(scene, node, Input::Closed { conn, reason });
    }
}
