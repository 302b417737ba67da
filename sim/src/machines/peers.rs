//! Communication between agents: beacons, questions and probes.

use std::sync::Arc;

use prost::Message as _;
use wyneos::{convert, v1};
use wyneos_core::{
    agent::{Agent, Input, ProbeOutcome},
    mesh::LinkFailure,
    standing::{Question, Standing},
    time::Time,
};

use super::{Machines, PATIENCE, RESEND, SYN, machine::Waiting};
use crate::{
    event::{Ask, What},
    names::{CLUSTER, id_of, name},
    net::SMALL,
    scene::Scene,
};

impl Machines {
    pub(crate) fn beacon_in(&mut self, scene: &mut Scene<'_>, sender: usize, receiver: usize, observes: bool) {
        if self.all[receiver].powered {
            let address = Arc::clone(&self.addresses[sender]);
            let (cluster, sender) = (CLUSTER, id_of(sender));
            self.tell_agent(
                scene,
                receiver,
                Input::Beacon {
                    cluster,
                    sender,
                    address,
                    observes,
                },
            );
        }
    }

    /// Delivers a question about a standing to a peer.
    pub(crate) fn ask(&mut self, scene: &mut Scene<'_>, ask: Ask) {
        let via = ask.via;
        let machine = &mut self.all[via];
        if !machine.powered || !machine.runs() {
            scene.stage.later(PATIENCE, What::Answered(Box::new((ask, None))));
            return;
        }
        self.asked += 1;
        let id = self.asked;
        // Encoded and decoded as on the wire.
        let bytes = convert::ask_out(ask.cluster, id_of(via), Question::clone(&ask.question)).encode_to_vec();
        machine.questions.insert(id, ask);
        match v1::AskRequest::decode(&*bytes).map(convert::ask_in) {
            Ok(Ok((cluster, question))) => {
                let question = Box::new(question);
                self.tell_agent(scene, via, Input::Question { id, cluster, question });
            }
            _ => scene.stage.fail(format!("{} cannot read a question", name(via))),
        }
    }

    pub(crate) fn answered(&mut self, scene: &mut Scene<'_>, ask: Ask, standing: Option<Standing>) {
        let Ask {
            caller, via, number, ..
        } = ask;
        let via = id_of(via);
        // Encoded and decoded as on the wire.
        let standing = standing.map(|standing| {
            let bytes = convert::standing_out(standing).encode_to_vec();
            v1::Standing::decode(&*bytes).map(convert::standing_in)
        });
        match standing.transpose().map(Option::transpose) {
            Ok(Ok(standing)) => self.tell_agent(scene, caller, Input::Answered { number, via, standing }),
            _ => scene.stage.fail(format!("{} cannot read a standing", name(caller))),
        }
    }

    /// Position of a probe in flight; `None` if the observer no longer waits for it.
    fn awaited(&self, observer: usize, subject: usize, number: u64) -> Option<usize> {
        let probes = &self.all[observer].probes;
        probes
            .iter()
            .position(|&(of, probe, _)| (of, probe) == (subject, number))
    }

    /// Removes a probe in flight and returns the time of its sending.
    fn end_probe(&mut self, observer: usize, subject: usize, number: u64) -> Option<Time> {
        let at = self.awaited(observer, subject, number)?;
        let (_, _, left) = self.all[observer].probes.swap_remove(at);
        Some(left)
    }

    /// Sends a probe on an idle connection, or opens a new one.
    pub(crate) fn begin_probe(&mut self, scene: &mut Scene<'_>, observer: usize, subject: usize, number: u64) {
        if self.all[observer].connections.remove(&subject) {
            self.probe_out(scene, observer, subject, number, 0);
        } else {
            self.connect(scene, observer, subject, number, 0);
        }
    }

    /// Opens a connection: one packet in each direction, handled by the kernels.
    pub(crate) fn connect(
        &mut self,
        scene: &mut Scene<'_>,
        observer: usize,
        subject: usize,
        number: u64,
        attempt: u32,
    ) {
        if self.awaited(observer, subject, number).is_none() {
            return;
        }
        let there = scene.wires.net.packet(&mut scene.stage.rng, observer, subject, SMALL);
        let back = scene.wires.net.packet(&mut scene.stage.rng, subject, observer, SMALL);
        let machine = &self.all[subject];
        match (there, back) {
            (Some(there), Some(back)) if machine.powered => {
                let what = match machine.runs() {
                    true => What::ProbeOut(observer, subject, number, 0),
                    false => What::ReplyIn(observer, subject, number, false),
                };
                scene.stage.later(there + back, what);
            }
            _ => {
                let wait = SYN * 2u32.pow(attempt.min(6));
                scene
                    .stage
                    .later(wait, What::Connect(observer, subject, number, attempt + 1));
            }
        }
    }

    pub(crate) fn probe_out(
        &mut self,
        scene: &mut Scene<'_>,
        observer: usize,
        subject: usize,
        number: u64,
        attempt: u32,
    ) {
        let Some(at) = self.awaited(observer, subject, number) else {
            return;
        };
        if attempt == 0 {
            // The time to connect is not part of the round-trip time.
            self.all[observer].probes[at].2 = scene.stage.now;
        }
        match scene.wires.net.packet(&mut scene.stage.rng, observer, subject, SMALL) {
            Some(takes) if self.all[subject].powered => {
                scene.stage.later(takes, What::ProbeIn(observer, subject, number));
            }
            // The packet is lost, or no machine confirms it.
            _ => {
                let wait = RESEND * 2u32.pow(attempt.min(9));
                scene
                    .stage
                    .later(wait, What::ProbeOut(observer, subject, number, attempt + 1));
            }
        }
    }

    pub(crate) fn probe_in(&mut self, scene: &mut Scene<'_>, observer: usize, subject: usize, number: u64) {
        let machine = &mut self.all[subject];
        if !machine.powered {
            return;
        }
        if machine.runs() && machine.is_frozen() {
            machine.inbox.push(Waiting::Probe(observer, number));
            return;
        }
        self.reply_out(scene, observer, subject, number, 0);
    }

    pub(crate) fn reply_out(
        &mut self,
        scene: &mut Scene<'_>,
        observer: usize,
        subject: usize,
        number: u64,
        attempt: u32,
    ) {
        let machine = &self.all[subject];
        if !machine.powered || self.awaited(observer, subject, number).is_none() {
            return;
        }
        let answered = machine.runs();
        match scene.wires.net.packet(&mut scene.stage.rng, subject, observer, SMALL) {
            Some(takes) => scene
                .stage
                .later(takes, What::ReplyIn(observer, subject, number, answered)),
            None => {
                let wait = RESEND * 2u32.pow(attempt.min(9));
                scene
                    .stage
                    .later(wait, What::ReplyOut(observer, subject, number, attempt + 1));
            }
        }
    }

    pub(crate) fn reply_in(
        &mut self,
        scene: &mut Scene<'_>,
        observer: usize,
        subject: usize,
        number: u64,
        answered: bool,
    ) {
        let now = scene.stage.now;
        let Some(left) = self.end_probe(observer, subject, number) else {
            return;
        };
        let outcome = if answered {
            self.all[observer].connections.insert(subject);
            // The answer was created earlier, but the coordinate is the same.
            let coordinate = self.all[subject].core.as_ref().map(Agent::coordinate);
            if !self.all[observer].is_frozen() {
                scene.witness.known.answer(subject, observer, now);
            }
            ProbeOutcome::Answered(now.since(left), coordinate)
        } else {
            ProbeOutcome::Refused
        };
        self.probe_ended(scene, observer, subject, number, outcome);
    }

    pub(crate) fn probe_timeout(&mut self, scene: &mut Scene<'_>, observer: usize, subject: usize, number: u64) {
        if self.end_probe(observer, subject, number).is_some() {
            self.probe_ended(
                scene,
                observer,
                subject,
                number,
                ProbeOutcome::Failed(LinkFailure::Late),
            );
        }
    }

    fn probe_ended(
        &mut self,
        scene: &mut Scene<'_>,
        observer: usize,
        subject: usize,
        sequence: u64,
        outcome: ProbeOutcome,
    ) {
        let target = id_of(subject);
        let probed = Input::Probed {
            target,
            sequence,
            outcome,
        };
        self.tell_agent(scene, observer, probed);
    }
}
