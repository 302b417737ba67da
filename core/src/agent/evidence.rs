//! Evidence: immediate reports about peers and about the agent's own health.
//!
//! At most one message is in flight. Changes that occur before its acknowledgement are sent with the next message, each link in its latest state, at
//! the next heartbeat at the latest: a blocked stream delays evidence but does not accumulate it.

use std::collections::BTreeSet;

use super::{beacons::Beacons, ctx::Ctx, health::SelfHealth, probes::Probes};
use crate::{id::NodeId, mesh::REPORTS, protocol::FromAgent, time::Time};

/// Pending evidence.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// Peers whose sight differs from the last report.
    sights: BTreeSet<NodeId>,
    /// Peers whose beacons started or stopped arriving.
    arrivals: BTreeSet<NodeId>,
    /// Set when arrivals are sent now instead of with the next beacons.
    arrivals_due: bool,
    health: bool,
    /// Set when the coordinator acknowledges evidence; earlier versions do not.
    is_noted: bool,
    under_way: bool,
}

/// Evidence to be sent at once.
#[derive(Clone, Copy, Debug)]
pub(super) enum News {
    /// The sight of a peer changed.
    Sight(NodeId),
    /// Arrivals of beacons.
    Arrivals,
    /// The agent's own health.
    Health,
    /// Pending evidence, regardless of the message in flight: sent on acknowledgement and before a heartbeat.
    Rest,
}

/// Sources of evidence.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) probes: &'a Probes,
    pub(super) beacons: &'a Beacons,
    pub(super) health: &'a SelfHealth,
}

impl Evidence {
    /// Starts a session: lost peers and arrivals are reported anew.
    pub(super) fn new_session(&mut self, probes: &Probes, is_noted: bool) {
        let (sights, arrivals) = (probes.lost(), std::mem::take(&mut self.arrivals));
        *self = Evidence {
            sights,
            arrivals,
            is_noted,
            ..Evidence::default()
        };
    }

    /// Marks the arrivals of these peers as pending.
    pub(super) fn set_arrivals(&mut self, peers: impl Iterator<Item = NodeId>) {
        self.arrivals = peers.collect();
    }

    /// Marks peers whose beacons started or stopped arriving.
    pub(super) fn add_arrivals(&mut self, of: impl IntoIterator<Item = NodeId>) {
        self.arrivals.extend(of);
    }

    /// Marks the sight of every target as pending, reported before or not.
    pub(super) fn retell(&mut self, probes: &Probes) {
        self.sights.extend(probes.targets().map(|(id, _)| id));
    }

    /// Sends pending evidence unless a message is in flight. Returns true when a message now awaits acknowledgement.
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

    fn next(&mut self, now: Time, seen: Seen<'_>) -> Option<FromAgent> {
        while self.health || !self.sights.is_empty() {
            let told = take(&mut self.sights);
            let observations: Vec<_> = told
                .into_iter()
                .filter_map(|id| seen.probes.observation(id, now))
                .collect();
            let health = std::mem::take(&mut self.health).then_some(seen.health.health());
            if health.is_some() || !observations.is_empty() {
                return Some(FromAgent::Evidence {
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
                return Some(FromAgent::Arrivals(arrivals));
            }
        }
        self.arrivals_due = false;
        None
    }
}

/// Takes as many ids as fit into one message.
fn take(of: &mut BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    match of.iter().nth(REPORTS).copied() {
        Some(next) => {
            let rest = of.split_off(&next);
            std::mem::replace(of, rest)
        }
        None => std::mem::take(of),
    }
}
