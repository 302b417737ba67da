//! Beacons: datagrams of full size between an observer and its subjects, both ways and unanswered. A probe is a question and
//! an answer; only what comes without being asked tells which way packets are lost, and a small probe does not tell whether
//! large packets get through.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rand::RngExt;

use super::{
    ctx::Ctx,
    io::{Effect, Recipient},
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

/// What a beacon tells of its sender.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(super) struct Arrival {
    /// Whether others did not come before it; `None` when the peer is new, or is otherwise than before.
    pub(super) after_gap: Option<bool>,
    /// The coordinator is to hear of it.
    pub(super) is_news: bool,
    /// And that at once.
    pub(super) at_once: bool,
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

    /// The peers whose beacons came.
    pub(super) fn peers(&self) -> impl Iterator<Item = NodeId> {
        self.peers.ids()
    }

    /// Begins with the first session.
    pub(super) fn start(&mut self, ctx: &mut Ctx) {
        if !std::mem::replace(&mut self.started, true) {
            self.next = ctx.now + LATEST.mul_f64(ctx.rng.random_range(0.0..1.0));
            self.set_next(ctx, false);
        }
    }

    /// Sets the next look at the beacons: when those to all are due, or urgent ones, or when the newest of a peer is too long ago.
    fn set_next(&mut self, ctx: &mut Ctx, urgent: bool) {
        let now = ctx.now;
        let followed = self.peers.iter().filter(|(_, peer)| !peer.lost);
        let missed = followed.map(|(_, peer)| peer.at + LOST).min();
        let soon = urgent.then_some(now + URGENT);
        let due = [soon, missed].into_iter().flatten().fold(self.next, Time::min);
        self.due = due.max(now + LOOK);
        ctx.timers.set(self.due, Timer::Beacons);
    }

    /// A beacon came; `None` for one that is not followed.
    pub(super) fn came(
        &mut self,
        now: Time,
        probes: &Probes,
        cluster: ClusterId,
        sender: NodeId,
        address: Arc<str>,
        observes: bool,
    ) -> Option<Arrival> {
        let target = probes.sight_of(sender);
        let follows = target.is_some() || observes;
        let full = self.peers.len() >= MAX_PEERS;
        let known = self.peers.get_mut(sender);
        if probes.cluster() != Some(cluster) || !follows || (known.is_none() && full) {
            return None;
        }
        let mut after_gap = None;
        let was_lost = match known {
            Some(known) if known.observes == observes && known.address == address => {
                let apart = now.since(known.at);
                after_gap = Some(apart >= MISSING);
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
                self.recipients = None;
                let before = self.peers.insert(sender, peer);
                before.is_none_or(|before| before.lost)
            }
        };
        let unheard = matches!(target, Some(Some(Sight::Silent | Sight::Refused)));
        // It is there, whatever its answers do.
        let peer = self.peers.get_mut(sender).filter(|_| unheard);
        let at_once = peer
            .filter(|peer| now.since(peer.told) >= TOLD_AGAIN)
            .map(|peer| peer.told = now);
        Some(Arrival {
            after_gap,
            is_news: was_lost || unheard,
            at_once: at_once.is_some(),
        })
    }

    /// Sends beacons that are due, and returns the peers whose no longer come.
    #[must_use]
    pub(super) fn send(&mut self, ctx: &mut Ctx, probes: &Probes) -> Vec<NodeId> {
        let (now, late) = (ctx.now, ctx.now.since(self.due) > LATE);
        let for_all = self.next <= now;
        if for_all {
            let wait = SOONEST + (LATEST - SOONEST).mul_f64(ctx.rng.random_range(0.0..1.0));
            // A process that stood still goes on from now: nothing is in step with these.
            self.next = (self.next + wait).max(now + LOOK);
        }
        let (mut lost, mut urgent) = (Vec::new(), false);
        if let Some(cluster) = probes.cluster() {
            let hasty = self.look(now, probes, late, &mut lost);
            self.send_to(ctx, probes, cluster, (!for_all).then_some(&hasty));
            urgent = !hasty.is_empty();
        }
        self.set_next(ctx, urgent);
        lost
    }

    /// The peers that are to be sent more of them soon; those whose no longer come are added to `lost`.
    fn look(&mut self, now: Time, probes: &Probes, late: bool, lost: &mut Vec<NodeId>) -> BTreeSet<NodeId> {
        let Beacons { peers, recipients, .. } = self;
        let mut urgent: BTreeSet<NodeId> = probes.silent_within(URGENT_FOR, now).collect();
        // Both are in the order of ids: each peer is looked for from where the one before it was.
        let mut targets = probes.targets().map(|(id, _)| id).peekable();
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
                lost.push(id);
            }
            let mirrored = peer.mirrored.is_some_and(|since| now.since(since) < MIRRORED_FOR);
            if mirrored || (peer.lost && now.since(peer.at) < URGENT_FOR) {
                urgent.insert(id);
            }
            true
        });
        urgent
    }

    /// Sends them to all, or to some `only`.
    fn send_to(&mut self, ctx: &mut Ctx, probes: &Probes, cluster: ClusterId, only: Option<&BTreeSet<NodeId>>) {
        let mut to = self.recipients(probes);
        if let Some(only) = only {
            let hasty = to.iter().filter(|recipient| only.contains(&recipient.node));
            to = hasty.cloned().collect();
        }
        if !to.is_empty() {
            ctx.effects.push_back(Effect::Beacons { cluster, to });
        }
    }
}
