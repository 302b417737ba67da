//! Messages to peers: probes, beacons, questions and answers.

use std::{sync::Arc, time::Duration};

use wyneos::convert::Beacon;
use wyneos_core::{
    agent::{Input, Recipient},
    coordinator::ProbePlan,
    id::{ClusterId, NodeId},
    standing::{Question, Standing},
};

use super::{Driver, ToAgent};
use crate::mesh::{Ask, Members, Probe};

impl Driver {
    pub(super) fn probe(
        &mut self,
        cluster: ClusterId,
        target: NodeId,
        address: Arc<str>,
        sequence: u64,
        timeout: Duration,
    ) {
        let probe = Probe {
            cluster,
            observer: self.id,
            target,
            address,
            sequence,
            timeout,
            tls: self.tls.clone(),
            beacon_key: self.links.as_ref().map(|links| links.own(target)),
        };
        let client = self.peers.take(&probe);
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let (outcome, client) = probe.send(client).await;
            drop(sender.send(ToAgent::Probed(target, sequence, outcome, client)).await);
        });
    }

    pub(super) fn send_beacons(&self, cluster: ClusterId, to: &[Recipient]) {
        for recipient in to {
            let beacon = Beacon {
                cluster,
                sender: self.id,
                receiver: recipient.node,
                observes: recipient.observes,
                // Assigned when it is sent.
                sequence: 0,
            };
            // If too many wait, it is lost, as in the network.
            drop(self.beacons.try_send((Arc::clone(&recipient.address), beacon)));
        }
    }

    /// Asks a peer to relay a question to the coordinator.
    pub(super) fn ask(
        &self,
        cluster: ClusterId,
        via: NodeId,
        address: Arc<str>,
        question: Question,
        number: u64,
        timeout: Duration,
    ) {
        let ask = Ask {
            cluster,
            via,
            address,
            question,
            timeout,
            tls: self.tls.clone(),
        };
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let standing = ask.send().await;
            let answered = Input::Answered { number, via, standing };
            drop(sender.send(ToAgent::Fact(answered)).await);
        });
    }

    /// Answers a peer's question.
    pub(super) fn answer(&mut self, id: u64, standing: Option<Standing>) {
        if let Some(answer) = self.state.questions.remove(&id) {
            // The asker may have tried another peer.
            let _ = answer.send(standing);
        }
    }

    /// Adopts the targets and observers of a plan.
    pub(super) fn take_targets(&mut self, plan: &ProbePlan) {
        self.peers.keep(plan);
        let targets = plan.targets.iter().map(|(node, _)| *node);
        let members: Members = Arc::new(targets.chain(plan.observers.iter().copied()).collect());
        if let Some(links) = &self.links {
            links.keep(&members);
        }
        self.members.send_replace(members);
    }
}
