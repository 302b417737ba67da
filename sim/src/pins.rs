//! Hashes of a run's behaviour by category: a refactoring must leave all of them unchanged.

use std::collections::BTreeMap;

use prost::Message as _;
use serde::Serialize;
use wyneos::{convert, v1};
use wyneos_core::{
    agent,
    coordinator::{Answer, Changed, Effect, Message, Refusal},
    store::Batch,
    time::Time,
};

/// A category of behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pin {
    /// Delivered bytes in both directions.
    Wire,
    /// Snapshots.
    Seals,
    /// Verdicts, findings, and the agents' view of them.
    Verdicts,
    /// Starts and ends of programs.
    Programs,
    /// Effects of both roles, in order.
    Effects,
    /// Durable changes.
    Batches,
    /// Answers to operators.
    Replies,
}

impl Pin {
    /// All categories.
    pub const ALL: [Pin; 7] = [
        Pin::Wire,
        Pin::Seals,
        Pin::Verdicts,
        Pin::Programs,
        Pin::Effects,
        Pin::Batches,
        Pin::Replies,
    ];

    /// Name of the category.
    pub const fn name(self) -> &'static str {
        match self {
            Pin::Wire => "wire",
            Pin::Seals => "seals",
            Pin::Verdicts => "verdicts",
            Pin::Programs => "programs",
            Pin::Effects => "effects",
            Pin::Batches => "batches",
            Pin::Replies => "replies",
        }
    }
}

/// Hashes of a run by category.
#[derive(Default)]
pub(crate) struct Pins(BTreeMap<Pin, blake3::Hasher>);

impl Pins {
    pub(crate) fn add(&mut self, pin: Pin, now: Time, what: &str, bytes: &[u8]) {
        let hash = self.0.entry(pin).or_default();
        hash.update(&now.0.to_le_bytes());
        hash.update(&(what.len() as u64).to_le_bytes());
        hash.update(what.as_bytes());
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    }

    /// Hashes of 64 bits in hexadecimal.
    pub(crate) fn told(&self) -> BTreeMap<Pin, String> {
        let short = |hash: &blake3::Hasher| hash.finalize().to_hex().as_str()[..16].to_owned();
        Pin::ALL
            .iter()
            .map(|pin| {
                (
                    *pin,
                    self.0.get(pin).map_or_else(|| short(&blake3::Hasher::new()), short),
                )
            })
            .collect()
    }
}

/// Kind and distinguishing data of a coordinator's effect.
pub(crate) fn of_coordinator(effect: &Effect) -> (&'static str, Vec<u8>) {
    match effect {
        Effect::Send { conn, message } => {
            let mut bytes = conn.0.to_le_bytes().to_vec();
            bytes.extend(v1::SessionResponse::from(Message::clone(message)).encode_to_vec());
            ("send", bytes)
        }
        Effect::Announce(seal) => ("announce", seal.chain.to_vec()),
        Effect::Close { conn } => ("close", conn.0.to_le_bytes().to_vec()),
        Effect::Commit(batch) => ("commit", (batch.events.len() as u64).to_le_bytes().to_vec()),
        Effect::Publish(snapshot) => ("publish", snapshot.cycle.0.to_le_bytes().to_vec()),
        Effect::View(view) => ("view", (view.assignments.len() as u64).to_le_bytes().to_vec()),
        Effect::Nodes(_) => ("nodes", Vec::new()),
        Effect::Reply { answer, .. } => ("reply", vec![u8::from(answer.is_ok())]),
    }
}

/// Kind and distinguishing data of an agent's effect.
pub(crate) fn of_agent(effect: &agent::Effect) -> (&'static str, Vec<u8>) {
    let number = |number: u64| number.to_le_bytes().to_vec();
    match effect {
        agent::Effect::Connect { conn, .. } => ("connect", number(conn.0)),
        agent::Effect::Send { conn, report } => {
            let mut bytes = number(conn.0);
            bytes.extend(v1::SessionRequest::from(report.clone()).encode_to_vec());
            ("send", bytes)
        }
        agent::Effect::Close { conn } => ("close", number(conn.0)),
        agent::Effect::TouchDisk => ("touch-disk", Vec::new()),
        agent::Effect::Measure => ("measure", Vec::new()),
        agent::Effect::Probe { target, sequence, .. } => ("probe", [target.0.to_vec(), number(*sequence)].concat()),
        agent::Effect::Beacons { to, .. } => ("beacons", number(to.len() as u64)),
        agent::Effect::Ask { via, number: ask, .. } => ("ask", [via.0.to_vec(), number(*ask)].concat()),
        agent::Effect::Answer { id, standing } => {
            ("answer", [number(*id), vec![u8::from(standing.is_some())]].concat())
        }
        agent::Effect::Tell(_) => ("tell", Vec::new()),
        agent::Effect::Run(assigned) => ("run", number(assigned.id.0)),
        agent::Effect::Halt { id, .. } => ("halt", number(id.0)),
        agent::Effect::Lease { id, until } => ("lease", [number(id.0), number(until.0)].concat()),
        agent::Effect::Discard { id } => ("discard", number(id.0)),
        agent::Effect::Presume { below, .. } => ("presume", number(below.0)),
        agent::Effect::Targets(plan) => ("targets", number(plan.targets.len() as u64)),
        agent::Effect::ReadLog(_) => ("read-log", Vec::new()),
        agent::Effect::TakeOver => ("take-over", Vec::new()),
        agent::Effect::Stopped => ("stopped", Vec::new()),
    }
}

fn json(what: &impl Serialize) -> String {
    serde_json::to_string(what).unwrap_or_else(|error| error.to_string())
}

/// A batch as it is stored. The exhaustive pattern ensures that a new field is included.
pub(crate) fn of_batch(batch: &Batch) -> String {
    let Batch {
        forgotten,
        nodes,
        events,
        access,
        workloads,
        assignments,
        policy,
        decisions,
        restored,
        intents,
    } = batch;
    [
        json(forgotten),
        json(&nodes.iter().map(|node| json(node.as_ref())).collect::<Vec<_>>()),
        json(&events.iter().map(|event| json(event.as_ref())).collect::<Vec<_>>()),
        json(&access.as_deref()),
        json(
            &workloads
                .iter()
                .map(|(name, record)| (name.as_ref(), record.as_deref()))
                .collect::<Vec<_>>(),
        ),
        json(
            &assignments
                .iter()
                .map(|(id, record)| (id, record.as_deref()))
                .collect::<Vec<_>>(),
        ),
        json(policy),
        json(decisions),
        json(restored),
        json(intents),
    ]
    .join("\n")
}

/// An answer in its wire format if it has a standalone one, otherwise its parts.
pub(crate) fn of_answer(answer: &Result<Answer, Refusal>) -> Vec<u8> {
    let number = |number: u64| number.to_le_bytes().to_vec();
    let Ok(answer) = answer else {
        return answer
            .as_ref()
            .err()
            .map_or_else(Vec::new, |refusal| refusal.to_string().into_bytes());
    };
    match answer {
        Answer::ChangeWorkload(change) => convert::change_out(Changed::clone(change)).encode_to_vec(),
        Answer::Drain(changes) | Answer::WhatIf(changes) | Answer::Rebalance(changes) => {
            let bytes = changes
                .iter()
                .cloned()
                .map(|change| convert::change_out(change).encode_to_vec());
            bytes.flatten().collect()
        }
        Answer::Decide(decision) => v1::Decision::from(decision.as_ref()).encode_to_vec(),
        Answer::Cordon(reply) | Answer::Uncordon(reply) => [
            reply.eligibility.name().as_bytes(),
            &[u8::from(reply.changed)],
            &number(reply.event.0),
        ]
        .concat(),
        Answer::Label(reply) => [
            json(&reply.labels).as_bytes(),
            &[u8::from(reply.changed)],
            &number(reply.event.0),
        ]
        .concat(),
        Answer::Admit(reply) | Answer::Revoke(reply) | Answer::Enrol(reply) | Answer::Renew(reply) => [
            &reply.node.0[..],
            json(&reply.admission).as_bytes(),
            &[u8::from(reply.changed)],
            &number(reply.event.0),
        ]
        .concat(),
        Answer::SetPolicy(reply) => [json(&reply.policy).as_bytes(), &number(reply.event.0)].concat(),
        Answer::Refresh(reply) | Answer::SetHeartbeat(reply) => [number(reply.id.0), number(reply.event.0)].concat(),
        Answer::Forget(forgotten) => [&forgotten.node.0[..], &number(forgotten.event.0)].concat(),
        Answer::CreateToken(token) | Answer::DeleteToken(token) => json(token).into_bytes(),
        Answer::CreateOperator(operator) | Answer::RevokeOperator(operator) => json(operator).into_bytes(),
        Answer::AuthorityActivates(_) | Answer::AuthorityRetired(_) => b"noted".to_vec(),
        Answer::ReadLog(chunk) => chunk.data.to_vec(),
    }
}
