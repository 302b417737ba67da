//! The mesh as the coordinator sees it: planned links, reported links, components.

use std::{collections::BTreeMap, sync::Arc};

use super::bad::Bad;
use super::beacons::Arrivals;
use super::sight::{Observation, SEVERAL, Sight, Sights, Tally};
use super::{
    link::{Link, LinkReport, LinkState},
    plan::{Plan, Planner},
};
use crate::{
    id::{NodeId, NodeIndex},
    time::{Time, WallTime},
};

/// Unobserved links and components that a topology lists at most.
pub const LISTED: usize = 64;

/// The links of one observer.
#[derive(Clone, Debug, PartialEq)]
pub struct ObserverLinks {
    /// Who probes.
    pub observer: NodeId,
    /// Who is probed, sorted by id.
    pub links: Vec<(NodeId, Link)>,
}

/// The mesh as a whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Topology {
    /// Members of the mesh.
    pub nodes: u32,
    /// Links that the plan asks for.
    pub planned: u32,
    /// Planned links that are up or lossy.
    pub live: u32,
    /// Planned links that are lossy.
    pub lossy: u32,
    /// Planned links that are down.
    pub down: u32,
    /// Planned links without a report.
    pub unobserved: u32,
    /// Components, the largest first; at most [`LISTED`].
    pub components: Vec<Vec<NodeId>>,
    /// Number of components.
    pub components_total: u32,
    /// Links without a report, as (observer, subject); at most [`LISTED`].
    pub unobserved_links: Vec<(NodeId, NodeId)>,
    /// Version of the plan.
    pub plan_version: u64,
}

#[derive(Debug, Default)]
pub(super) struct Observer {
    pub(super) links: BTreeMap<NodeIndex, Link>,
    row: Option<Arc<ObserverLinks>>,
    /// What it reported is not shown: it is in doubt itself.
    muted: bool,
}

/// The Guardian Mesh of the coordinator.
#[derive(Debug)]
pub struct Mesh {
    planner: Planner,
    plan: Plan,
    version: u64,
    ids: BTreeMap<NodeIndex, NodeId>,
    pub(super) observers: BTreeMap<NodeIndex, Observer>,
    topology: Arc<Topology>,
    /// By subject: observers that reach it, and that do not.
    seen: Vec<(u32, u32)>,
    dirty: bool,
    rows: Arc<Vec<Arc<ObserverLinks>>>,
    rows_dirty: bool,
    /// Reports on nodes that the observer was not asked to probe.
    unasked: u64,
    pub(super) sights: Sights,
    pub(super) arrivals: Arrivals,
    /// Links that do badly, so that nobody has to look at all of them.
    pub(super) bad: Bad,
    /// Who probes a subject: the plan, the other way round.
    probed_by: BTreeMap<NodeIndex, Vec<NodeIndex>>,
}

impl Mesh {
    /// A mesh without members; `seed` orders its rings.
    pub fn new(seed: u64) -> Mesh {
        Mesh {
            planner: Planner::new(seed),
            plan: Plan::new(),
            version: 0,
            ids: BTreeMap::new(),
            observers: BTreeMap::new(),
            topology: Arc::default(),
            seen: Vec::new(),
            dirty: true,
            rows: Arc::default(),
            rows_dirty: true,
            unasked: 0,
            sights: Sights::default(),
            arrivals: Arrivals::default(),
            bad: Bad::default(),
            probed_by: BTreeMap::new(),
        }
    }

    /// Plans anew for `members`, and tells whose list of subjects or of observers changed. Links that are no longer planned are forgotten.
    pub fn replan(&mut self, members: &[(NodeIndex, NodeId)]) -> Vec<NodeIndex> {
        let plan = self.planner.plan(members);
        let mut changed: Vec<NodeIndex> = plan
            .iter()
            .filter(|(observer, subjects)| self.plan.get(*observer) != Some(subjects))
            .map(|(&o, _)| o)
            .collect();
        if changed.is_empty() && plan.len() == self.plan.len() {
            return changed;
        }
        self.version += 1;
        (self.dirty, self.rows_dirty) = (true, true);
        self.ids = members.iter().copied().collect();
        let bad = &mut self.bad;
        self.observers.retain(|&observer, state| {
            let subjects = plan.get(&observer);
            if subjects.is_none() || changed.binary_search(&observer).is_ok() {
                state.links.retain(|subject, link| {
                    let is_kept = subjects.is_some_and(|subjects| subjects.binary_search(subject).is_ok());
                    if !is_kept {
                        bad.forget((observer, *subject), link);
                    }
                    is_kept
                });
                state.row = None;
            }
            subjects.is_some()
        });
        let before = std::mem::take(&mut self.probed_by);
        for (&observer, subjects) in &plan {
            for &subject in subjects {
                self.probed_by.entry(subject).or_default().push(observer);
            }
        }
        changed.extend(
            plan.keys()
                .filter(|&subject| before.get(subject) != self.probed_by.get(subject)),
        );
        changed.sort_unstable();
        changed.dedup();
        self.sights.keep(|observer, subject| {
            plan.get(&observer)
                .is_some_and(|subjects| subjects.binary_search(&subject).is_ok())
        });
        self.plan = plan;
        let mut arrivals = std::mem::take(&mut self.arrivals);
        arrivals.keep(|receiver, sender| self.are_paired(receiver, sender));
        self.arrivals = arrivals;
        changed
    }

    /// Notes what `observer` sees of `subject`, as received at `now`; false when it was not asked to probe it.
    pub fn observe(&mut self, observer: NodeIndex, subject: NodeIndex, observation: Observation, now: Time) -> bool {
        if self.subjects(observer).binary_search(&subject).is_err() {
            self.unasked += 1;
            return false;
        }
        let heard = match (observation.last_heard_age_millis, observation.sight) {
            (Some(ago), _) => now - std::time::Duration::from_millis(ago),
            (None, Sight::Heard) => now,
            (None, _) => Time(0),
        };
        self.sights.note(observer, subject, observation.sight, heard, now);
        true
    }

    /// The share, 0 to 1, of sights that are no hearing: of what observers that `count` see of the subjects that are there, by themselves or
    /// because one of those hears them. Links that are cut are left out.
    pub fn unrest(&self, is_there: impl Fn(NodeIndex) -> bool, counts: impl Fn(NodeIndex) -> bool, now: Time) -> f64 {
        self.sights.unrest(is_there, counts, now)
    }

    /// Who probes `subject`.
    pub fn observers_of(&self, subject: NodeIndex) -> &[NodeIndex] {
        self.probed_by.get(&subject).map_or(&[], Vec::as_slice)
    }

    /// True when an observer that misses a subject hears nobody, and lost several with it: it is more likely to be the one that is cut off.
    pub fn is_deaf(&self, observer: NodeIndex, subject: NodeIndex) -> bool {
        let others = self
            .subjects(observer)
            .iter()
            .copied()
            .filter(|&other| other != subject);
        let heard = self.last_heard(observer, subject).unwrap_or_default();
        self.sights.hears_nobody(observer) && self.sights.lost_with(observer, others, heard) + 1 >= SEVERAL
    }

    /// What the observers of `subject` that `count` see of it, and those that hear it of the ones that only `vouch`.
    pub fn tally(
        &self,
        subject: NodeIndex,
        counts: impl Fn(NodeIndex) -> bool,
        vouches: impl Fn(NodeIndex) -> bool,
    ) -> Tally {
        let observers = self.observers_of(subject).iter().copied();
        let hears = |observer| self.hears(observer, subject) && vouches(observer);
        let counted: Vec<NodeIndex> = observers
            .filter(|&observer| counts(observer) || hears(observer))
            .collect();
        let mut tally = self.sights.tally(subject, counted.iter().copied());
        let arrived = counted
            .iter()
            .filter_map(|&observer| self.arrived(observer, subject))
            .max();
        tally.last_heard = tally.last_heard.max(arrived.unwrap_or_default());
        tally
    }

    /// True when `observer` said last that it hears `subject`.
    pub fn hears(&self, observer: NodeIndex, subject: NodeIndex) -> bool {
        self.sights.sight(observer, subject) == Some(Sight::Heard)
    }

    /// When an observer heard a subject last, as it said.
    pub fn last_heard(&self, observer: NodeIndex, subject: NodeIndex) -> Option<Time> {
        self.sights.noted(observer, subject).map(|noted| noted.heard)
    }

    /// True when the observer said last that it does not hear the subject.
    pub fn misses(&self, observer: NodeIndex, subject: NodeIndex) -> bool {
        let sight = self.sights.sight(observer, subject);
        sight.is_some_and(|sight| sight != Sight::Heard)
    }

    /// Version of the plan; grows with every change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whom `observer` is to probe, sorted.
    pub fn subjects(&self, observer: NodeIndex) -> &[NodeIndex] {
        self.plan.get(&observer).map_or(&[], Vec::as_slice)
    }

    /// Notes what `observer` reports of `subject`; false when it was not asked to probe it.
    pub fn report(
        &mut self,
        observer: NodeIndex,
        subject: NodeIndex,
        report: &LinkReport,
        now: Time,
        wall: WallTime,
    ) -> bool {
        if self.subjects(observer).binary_search(&subject).is_err() {
            self.unasked += 1;
            return false;
        }
        if matches!(report.state, LinkState::Up | LinkState::Lossy | LinkState::Slow) {
            self.sights.assume(observer, subject, now);
        }
        let state = self.observers.entry(observer).or_default();
        let link = Link::new(report, wall);
        let before = state.links.insert(subject, link);
        self.bad.note((observer, subject), before.as_ref(), &link);
        state.row = None;
        (self.dirty, self.rows_dirty) = (true, true);
        true
    }

    /// Shows what `observer` reported, or not: one that is in doubt may not know what it says.
    pub fn mute(&mut self, observer: NodeIndex, muted: bool) {
        if let Some(state) = self.observers.get_mut(&observer) {
            self.dirty |= state.muted != muted;
            self.rows_dirty |= state.muted != muted;
            state.muted = muted;
        }
    }

    /// Forgets what `observer` reported: it is gone, or tells everything anew.
    pub fn silence(&mut self, observer: NodeIndex) {
        self.sights
            .forget(observer, self.plan.get(&observer).map_or(&[], Vec::as_slice));
        self.arrivals.forget(observer);
        if let Some(state) = self.observers.remove(&observer) {
            for (subject, link) in &state.links {
                self.bad.forget((observer, *subject), link);
            }
            (self.dirty, self.rows_dirty) = (true, true);
        }
    }

    /// Forgets a node; true when it is a member, so that a new plan is due.
    pub fn forget(&mut self, node: NodeIndex) -> bool {
        self.silence(node);
        self.planner.forget(node);
        self.ids.contains_key(&node)
    }

    /// The members.
    pub(super) fn ids(&self) -> &BTreeMap<NodeIndex, NodeId> {
        &self.ids
    }

    /// Reports on nodes that their observer was not asked to probe.
    pub fn unasked(&self) -> u64 {
        self.unasked
    }

    /// Links that observers reported on `subject`, as (live, down), at the newest [`Mesh::topology`].
    pub fn seen_by_peers(&self, subject: NodeIndex) -> (u32, u32) {
        self.seen.get(subject.get()).copied().unwrap_or_default()
    }

    /// The topology, computed anew when something changed.
    pub fn topology(&mut self) -> Arc<Topology> {
        if std::mem::take(&mut self.dirty) {
            self.topology = Arc::new(self.survey());
        }
        Arc::clone(&self.topology)
    }

    /// The links observer by observer, sorted by id; a row that did not change is the same as before, and so is the list.
    pub fn rows(&mut self) -> Arc<Vec<Arc<ObserverLinks>>> {
        if std::mem::take(&mut self.rows_dirty) {
            self.rows = Arc::new(self.collect_rows());
        }
        Arc::clone(&self.rows)
    }

    fn collect_rows(&mut self) -> Vec<Arc<ObserverLinks>> {
        let ids = &self.ids;
        let mut rows: Vec<Arc<ObserverLinks>> = Vec::with_capacity(self.observers.len());
        for (index, observer) in self.observers.iter_mut().filter(|(_, observer)| !observer.muted) {
            let Some(&id) = ids.get(index) else { continue };
            let links = &observer.links;
            let row = observer.row.get_or_insert_with(|| {
                let known = links
                    .iter()
                    .filter_map(|(subject, link)| Some((*ids.get(subject)?, *link)));
                let mut links: Vec<(NodeId, Link)> = known.collect();
                links.sort_unstable_by_key(|(subject, _)| *subject);
                Arc::new(ObserverLinks { observer: id, links })
            });
            rows.push(Arc::clone(row));
        }
        rows.sort_unstable_by_key(|row| row.observer);
        rows
    }

    fn survey(&mut self) -> Topology {
        let mut seen = Vec::new();
        seen.resize(self.ids.keys().last().map_or(0, |last| last.get() + 1), (0, 0));
        let mut topology = Topology {
            nodes: self.ids.len() as u32,
            plan_version: self.version,
            ..Topology::default()
        };
        // A pair is joined when probes get through in every direction that is observed.
        let mut pairs: BTreeMap<(NodeIndex, NodeIndex), bool> = BTreeMap::new();
        for (&observer, subjects) in &self.plan {
            let shown = self.observers.get(&observer).filter(|observer| !observer.muted);
            let links = shown.map(|observer| &observer.links);
            topology.planned += subjects.len() as u32;
            for &subject in subjects {
                let link = links
                    .and_then(|links| links.get(&subject))
                    .filter(|link| link.state != LinkState::Unknown);
                let Some(link) = link else {
                    topology.unobserved += 1;
                    if topology.unobserved_links.len() < LISTED {
                        topology.unobserved_links.extend(self.pair(observer, subject));
                    }
                    continue;
                };
                let (live, down): &mut (u32, u32) = &mut seen[subject.get()];
                *live += u32::from(link.is_live());
                *down += u32::from(link.state == LinkState::Down);
                topology.live += u32::from(link.is_live());
                topology.lossy += u32::from(link.state == LinkState::Lossy);
                topology.down += u32::from(link.state == LinkState::Down);
                let pair = (observer.min(subject), observer.max(subject));
                *pairs.entry(pair).or_insert(true) &= link.is_live();
            }
        }
        self.seen = seen;
        let joined = pairs.into_iter().filter(|(_, joined)| *joined).map(|(pair, _)| pair);
        let components = super::components::components(self.ids.keys().copied(), joined);
        topology.components_total = components.len() as u32;
        topology.components = self.listed(components);
        topology
    }

    fn pair(&self, observer: NodeIndex, subject: NodeIndex) -> Option<(NodeId, NodeId)> {
        Some((*self.ids.get(&observer)?, *self.ids.get(&subject)?))
    }

    fn listed(&self, mut components: Vec<Vec<NodeIndex>>) -> Vec<Vec<NodeId>> {
        components.sort_by_key(|members| (std::cmp::Reverse(members.len()), members.first().copied()));
        components.truncate(LISTED);
        if components.len() == 1 && components[0].len() == self.ids.len() {
            return vec![Vec::new()];
        }
        let named = components.into_iter().map(|members| {
            let mut ids: Vec<NodeId> = members
                .iter()
                .filter_map(|index| self.ids.get(index).copied())
                .collect();
            ids.sort_unstable();
            ids
        });
        named.collect()
    }
}
