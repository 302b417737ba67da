//! Beacons: unanswered full-size datagrams between an observer and its subjects, in both directions. A probe is a request and
//! a response; only unsolicited datagrams show in which direction packets are lost, and a small probe does not show whether
//! large packets pass.

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

/// Bounds of the time between two beacons to one peer. It varies, so that beacons do not synchronize with a flapping link.
const SOONEST: Duration = Duration::from_millis(700);
const LATEST: Duration = Duration::from_millis(1_300);

/// Time without a beacon after which a peer counts as lost: two in a row are missing.
const LOST: Duration = LATEST.saturating_mul(2);

/// Time without a beacon after which at least one is missing.
const MISSING: Duration = Duration::from_millis(1_600);

/// Interval of beacons to a peer that is not heard or whose beacons do not arrive: on a lossy link some of them pass, which soon
/// shows that the link is not cut.
const URGENT: Duration = Duration::from_millis(250);

/// Duration of urgent beacons, counted from the last sign of the peer.
const URGENT_FOR: Duration = Duration::from_secs(15);

/// Gap between beacons that shows that a peer misses this node's: urgent beacons are returned for a while, and again after a pause.
const HURRIED: Duration = Duration::from_millis(400);
const MIRRORED_FOR: Duration = Duration::from_secs(3);
const MIRRORED_AGAIN: Duration = Duration::from_secs(10);

/// Minimum interval of immediate reports that an unheard peer sends beacons.
const TOLD_AGAIN: Duration = Duration::from_millis(900);

/// Minimum interval between checks.
const LOOK: Duration = Duration::from_millis(50);

/// Duration for which an unheard observer is sent beacons.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// Maximum number of tracked peers; beacons of further ones are ignored.
const MAX_PEERS: usize = 128;

#[derive(Debug)]
struct Peer {
    /// Source address of the newest beacon.
    address: Arc<str>,
    /// Arrival of the newest beacon.
    at: Time,
    lost: bool,
    /// Time of the last immediate report that the peer sends beacons.
    told: Time,
    /// Start of urgent beacons in return for the peer's own.
    mirrored: Option<Time>,
    /// The peer probes this node and expects beacons.
    observes: bool,
}

/// Effects of a received beacon.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(super) struct Arrival {
    /// Whether previous beacons are missing; `None` for a new or changed peer.
    pub(super) after_gap: Option<bool>,
    /// The arrival is to be reported.
    pub(super) is_news: bool,
    /// The report is due at once.
    pub(super) at_once: bool,
}

/// Tracked peers and the schedule of beacons.
#[derive(Debug, Default)]
pub(super) struct Beacons {
    started: bool,
    /// Time of the next check, and of the next beacons to all peers.
    due: Time,
    next: Time,
    peers: Table<Peer>,
    /// Cached recipients; `None` after a change.
    recipients: Option<Arc<[Recipient]>>,
}

impl Beacons {
    /// Returns whether a node's beacons state that it probes this node.
    pub(super) fn is_observer(&self, id: NodeId) -> bool {
        self.peers.get(id).is_some_and(|peer| peer.observes)
    }

    /// Returns whether a peer's beacons arrive; `None` for an untracked peer.
    pub(super) fn arrives(&self, id: NodeId) -> Option<bool> {
        Some(!self.peers.get(id)?.lost)
    }

    /// Invalidates the recipients after a change of targets.
    pub(super) fn targets_changed(&mut self) {
        self.recipients = None;
    }

    /// Targets and observers of this node.
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

    /// Tracked peers.
    pub(super) fn peers(&self) -> impl Iterator<Item = NodeId> {
        self.peers.ids()
    }

    /// Starts beacons with the first session.
    pub(super) fn start(&mut self, ctx: &mut Ctx) {
        if !std::mem::replace(&mut self.started, true) {
            self.next = ctx.now + LATEST.mul_f64(ctx.rng.random_range(0.0..1.0));
            self.set_next(ctx, false);
        }
    }

    /// Schedules the next check: when beacons to all or urgent ones are due, or when a peer's beacons would be lost.
    fn set_next(&mut self, ctx: &mut Ctx, urgent: bool) {
        let now = ctx.now;
        let followed = self.peers.iter().filter(|(_, peer)| !peer.lost);
        let missed = followed.map(|(_, peer)| peer.at + LOST).min();
        let soon = urgent.then_some(now + URGENT);
        let due = [soon, missed].into_iter().flatten().fold(self.next, Time::min);
        self.due = due.max(now + LOOK);
        ctx.timers.set(self.due, Timer::Beacons);
    }

    /// Records a beacon; returns `None` for an untracked sender.
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
        // A beacon shows that the peer is alive even if its answers do not arrive.
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

    /// Sends due beacons; returns the peers whose beacons stopped arriving.
    #[must_use]
    pub(super) fn send(&mut self, ctx: &mut Ctx, probes: &Probes) -> Vec<NodeId> {
        let (now, late) = (ctx.now, ctx.now.since(self.due) > LATE);
        let for_all = self.next <= now;
        if for_all {
            let wait = SOONEST + (LATEST - SOONEST).mul_f64(ctx.rng.random_range(0.0..1.0));
            // A process that stalled continues from now; nothing depends on the phase of beacons.
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

    /// Returns the peers with urgent beacons; adds peers whose beacons stopped arriving to `lost`.
    fn look(&mut self, now: Time, probes: &Probes, late: bool, lost: &mut Vec<NodeId>) -> BTreeSet<NodeId> {
        let Beacons { peers, recipients, .. } = self;
        let mut urgent: BTreeSet<NodeId> = probes.silent_within(URGENT_FOR, now).collect();
        // Both lists are sorted by id, so the search continues from the previous position.
        let mut targets = probes.targets().map(|(id, _)| id).peekable();
        peers.retain(|id, peer| {
            while targets.next_if(|target| *target < id).is_some() {}
            let is_kept = targets.peek() == Some(&id) || (peer.observes && now.since(peer.at) < FORGOTTEN);
            if !is_kept {
                *recipients = None;
                return false;
            }
            if late && !peer.lost {
                // This process stalled: beacons received meanwhile may still be queued.
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

    /// Sends beacons to all recipients, or to `only` some.
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
