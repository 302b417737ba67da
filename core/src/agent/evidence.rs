//! Evidence: what the coordinator is told at once of peers, and of this agent itself.
//!
//! One message of it is under way at a time. What changes before the coordinator has noted that goes with the next one, each link as it is by then, at
//! the next heartbeat at the latest: a stream that is stuck delays evidence, and hardly lets it pile up.

use std::collections::BTreeSet;

use super::{beacons::Beacons, ctx::Ctx, health::SelfHealth, probes::Probes};
use crate::{id::NodeId, mesh::REPORTS, protocol::Report, time::Time};

/// What is to be told.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// Peers that are seen otherwise than was told.
    sights: BTreeSet<NodeId>,
    /// Peers whose beacons began or ceased to come.
    arrivals: BTreeSet<NodeId>,
    /// They are told now, and not with the next beacons.
    arrivals_due: bool,
    health: bool,
    /// The coordinator says when it has noted a message; earlier versions do not.
    is_noted: bool,
    under_way: bool,
}

/// What is to be told at once.
#[derive(Clone, Copy, Debug)]
pub(super) enum News {
    /// A peer is seen otherwise than before.
    Sight(NodeId),
    /// Whose beacons come and whose do not.
    Arrivals,
    /// How this agent is.
    Health,
    /// What is left, whether the coordinator noted what went before or only its answer is stuck: a heartbeat follows, or it has noted.
    Rest,
}

/// What evidence is made of.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) probes: &'a Probes,
    pub(super) beacons: &'a Beacons,
    pub(super) health: &'a SelfHealth,
}

impl Evidence {
    /// A session begins, whose coordinator knows nothing yet.
    pub(super) fn new_session(&mut self, probes: &Probes, is_noted: bool) {
        let (sights, arrivals) = (probes.lost(), std::mem::take(&mut self.arrivals));
        *self = Evidence {
            sights,
            arrivals,
            is_noted,
            ..Evidence::default()
        };
    }

    /// A session begins, whose coordinator knows of no beacon.
    pub(super) fn set_arrivals(&mut self, peers: impl Iterator<Item = NodeId>) {
        self.arrivals = peers.collect();
    }

    /// Beacons of these began or ceased to come.
    pub(super) fn add_arrivals(&mut self, of: impl IntoIterator<Item = NodeId>) {
        self.arrivals.extend(of);
    }

    /// What is seen of all targets is to be told, whether that was told before or not.
    pub(super) fn retell(&mut self, probes: &Probes) {
        self.sights.extend(probes.targets().map(|(id, _)| id));
    }

    /// Tells what is to be told, unless a message is under way. True when one is from now on.
    #[must_use]
    pub(super) fn tell(&mut self, ctx: &mut Ctx, seen: Seen<'_>, news: News) -> bool {
        match news {
            News::Sight(id) => {
                self.sights.insert(id);
            }
            News::Arrivals => self.arrivals_due = true,
            News::Health => self.health = true,
            News::Rest => self.under_way = false,
        }
        self.tell_rest(ctx, seen)
    }

    fn tell_rest(&mut self, ctx: &mut Ctx, seen: Seen<'_>) -> bool {
        let Some(conn) = ctx.link.conn else { return false };
        while !self.under_way {
            let Some(report) = self.next(ctx.now, seen) else {
                return false;
            };
            self.under_way = self.is_noted;
            ctx.send(conn, report);
            if self.under_way {
                return true;
            }
        }
        false
    }

    fn next(&mut self, now: Time, seen: Seen<'_>) -> Option<Report> {
        while self.health || !self.sights.is_empty() {
            let told = take(&mut self.sights);
            let observations: Vec<_> = told
                .into_iter()
                .filter_map(|id| seen.probes.observation(id, now))
                .collect();
            let health = std::mem::take(&mut self.health).then_some(seen.health.health());
            if health.is_some() || !observations.is_empty() {
                return Some(Report::Evidence {
                    observations,
                    health,
                    sent_millis: now.millis(),
                });
            }
        }
        while self.arrivals_due && !self.arrivals.is_empty() {
            let told = take(&mut self.arrivals).into_iter();
            let arrivals: Vec<_> = told.filter_map(|id| Some((id, seen.beacons.arrives(id)?))).collect();
            if !arrivals.is_empty() {
                return Some(Report::Arrivals(arrivals));
            }
        }
        self.arrivals_due = false;
        None
    }
}

/// As many as one message has.
fn take(of: &mut BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    match of.iter().nth(REPORTS).copied() {
        Some(next) => {
            let rest = of.split_off(&next);
            std::mem::replace(of, rest)
        }
        None => std::mem::take(of),
    }
}
