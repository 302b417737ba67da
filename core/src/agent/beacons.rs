//! Beacons: datagrams of full size between an observer and its subjects, both ways and unanswered. A probe is a question and
//! an answer; only what comes without being asked tells which way packets are lost, and a small probe does not tell whether
//! large packets get through.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rand::RngExt;

use super::{
    Agent, Effect, Recipient,
    probes::Probes,
    table::Table,
    timer::{LATE, Timer},
};
use crate::{
    id::{ClusterId, NodeId},
    mesh::Sight,
    time::Time,
};

/// Time between two beacons to one peer. It varies, so that a link which comes and goes in step with them is not met in the same state each time.
const SOONEST: Duration = Duration::from_millis(700);
const LATEST: Duration = Duration::from_millis(1_300);

/// Beacons no longer come when two in a row did not.
const LOST: Duration = LATEST.saturating_mul(2);

/// At least one beacon did not come.
const MISSING: Duration = Duration::from_millis(1_600);

/// A peer that is not heard, or whose beacons do not come, is sent beacons this often: where most packets are lost, some of as many pass, and it is soon
/// known that the link is not cut.
const URGENT: Duration = Duration::from_millis(250);

/// For this long, beginning with the last sign of the peer.
const URGENT_FOR: Duration = Duration::from_secs(15);

/// A peer whose beacons come this quickly misses some of this node's: it is sent as many for a while, and again after a time without.
const HURRIED: Duration = Duration::from_millis(400);
const MIRRORED_FOR: Duration = Duration::from_secs(3);
const MIRRORED_AGAIN: Duration = Duration::from_secs(10);

/// That a peer which is not heard sends beacons is told at once this often.
const TOLD_AGAIN: Duration = Duration::from_millis(900);

/// Shortest time between two looks at the beacons.
const LOOK: Duration = Duration::from_millis(50);

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
    /// When it was told at once that it sends beacons.
    told: Time,
    /// Since when it has been sent urgent beacons because it sends some itself.
    mirrored: Option<Time>,
    /// It probes this node, and wants beacons for it.
    observes: bool,
}

/// Whose beacons come.
#[derive(Debug, Default)]
pub(super) struct Beacons {
    started: bool,
    /// When the next look is due, and the next beacons to all.
    due: Time,
    next: Time,
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
            self.beacons.next = self.ctx.now + LATEST.mul_f64(self.ctx.rng.random_range(0.0..1.0));
            self.next_beacons(false);
        }
    }

    /// Sets the next look at the beacons: when those to all are due, or urgent ones, or when the newest of a peer is too long ago.
    fn next_beacons(&mut self, urgent: bool) {
        let now = self.ctx.now;
        let followed = self.beacons.peers.iter().filter(|(_, peer)| !peer.lost);
        let missed = followed.map(|(_, peer)| peer.at + LOST).min();
        let soon = urgent.then_some(now + URGENT);
        let due = [soon, missed].into_iter().flatten().fold(self.beacons.next, Time::min);
        self.beacons.due = due.max(now + LOOK);
        self.ctx.timers.set(self.beacons.due, Timer::Beacons);
    }

    /// A beacon came.
    pub(super) fn beacon(&mut self, cluster: ClusterId, sender: NodeId, address: Arc<str>, observes: bool) {
        let (now, target) = (self.ctx.now, self.probes.sight_of(sender));
        let follows = target.is_some() || observes;
        let full = self.beacons.peers.len() >= MAX_PEERS;
        let known = self.beacons.peers.get_mut(sender);
        if self.probes.cluster() != Some(cluster) || !follows || (known.is_none() && full) {
            return;
        }
        let was_lost = match known {
            Some(known) if known.observes == observes && known.address == address => {
                let apart = now.since(known.at);
                self.probes.beacon(sender, now, apart >= MISSING);
                let rests = known.mirrored.is_none_or(|since| now.since(since) >= MIRRORED_AGAIN);
                if apart < HURRIED && rests {
                    known.mirrored = Some(now);
                }
                known.at = now;
                std::mem::replace(&mut known.lost, false)
            }
            _ => {
                let peer = Peer {
                    address,
                    at: now,
                    lost: false,
                    told: Time(0),
                    mirrored: None,
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
        let Some(peer) = self.beacons.peers.get_mut(sender).filter(|_| unheard) else {
            return;
        };
        if now.since(peer.told) >= TOLD_AGAIN {
            // It is there, whatever its answers do.
            peer.told = now;
            self.tell_arrivals();
        }
    }

    /// Sends beacons that are due, and looks whose no longer come.
    pub(super) fn send_beacons(&mut self) {
        let (now, late) = (self.ctx.now, self.ctx.now.since(self.beacons.due) > LATE);
        let for_all = self.beacons.next <= now;
        if for_all {
            let wait = SOONEST + (LATEST - SOONEST).mul_f64(self.ctx.rng.random_range(0.0..1.0));
            // A process that stood still goes on from now: nothing is in step with these.
            self.beacons.next = (self.beacons.next + wait).max(now + LOOK);
        }
        let urgent = match self.probes.cluster() {
            Some(cluster) => self.look_at_beacons(cluster, for_all, late),
            None => false,
        };
        self.next_beacons(urgent);
        self.tell_arrivals();
    }

    /// True when some peers are to be sent more of them soon.
    fn look_at_beacons(&mut self, cluster: ClusterId, for_all: bool, late: bool) -> bool {
        let now = self.ctx.now;
        let Beacons { peers, recipients, .. } = &mut self.beacons;
        let mut urgent: BTreeSet<NodeId> = self.probes.silent_within(URGENT_FOR, now).collect();
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
            let mirrored = peer.mirrored.is_some_and(|since| now.since(since) < MIRRORED_FOR);
            if mirrored || (peer.lost && now.since(peer.at) < URGENT_FOR) {
                urgent.insert(id);
            }
            true
        });
        drop(targets);
        let mut to = self.beacons.recipients(&self.probes);
        if !for_all {
            let hasty = to.iter().filter(|recipient| urgent.contains(&recipient.node));
            to = hasty.cloned().collect();
        }
        if !to.is_empty() {
            self.ctx.effects.push_back(Effect::Beacons { cluster, to });
        }
        !urgent.is_empty()
    }
}
