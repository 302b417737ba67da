//! Beacons: datagrams of full size between an observer and its subjects, both ways and unanswered. A probe is a question and
//! an answer; only what comes without being asked tells which way packets are lost, and a small probe does not tell whether
//! large packets get through.

use std::{sync::Arc, time::Duration};

use super::{
    Agent, Effect, Recipient, Timer,
    probes::{LATE, Probes},
    table::Table,
};
use crate::{
    id::{ClusterId, NodeId},
    mesh::Sight,
    time::Time,
};

/// Time between two beacons to one peer.
const EVERY: Duration = Duration::from_secs(1);

/// Beacons no longer come when two in a row did not.
const LOST: Duration = Duration::from_millis(2_200);

/// An observer that is not heard is sent beacons for so long.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// Peers whose beacons are followed at most; those of further ones are passed over.
const MAX_PEERS: usize = 128;

#[derive(Debug)]
struct Peer {
    /// Where its newest beacon came from.
    address: Arc<str>,
    /// When its newest beacon came.
    at: Time,
    lost: bool,
    /// It probes this node, and wants beacons for it.
    observes: bool,
}

/// Whose beacons come.
#[derive(Debug, Default)]
pub(super) struct Beacons {
    started: bool,
    /// When the next ones are due.
    due: Time,
    peers: Table<Peer>,
    /// Who is sent beacons; `None` when that changed.
    recipients: Option<Arc<[Recipient]>>,
}

impl Beacons {
    /// True when a node said by its beacons that it probes this one.
    pub(super) fn is_observer(&self, id: NodeId) -> bool {
        self.peers.get(id).is_some_and(|peer| peer.observes)
    }

    /// Whether the beacons of a peer come; `None` when it is none any more.
    pub(super) fn arrives(&self, id: NodeId) -> Option<bool> {
        Some(!self.peers.get(id)?.lost)
    }

    /// Targets, or where they are, changed.
    pub(super) fn targets_changed(&mut self) {
        self.recipients = None;
    }

    /// The targets, and those of whom this node is one.
    fn recipients(&mut self, probes: &Probes) -> Arc<[Recipient]> {
        let all = || {
            let recipient = |(node, address): (NodeId, &Arc<str>), observes| Recipient {
                node,
                address: Arc::clone(address),
                observes,
            };
            let targets = probes.targets().map(|target| recipient(target, true));
            let observers = self
                .peers
                .iter()
                .filter(|(id, peer)| peer.observes && probes.sight_of(*id).is_none());
            let observers = observers.map(|(id, peer)| recipient((id, &peer.address), false));
            targets.chain(observers).collect()
        };
        Arc::clone(self.recipients.get_or_insert_with(all))
    }
}

impl Agent {
    /// A session began: its coordinator knows of no beacon.
    pub(super) fn start_beacons(&mut self) {
        self.evidence.arrivals = self.beacons.peers.ids().collect();
        if !std::mem::replace(&mut self.beacons.started, true) {
            self.next_beacons(self.now);
        }
    }

    fn next_beacons(&mut self, turn: Time) {
        self.beacons.due = turn.next_turn(EVERY, self.now);
        self.timers.set(self.beacons.due, Timer::Beacons);
    }

    /// A beacon came.
    pub(super) fn beacon(&mut self, cluster: ClusterId, sender: NodeId, address: Arc<str>, observes: bool) {
        let (now, target) = (self.now, self.probes.sight_of(sender));
        let follows = target.is_some() || observes;
        let full = self.beacons.peers.len() >= MAX_PEERS;
        let known = self.beacons.peers.get_mut(sender);
        if self.probes.cluster() != Some(cluster) || !follows || (known.is_none() && full) {
            return;
        }
        let was_lost = match known {
            Some(known) if known.observes == observes && known.address == address => {
                known.at = now;
                std::mem::replace(&mut known.lost, false)
            }
            _ => {
                let peer = Peer {
                    address,
                    at: now,
                    lost: false,
                    observes,
                };
                self.beacons.recipients = None;
                let before = self.beacons.peers.insert(sender, peer);
                before.is_none_or(|before| before.lost)
            }
        };
        let unheard = matches!(target, Some(Some(Sight::Silent | Sight::Refused)));
        if was_lost || unheard {
            self.evidence.arrivals.insert(sender);
        }
        if unheard {
            // It is there, whatever its answers do.
            self.tell_arrivals();
        }
    }

    /// Sends beacons, and looks whose no longer come.
    pub(super) fn send_beacons(&mut self) {
        let (now, late) = (self.now, self.now.since(self.beacons.due) > LATE);
        self.next_beacons(self.beacons.due);
        let Some(cluster) = self.probes.cluster() else { return };
        let Beacons { peers, recipients, .. } = &mut self.beacons;
        // Both are in the order of ids: each peer is looked for from where the one before it was.
        let mut targets = self.probes.targets().map(|(id, _)| id).peekable();
        peers.retain(|id, peer| {
            while targets.next_if(|target| *target < id).is_some() {}
            let is_kept = targets.peek() == Some(&id) || (peer.observes && now.since(peer.at) < FORGOTTEN);
            if !is_kept {
                *recipients = None;
                return false;
            }
            if late && !peer.lost {
                // This process stood still: whatever came meanwhile may still wait.
                peer.at = now;
            }
            if !peer.lost && now.since(peer.at) >= LOST {
                peer.lost = true;
                self.evidence.arrivals.insert(id);
            }
            true
        });
        drop(targets);
        let to = self.beacons.recipients(&self.probes);
        if !to.is_empty() {
            self.effects.push_back(Effect::Beacons { cluster, to });
        }
        self.tell_arrivals();
    }
}
