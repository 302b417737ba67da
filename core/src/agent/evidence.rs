//! Evidence: what the coordinator is told at once of peers, and of this agent itself.
//!
//! One message of it is under way at a time. What changes before the coordinator has noted that goes with the next one, each link as it is by then, at
//! the next heartbeat at the latest: a stream that is stuck delays evidence, and hardly lets it pile up.

use std::{collections::BTreeSet, time::Duration};

use super::{Agent, Report};
use crate::{id::NodeId, mesh::REPORTS, time::Time};

/// What is to be told.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// Peers that are seen otherwise than was told.
    sights: BTreeSet<NodeId>,
    /// Peers whose beacons began or ceased to come.
    pub(super) arrivals: BTreeSet<NodeId>,
    /// They are told now, and not with the next beacons.
    pub(super) arrivals_due: bool,
    health: bool,
    /// The coordinator says when it has noted a message; earlier versions do not.
    is_noted: bool,
    under_way: bool,
    /// Since when the coordinator has not noted anything, though something was sent.
    waiting: Option<Time>,
}

/// Evidence that is not noted for so long may be stuck: peers are asked to bring it, too.
pub(super) const STUCK: Duration = Duration::from_secs(2);

impl Agent {
    /// A session begins, whose coordinator knows nothing yet.
    pub(super) fn start_evidence(&mut self, is_noted: bool) {
        let (sights, arrivals) = (self.probes.lost(), std::mem::take(&mut self.evidence.arrivals));
        self.evidence = Evidence {
            sights,
            arrivals,
            is_noted,
            ..Evidence::default()
        };
        self.tell();
    }

    /// Tells what is seen of all targets, whether that was told before or not.
    pub(super) fn retell_sights(&mut self) {
        let targets = self.probes.targets().map(|(id, _)| id);
        self.evidence.sights.extend(targets);
    }

    /// Tells at once that a peer is seen otherwise than before.
    pub(super) fn tell_sight(&mut self, id: NodeId) {
        self.evidence.sights.insert(id);
        self.tell();
    }

    /// Tells at once how this agent is.
    pub(super) fn tell_health(&mut self) {
        self.evidence.health = true;
        self.tell();
    }

    /// Tells at once whose beacons come and whose do not.
    pub(super) fn tell_arrivals(&mut self) {
        self.evidence.arrivals_due = true;
        self.tell();
    }

    /// The coordinator has noted what was under way.
    pub(super) fn noted(&mut self) {
        self.evidence.waiting = None;
        self.next_beat();
    }

    /// A heartbeat follows: what is to be told goes first, whether the coordinator noted what went before or only its answer is stuck.
    pub(super) fn next_beat(&mut self) {
        self.evidence.under_way = false;
        self.tell();
    }

    /// When evidence is stuck, if the coordinator notes nothing until then.
    pub(super) fn stuck_at(&self) -> Option<Time> {
        self.evidence.waiting.map(|since| since + STUCK)
    }

    fn tell(&mut self) {
        let Some(conn) = self.ctx.live else { return };
        while !self.evidence.under_way {
            let Some(report) = self.next_evidence() else { return };
            if self.evidence.is_noted {
                self.evidence.under_way = true;
                if self.evidence.waiting.is_none() {
                    self.evidence.waiting = Some(self.ctx.now);
                    self.look_at_membership();
                }
            }
            self.ctx.send(conn, report);
        }
    }

    fn next_evidence(&mut self) -> Option<Report> {
        let now = self.ctx.now;
        let evidence = &mut self.evidence;
        while evidence.health || !evidence.sights.is_empty() {
            let told = take(&mut evidence.sights);
            let observations: Vec<_> = told
                .into_iter()
                .filter_map(|id| self.probes.observation(id, now))
                .collect();
            let health = std::mem::take(&mut evidence.health).then_some(self.health.health());
            if health.is_some() || !observations.is_empty() {
                return Some(Report::Evidence {
                    observations,
                    health,
                    sent_millis: now.millis(),
                });
            }
        }
        while evidence.arrivals_due && !evidence.arrivals.is_empty() {
            let told = take(&mut evidence.arrivals).into_iter();
            let arrivals: Vec<_> = told.filter_map(|id| Some((id, self.beacons.arrives(id)?))).collect();
            if !arrivals.is_empty() {
                return Some(Report::Arrivals(arrivals));
            }
        }
        evidence.arrivals_due = false;
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
