//! Execution of the coordinator's effects, and delivery of agents' messages to it.

use std::mem;

use prost::Message as _;
use wyneos::{convert, encoded::Encoded, v1};
use wyneos_core::{
    coordinator::{Effect, FromAgent, Input, Message},
    node::{ConnId, Origin},
};

use super::{Host, disk::Write, observed::observe_moves};
use crate::{
    event::{StreamId, Way},
    machines::Machines,
    names::name,
    pins::{Pin, of_answer, of_batch, of_coordinator},
    scene::Scene,
    wires::Item,
};

impl Host {
    pub(super) fn act(&mut self, scene: &mut Scene<'_>, machines: &Machines, effect: Effect) {
        scene.stage.pin(Pin::Effects, || of_coordinator(&effect));
        match effect {
            Effect::Send { conn, message } => {
                if let Some(stream) = scene.wires.streams.get_mut(&conn.0) {
                    let machine = stream.machine;
                    if matches!(message, Message::Welcome(_)) {
                        stream.welcomed = true;
                        self.sessions.insert(machine, conn.0);
                        scene.witness.known.welcome(machine, scene.stage.now);
                    } else if stream.welcomed
                        && !matches!(message, Message::Refused(_))
                        && self.sessions.get(&machine) != Some(&conn.0)
                    {
                        scene.stage.fail(format!(
                            "a session of {} that was replaced is told something",
                            name(machine)
                        ));
                    }
                    let bytes = v1::SessionResponse::from(message).encode_to_vec();
                    scene
                        .wires
                        .push(&mut scene.stage, conn.0, Way::Down, Item::Bytes(bytes.into()));
                }
            }
            Effect::Announce(seal) => {
                let bytes = v1::SessionResponse::from(Message::Seal { seal, heard: 0 });
                self.seal = (self.seal.0 + 1, Encoded::new(&bytes));
            }
            Effect::Close { conn } => {
                scene.wires.release(conn.0);
                scene.wires.push(&mut scene.stage, conn.0, Way::Down, Item::End);
            }
            Effect::Commit(batch) => {
                scene
                    .stage
                    .pin(Pin::Batches, || ("batch", of_batch(&batch).into_bytes()));
                self.observe(scene, machines, &batch);
                observe_moves(scene, &batch);
                self.write(scene, Write::Batch(batch, scene.stage.now));
                self.was_full = self.is_full();
            }
            Effect::View(_) | Effect::Nodes(_) => {}
            Effect::Publish(snapshot) => self.write(scene, Write::Snapshot(snapshot)),
            Effect::Reply { answer, .. } => {
                scene.stage.note(Pin::Replies, "reply", &of_answer(&answer));
            }
        }
    }

    pub(crate) fn hears(&mut self, scene: &mut Scene<'_>, machines: &Machines, id: StreamId, item: Item) {
        let conn = ConnId(id);
        let Item::Bytes(bytes) = item else {
            self.loses(scene, machines, id, true);
            return;
        };
        scene.stage.note(Pin::Wire, "up", &bytes);
        let request = match v1::SessionRequest::decode(bytes) {
            Ok(request) => request,
            Err(error) => {
                return scene
                    .stage
                    .fail(format!("a message to the coordinator is none: {error}"));
            }
        };
        let mut heard = 0;
        match convert::session_input(conn, &Origin::default(), request) {
            Ok(input) => {
                if let Input::FromAgent(_, FromAgent::Heartbeat(heartbeat)) = &input {
                    heard = heartbeat.sequence;
                }
                self.note_sign(scene, id, &input);
                self.tell(scene, machines, input);
            }
            Err(error) => scene
                .stage
                .fail(format!("the coordinator cannot read an agent: {error}")),
        }
        // Seals are delivered with heartbeats.
        let (number, seal) = (self.seal.0, self.seal.1.clone());
        if let Some(stream) = scene.wires.streams.get_mut(&id)
            && stream.welcomed
            && heard > 0
            && mem::replace(&mut stream.sealed, number) != number
            && !self.is_frozen()
        {
            scene.wires.push(
                &mut scene.stage,
                id,
                Way::Down,
                Item::Bytes(convert::confirming(&seal, heard).0),
            );
        }
    }

    /// Records what a running process of the coordinator received from a node.
    fn note_sign(&mut self, scene: &mut Scene<'_>, id: StreamId, input: &Input) {
        let Some(machine) = scene.wires.streams.get(&id).map(|stream| stream.machine) else {
            return;
        };
        let of_session = self.sessions.get(&machine) == Some(&id);
        let sign = matches!(
            input,
            Input::FromAgent(
                _,
                FromAgent::Heartbeat(_) | FromAgent::Evidence { .. } | FromAgent::Arrivals(_)
            )
        );
        scene
            .witness
            .known
            .receive(machine, sign && of_session, scene.stage.now);
    }

    pub(crate) fn loses(&mut self, scene: &mut Scene<'_>, machines: &Machines, id: StreamId, by_peer: bool) {
        scene.wires.release(id);
        self.tell(
            scene,
            machines,
            Input::Closed {
                conn: ConnId(id),
                by_peer,
            },
        );
    }
}
