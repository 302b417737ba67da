//! The coordinator's view of the mesh: planned links, reported links, and components.

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

/// Maximum number of unobserved links, and of components, in a topology.
pub const LISTED: usize = 64;

/// The links of one observer.
#[derive(Clone, Debug, PartialEq)]
pub struct ObserverLinks {
    /// The observer.
    pub observer: NodeId,
    /// Probed nodes and their links, sorted by id.
    pub links: Vec<(NodeId, Link)>,
}

/// Summary of the mesh.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Topology {
    /// Number of members.
    pub nodes: u32,
    /// Number of planned links.
    pub planned: u32,
    /// Number of planned links that let probes through: up, lossy or slow.
    pub live: u32,
    /// Number of planned links that are lossy.
    pub lossy: u32,
    /// Number of planned links that are down.
    pub down: u32,
    /// Number of planned links without a report.
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
    /// Whether its reports are hidden because the observer itself is in doubt.
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
    /// By subject: number of observers that reach it, and of those that do not.
    seen: Vec<(u32, u32)>,
    dirty: bool,
    rows: Arc<Vec<Arc<ObserverLinks>>>,
    rows_dirty: bool,
    /// Number of reports on nodes that the observer was not asked to probe.
    unasked: u64,
    pub(super) sights: Sights,
    pub(super) arrivals: Arrivals,
    /// Degraded links, so that a survey does not scan all links.
    pub(super) bad: Bad,
    /// Observers of each subject: the inverse of the plan.
    probed_by: BTreeMap<NodeIndex, Vec<NodeIndex>>,
}

impl Mesh {
    /// Creates a mesh without members; `seed` determines the order of its rings.
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

    /// Plans for `members`, and returns the nodes whose list of subjects or of observers changed. Links that are no
    /// longer planned are dropped.
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

    /// Records an observation of `subject` by `observer`, received at `now`. Returns false if the observer was not
    /// asked to probe the subject.
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

    /// Returns the share, 0 to 1, of views without hearing: among the views of observers that `count` on subjects that
    /// are present, either by themselves or because such an observer hears them. Cut links are left out.
    pub fn unrest(&self, is_there: impl Fn(NodeIndex) -> bool, counts: impl Fn(NodeIndex) -> bool, now: Time) -> f64 {
        self.sights.unrest(is_there, counts, now)
    }

    /// Returns the observers of `subject`.
    pub fn observers_of(&self, subject: NodeIndex) -> &[NodeIndex] {
        self.probed_by.get(&subject).map_or(&[], Vec::as_slice)
    }

    /// Returns whether an observer that misses a subject hears no other either, and lost several at that time: then the
    /// observer is more likely to be cut off.
    pub fn is_deaf(&self, observer: NodeIndex, subject: NodeIndex) -> bool {
        let others = self
            .subjects(observer)
            .iter()
            .copied()
            .filter(|&other| other != subject);
        let heard = self.last_heard(observer, subject).unwrap_or_default();
        self.sights.hears_nobody(observer) && self.sights.lost_with(observer, others, heard) + 1 >= SEVERAL
    }

    /// Summarizes the views on `subject`: those of observers that `count`, and those of observers that only `vouch` if
    /// they hear it.
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

    /// Returns whether `observer` hears `subject`, by its last observation.
    pub fn hears(&self, observer: NodeIndex, subject: NodeIndex) -> bool {
        self.sights.sight(observer, subject) == Some(Sight::Heard)
    }

    /// Time at which an observer last heard a subject, by its own observations.
    pub fn last_heard(&self, observer: NodeIndex, subject: NodeIndex) -> Option<Time> {
        self.sights.noted(observer, subject).map(|noted| noted.heard)
    }

    /// Returns whether the observer does not hear the subject, by its last observation.
    pub fn misses(&self, observer: NodeIndex, subject: NodeIndex) -> bool {
        let sight = self.sights.sight(observer, subject);
        sight.is_some_and(|sight| sight != Sight::Heard)
    }

    /// Returns the version of the plan, which increases with every change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns the subjects of `observer`, sorted.
    pub fn subjects(&self, observer: NodeIndex) -> &[NodeIndex] {
        self.plan.get(&observer).map_or(&[], Vec::as_slice)
    }

    /// Records a report on `subject` by `observer`. Returns false if the observer was not asked to probe the subject.
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

    /// Hides or shows the reports of `observer`: one that is in doubt itself may be wrong.
    pub fn mute(&mut self, observer: NodeIndex, muted: bool) {
        if let Some(state) = self.observers.get_mut(&observer) {
            self.dirty |= state.muted != muted;
            self.rows_dirty |= state.muted != muted;
            state.muted = muted;
        }
    }

    /// Drops the reports of `observer`, which is gone or reports everything again.
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

    /// Forgets a node. Returns whether it is a member, so that a new plan is due.
    pub fn forget(&mut self, node: NodeIndex) -> bool {
        self.silence(node);
        self.planner.forget(node);
        self.ids.contains_key(&node)
    }

    /// Returns the members and their ids.
    pub(super) fn ids(&self) -> &BTreeMap<NodeIndex, NodeId> {
        &self.ids
    }

    /// Returns the number of reports on nodes that their observer was not asked to probe.
    pub fn unasked(&self) -> u64 {
        self.unasked
    }

    /// Returns the number of live and of down links that observers reported on `subject`, as of the last
    /// [`Mesh::topology`].
    pub fn seen_by_peers(&self, subject: NodeIndex) -> (u32, u32) {
        self.seen.get(subject.get()).copied().unwrap_or_default()
    }

    /// Returns the topology, which is computed again only after changes.
    pub fn topology(&mut self) -> Arc<Topology> {
        if std::mem::take(&mut self.dirty) {
            self.topology = Arc::new(self.survey());
        }
        Arc::clone(&self.topology)
    }

    /// Returns the links by observer, sorted by id; unchanged rows are shared with the previous call, and so is an
    /// unchanged list.
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
        // A pair is joined if probes get through in every observed direction.
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
