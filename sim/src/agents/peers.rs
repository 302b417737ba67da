//! What agents send to one another: beacons, questions, probes.

use std::sync::Arc;

use prost::Message as _;
use wyneos::{convert, v1};
use wyneos_core::{
    agent::{Agent, Input, ProbeOutcome},
    mesh::LinkFailure,
    standing::{Question, Standing},
    time::Time,
};

use super::{PATIENCE, RESEND, SYN, Waiting};
use crate::{
    coordinator::CLUSTER,
    event::{Ask, What},
    names::{id_of, name},
    net::SMALL,
    world::World,
};

impl World<'_> {
    pub(crate) fn beacon_in(&mut self, sender: usize, receiver: usize, observes: bool) {
        if self.machines[receiver].powered {
            let address = Arc::clone(&self.addresses[sender]);
            let (cluster, sender) = (CLUSTER, id_of(sender));
            self.tell_agent(
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

    /// A question for a standing reaches a peer.
    pub(crate) fn ask(&mut self, ask: Ask) {
        let via = ask.via;
        let machine = &mut self.machines[via];
        if !machine.powered || !machine.runs() {
            self.later(PATIENCE, What::Answered(Box::new((ask, None))));
            return;
        }
        self.asked += 1;
        let id = self.asked;
        // By the bytes that it would have on the wire.
        let bytes = convert::ask_out(ask.cluster, id_of(via), Question::clone(&ask.question)).encode_to_vec();
        machine.questions.insert(id, ask);
        match v1::AskRequest::decode(&*bytes).map(convert::ask_in) {
            Ok(Ok((cluster, question))) => {
                let question = Box::new(question);
                self.tell_agent(via, Input::Question { id, cluster, question });
            }
            _ => self.fail(format!("{} cannot read a question", name(via))),
        }
    }

    pub(crate) fn answered(&mut self, ask: Ask, standing: Option<Standing>) {
        let Ask {
            caller, via, number, ..
        } = ask;
        let via = id_of(via);
        // By the bytes that it would have on the wire.
        let standing = standing.map(|standing| {
            let bytes = convert::standing_out(standing).encode_to_vec();
            v1::Standing::decode(&*bytes).map(convert::standing_in)
        });
        match standing.transpose().map(Option::transpose) {
            Ok(Ok(standing)) => self.tell_agent(caller, Input::Answered { number, via, standing }),
            _ => self.fail(format!("{} cannot read a standing", name(caller))),
        }
    }

    /// Which of the probes under way it is; `None` when the observer no longer waits for it.
    fn awaited(&self, observer: usize, subject: usize, number: u64) -> Option<usize> {
        let probes = &self.machines[observer].probes;
        probes
            .iter()
            .position(|&(of, probe, _)| (of, probe) == (subject, number))
    }

    /// The observer waits for it no longer; returns when it left.
    fn end_probe(&mut self, observer: usize, subject: usize, number: u64) -> Option<Time> {
        let at = self.awaited(observer, subject, number)?;
        let (_, _, left) = self.machines[observer].probes.swap_remove(at);
        Some(left)
    }

    /// A probe leaves by the connection that stands, or by a new one while a probe uses that.
    pub(crate) fn begin_probe(&mut self, observer: usize, subject: usize, number: u64) {
        if self.machines[observer].connections.remove(&subject) {
            self.probe_out(observer, subject, number, 0);
        } else {
            self.connect(observer, subject, number, 0);
        }
    }

    /// A connection is opened: a packet there and one back, by the kernels of both.
    pub(crate) fn connect(&mut self, observer: usize, subject: usize, number: u64, attempt: u32) {
        if self.awaited(observer, subject, number).is_none() {
            return;
        }
        let there = self.net.packet(&mut self.rng, observer, subject, SMALL);
        let back = self.net.packet(&mut self.rng, subject, observer, SMALL);
        let machine = &self.machines[subject];
        match (there, back) {
            (Some(there), Some(back)) if machine.powered => {
                let what = match machine.runs() {
                    true => What::ProbeOut(observer, subject, number, 0),
                    false => What::ReplyIn(observer, subject, number, false),
                };
                self.later(there + back, what);
            }
            _ => {
                let wait = SYN * 2u32.pow(attempt.min(6));
                self.later(wait, What::Connect(observer, subject, number, attempt + 1));
            }
        }
    }

    pub(crate) fn probe_out(&mut self, observer: usize, subject: usize, number: u64, attempt: u32) {
        let Some(at) = self.awaited(observer, subject, number) else {
            return;
        };
        if attempt == 0 {
            // The time to connect is not part of what it takes.
            self.machines[observer].probes[at].2 = self.now;
        }
        match self.net.packet(&mut self.rng, observer, subject, SMALL) {
            Some(takes) if self.machines[subject].powered => {
                self.later(takes, What::ProbeIn(observer, subject, number));
            }
            // It is lost, or nobody is there to confirm it.
            _ => {
                let wait = RESEND * 2u32.pow(attempt.min(9));
                self.later(wait, What::ProbeOut(observer, subject, number, attempt + 1));
            }
        }
    }

    pub(crate) fn probe_in(&mut self, observer: usize, subject: usize, number: u64) {
        let machine = &mut self.machines[subject];
        if !machine.powered {
            return;
        }
        if machine.runs() && machine.is_frozen() {
            machine.inbox.push(Waiting::Probe(observer, number));
            return;
        }
        self.reply_out(observer, subject, number, 0);
    }

    pub(crate) fn reply_out(&mut self, observer: usize, subject: usize, number: u64, attempt: u32) {
        let machine = &self.machines[subject];
        if !machine.powered || self.awaited(observer, subject, number).is_none() {
            return;
        }
        let answered = machine.runs();
        match self.net.packet(&mut self.rng, subject, observer, SMALL) {
            Some(takes) => self.later(takes, What::ReplyIn(observer, subject, number, answered)),
            None => {
                let wait = RESEND * 2u32.pow(attempt.min(9));
                self.later(wait, What::ReplyOut(observer, subject, number, attempt + 1));
            }
        }
    }

    pub(crate) fn reply_in(&mut self, observer: usize, subject: usize, number: u64, answered: bool) {
        let now = self.now;
        let Some(left) = self.end_probe(observer, subject, number) else {
            return;
        };
        let outcome = if answered {
            self.machines[observer].connections.insert(subject);
            // The answer was made when it left; what that says of the place is the same.
            let coordinate = self.machines[subject].core.as_ref().map(Agent::coordinate);
            if !self.machines[observer].is_frozen() {
                self.known.answer(subject, observer, now);
            }
            ProbeOutcome::Answered(now.since(left), coordinate)
        } else {
            ProbeOutcome::Refused
        };
        self.probe_ended(observer, subject, number, outcome);
    }

    pub(crate) fn probe_timeout(&mut self, observer: usize, subject: usize, number: u64) {
        if self.end_probe(observer, subject, number).is_some() {
            self.probe_ended(observer, subject, number, ProbeOutcome::Failed(LinkFailure::Late));
        }
    }

    fn probe_ended(&mut self, observer: usize, subject: usize, sequence: u64, outcome: ProbeOutcome) {
        let target = id_of(subject);
        let probed = Input::Probed {
            target,
            sequence,
            outcome,
        };
        self.tell_agent(observer, probed);
    }
}
