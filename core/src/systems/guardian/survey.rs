//! The survey, once per second: conclusions about the mesh beyond the liveness of nodes, and detection of unreliable
//! observers.

use std::{collections::BTreeSet, mem, time::Duration};

use super::{Guardian, conduct::DISTRUST};
use crate::{
    ctx::Ctx,
    ctx::alarm::Timer,
    event::EventBody,
    id::NodeId,
    mesh::{Candidate, Change, Cut, Direction, Finding, FindingKind, Followed, Nodes, Trouble},
    node::{Admission, Liveness, NodeIndex},
};

/// Time between two surveys.
const SURVEY: Duration = Duration::from_secs(1);

/// Time for which a node counts as alive after a peer heard it, although the coordinator does not hear it.
const ALIVE: Duration = Duration::from_millis(2_500);

/// Minimum time since a node was in doubt before its reports count as prompt: its own packets may have been lost.
const PROMPT: Duration = Duration::from_secs(10);

/// Time after the coordinator's start for which links are not judged while nodes known from the store have not
/// returned.
const RETURN: Duration = Duration::from_secs(7);

/// Maximum time between the failures of two nodes that form one group.
const TOGETHER: Duration = Duration::from_secs(2);

/// Maximum time until a group of failed nodes is reported.
const TOGETHER_MAX: Duration = Duration::from_secs(6);

/// Maximum number of separate groups of offline nodes.
const DOWN_GROUPS: usize = 32;

/// Maximum number of lossy links that may be the first of many.
const SMALL: usize = 3;

/// Maximum number of labels that a survey evaluates.
const KEYS: usize = 16;

/// Maximum number of nodes per side in events and snapshots.
const NAMED: usize = 64;

/// Nodes that went offline together.
pub(crate) type Fallen = BTreeSet<NodeIndex>;

impl Guardian {
    /// Runs a survey, and schedules the next one.
    pub(crate) fn survey(&mut self, ctx: &mut Ctx) {
        ctx.timers.set(ctx.clock.now + SURVEY, Timer::Survey);
        self.remember_unrest(ctx);
        let mut seen = Vec::new();
        self.survey_liveness(ctx, &mut seen);
        self.survey_links(ctx, &mut seen);
        self.survey_agents(ctx, &mut seen);
        for change in self.findings.look(ctx.clock.now, ctx.wall_now(), seen) {
            match change {
                Change::Opened(followed) => self.record_finding(ctx, &followed, true),
                Change::Closed(followed) => self.record_finding(ctx, &followed, false),
            }
        }
    }

    /// Adds candidates for groups of offline nodes, nodes that only the coordinator does not hear, and ambiguous
    /// silence.
    fn survey_liveness(&mut self, ctx: &mut Ctx, seen: &mut Vec<Candidate>) {
        if let (Some((first, _)), Some((last, _))) = (self.fallen.first(), self.fallen.last()) {
            let over = ctx.clock.now.since(*last) >= TOGETHER || ctx.clock.now.since(*first) >= TOGETHER_MAX;
            if over {
                let together = mem::take(&mut self.fallen);
                self.down.push(together.into_iter().map(|(_, index)| index).collect());
                if self.down.len() > DOWN_GROUPS {
                    // Groups persist until their nodes return: the oldest two are merged to limit their number.
                    let oldest = self.down.remove(0);
                    self.down[0].extend(oldest);
                }
            }
        }
        let registry = &ctx.registry;
        self.down.retain_mut(|down| {
            down.retain(|&index| registry[index].liveness() == Liveness::Offline);
            !down.is_empty()
        });
        seen.extend(self.down.iter().map(|down| Candidate {
            sure: true,
            ..Candidate::new(FindingKind::NodesDown, down.clone())
        }));
        let climate = self.climate(ctx);
        let notable = ctx.registry.census().notable();
        let is_admitted = |index: &NodeIndex| ctx.registry[*index].record.admission == Admission::Admitted;
        let silent = notable.iter().copied().filter(is_admitted);
        let silent: Vec<NodeIndex> = silent.filter(|&index| self.is_silent(ctx, index)).collect();
        let (mut heard, mut lost, mut untold) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for index in silent {
            let tally = self.tally(ctx, index);
            let side = match (tally.heard.is_empty(), tally.telling()) {
                (false, _) => &mut heard,
                (true, 0) => &mut untold,
                (true, _) => &mut lost,
            };
            side.insert(index);
        }
        // No observer is left to report on these nodes: the explanation of the others applies to them too.
        let explained = lost.is_empty() && !heard.is_empty();
        if explained { &mut heard } else { &mut lost }.append(&mut untold);
        // While the store is stalled, no returning node can be welcomed: that is no cut.
        if !heard.is_empty() && !climate.held {
            let mut cut = Candidate::new(FindingKind::CoordinatorCut, heard);
            cut.detail = self.label_of(ctx, &cut.near);
            seen.push(cut);
        }
        if climate.ambiguous && !lost.is_empty() {
            seen.push(Candidate::new(FindingKind::Ambiguous, lost));
        }
        if climate.breaker {
            seen.push(Candidate {
                sure: true,
                ..Candidate::new(FindingKind::Breaker, BTreeSet::new())
            });
        }
        let flapping = notable.into_iter().filter(|&index| self.flaps(ctx, index));
        seen.extend(flapping.map(|index| Candidate {
            sure: true,
            ..Candidate::new(FindingKind::Flapping, BTreeSet::from([index]))
        }));
    }

    /// Adds candidates for the cuts that explain degraded links.
    fn survey_links(&mut self, ctx: &mut Ctx, seen: &mut Vec<Candidate>) {
        if self.are_returning(ctx) {
            return;
        }
        let members = self.climate(ctx).members;
        self.mesh.settle(ctx.clock.now);
        ctx.registry.census();
        let nodes = &Seen { guardian: self, ctx };
        let groups = || ctx.registry.settled().groups(KEYS);
        let survey = self.mesh.look(ctx.clock.now, members, nodes, groups);
        // A node that loses most of its packets is not specifically cut off from the coordinator.
        let shaky = survey
            .cuts
            .iter()
            .filter(|cut| cut.trouble != Trouble::Down && cut.far.is_empty());
        let explained: BTreeSet<NodeIndex> = shaky.flat_map(|cut| cut.near.iter().copied()).collect();
        for candidate in seen
            .iter_mut()
            .filter(|candidate| candidate.kind == FindingKind::CoordinatorCut)
        {
            candidate.near.retain(|index| !explained.contains(index));
        }
        seen.retain(|candidate| candidate.kind != FindingKind::CoordinatorCut || !candidate.near.is_empty());
        for cut in survey.cuts {
            let kind = match (cut.trouble, cut.near.len(), cut.far.len()) {
                (Trouble::Shaky, ..) => FindingKind::LinkLossy,
                (Trouble::Down, 1, 1) => FindingKind::LinkDown,
                (Trouble::Down, 1, 0) => FindingKind::PeersCut,
                (Trouble::Down, ..) => FindingKind::GroupSplit,
            };
            seen.push(match cut.way {
                Some(direction) => self.one_way(ctx, cut, direction),
                None => self.cut(ctx, kind, cut),
            });
        }
        for cut in survey.large {
            seen.push(self.cut(ctx, FindingKind::LargeLost, cut));
        }
        for cut in survey.slow {
            seen.push(self.cut(ctx, FindingKind::LinkSlow, cut));
        }
        // Findings about links stand while no observer reports on these links.
        let untold = self.findings.open().map(|known| &known.seen).filter(|known| {
            let is_seen = seen
                .iter()
                .any(|candidate| candidate.kind == known.kind && candidate.near == known.near);
            known.kind.is_of_links() && !is_seen && self.mesh.is_untold(ctx.clock.now, nodes, &known.near, &known.far)
        });
        let untold: Vec<Candidate> = untold.cloned().collect();
        seen.extend(untold);
        for (observer, subjects) in survey.disputed {
            let mut candidate = Candidate::new(FindingKind::Untrusted, BTreeSet::from([observer]));
            let named = self.names(ctx, subjects.iter().copied());
            candidate.detail = format!("claims not to hear {named}, which others contradict");
            seen.push(candidate);
        }
    }

    /// Returns whether nodes are still returning after a start of the coordinator: only one side of a cut may be back
    /// yet.
    fn are_returning(&self, ctx: &mut Ctx) -> bool {
        ctx.clock.now.since(ctx.clock.resumed_at) < RETURN && ctx.registry.census().unseen() > 0
    }

    /// Returns whether the coordinator or a peer hears the node, or heard it a moment ago.
    fn is_alive(&self, ctx: &Ctx, index: NodeIndex) -> bool {
        let node = &ctx.registry[index];
        let in_doubt = matches!(node.liveness(), Liveness::Suspect | Liveness::Unreachable);
        let is_heard = || {
            let tally = self.tally(ctx, index);
            !tally.heard.is_empty() || ctx.clock.now.since(tally.last_heard) < ALIVE
        };
        !self.is_strained(ctx, index) && (self.counts(ctx, index) || (in_doubt && is_heard()))
    }

    /// Returns whether the node was not in doubt recently, so that its reports arrive without delay.
    fn is_prompt(&self, ctx: &Ctx, index: NodeIndex) -> bool {
        let node = &ctx.registry[index];
        node.liveness() == Liveness::Online && ctx.clock.now.since(node.since()) >= PROMPT
    }

    fn cut(&self, ctx: &Ctx, kind: FindingKind, cut: Cut) -> Candidate {
        let mut candidate = Candidate::new(kind, cut.near);
        candidate.small =
            kind == FindingKind::LinkLossy && (1..=SMALL).contains(&(candidate.near.len() * cut.far.len()));
        candidate.far = cut.far;
        candidate.detail = self.label_of(ctx, &candidate.near);
        if !cut.unsure.is_empty() {
            let unsure = format!(
                "not known for {}: no probed link tells",
                self.names(ctx, cut.unsure.iter().copied())
            );
            candidate.detail = match candidate.detail.as_str() {
                "" => unsure,
                label => format!("{label}; {unsure}"),
            };
        }
        candidate
    }

    /// Creates a candidate for a cut that passes packets in one direction; the packets of the near side are lost.
    fn one_way(&self, ctx: &Ctx, cut: Cut, direction: Direction) -> Candidate {
        let mut candidate = self.cut(ctx, FindingKind::OneWay, cut);
        if direction == Direction::FromFar {
            mem::swap(&mut candidate.near, &mut candidate.far);
        }
        candidate
    }

    /// Adds candidates for conditions that agents report of themselves, and for agents that misbehave.
    fn survey_agents(&mut self, ctx: &mut Ctx, seen: &mut Vec<Candidate>) {
        for index in ctx.registry.census().notable() {
            let node = &ctx.registry[index];
            let one = |kind| Candidate::new(kind, BTreeSet::from([index]));
            if node.live_session().is_some() {
                seen.extend(node.health.strained.then(|| one(FindingKind::Starved)));
                seen.extend(node.health.disk_stalled.then(|| Candidate {
                    sure: true,
                    ..one(FindingKind::DiskStalled)
                }));
            }
            if let Some((at, offence)) = node.conduct.distrusted
                && ctx.clock.now.since(at) < DISTRUST
            {
                let detail = offence.to_owned();
                seen.push(Candidate {
                    detail,
                    sure: true,
                    ..one(FindingKind::Untrusted)
                });
            }
        }
    }

    /// Returns the label shared by these nodes and no other present node.
    fn label_of(&self, ctx: &Ctx, nodes: &BTreeSet<NodeIndex>) -> String {
        let Some(first) = nodes.first().filter(|_| nodes.len() > 1) else {
            return String::new();
        };
        let labels = ctx.registry[*first].record.labels();
        let census = ctx.registry.settled();
        let found = labels
            .into_iter()
            .find(|(key, value)| census.labelled(key, value) == Some(nodes));
        found.map_or_else(String::new, |(key, value)| format!("all of {key}={value}"))
    }

    fn names(&self, ctx: &Ctx, nodes: impl Iterator<Item = NodeIndex>) -> String {
        let named: Vec<&str> = nodes.take(8).map(|index| ctx.registry[index].name()).collect();
        named.join(", ")
    }

    pub(crate) fn record_finding(&mut self, ctx: &mut Ctx, followed: &Followed, open: bool) {
        let finding = self.finding(ctx, followed);
        let side = |nodes: &BTreeSet<NodeIndex>| match nodes.len() {
            0..=8 => self.names(ctx, nodes.iter().copied()),
            many => format!("{many} nodes"),
        };
        let (near, far) = (side(&followed.seen.near), side(&followed.seen.far));
        let who = match (near.is_empty(), far.is_empty()) {
            (true, true) => "everywhere".to_owned(),
            (true, false) => format!("all others and {far}"),
            (false, true) => near,
            (false, false) => format!("{near} and {far}"),
        };
        let state = if open { "" } else { " (over)" };
        let meaning = finding.kind.meaning();
        let summary = format!("{}{state}: {who}: {meaning}", finding.kind.name());
        let one = (followed.seen.near.len() == 1).then(|| followed.seen.near.first().copied());
        ctx.record(one.flatten(), summary, EventBody::Finding { finding, open });
    }

    fn finding(&self, ctx: &Ctx, followed: &Followed) -> Finding {
        let ids = |nodes: &BTreeSet<NodeIndex>| -> Vec<NodeId> {
            let mut ids: Vec<NodeId> = nodes.iter().map(|&index| ctx.registry[index].record.id()).collect();
            ids.sort_unstable();
            ids.truncate(NAMED);
            ids
        };
        Finding {
            id: ctx.term.epoch.number(followed.told.unwrap_or_default()),
            kind: followed.seen.kind,
            since: followed.since,
            near: ids(&followed.seen.near),
            far: ids(&followed.seen.far),
            detail: followed.seen.detail.clone(),
        }
    }

    /// Returns the open findings, for the snapshot.
    pub(crate) fn open_findings(&self, ctx: &Ctx) -> Vec<Finding> {
        self.findings
            .open()
            .map(|followed| self.finding(ctx, followed))
            .collect()
    }
}

/// The nodes, as a survey of their links reads them.
struct Seen<'a> {
    guardian: &'a Guardian,
    ctx: &'a Ctx,
}

impl Nodes for Seen<'_> {
    fn counts(&self, observer: NodeIndex) -> bool {
        self.guardian.counts(self.ctx, observer)
    }

    fn vouches(&self, observer: NodeIndex) -> bool {
        self.guardian.vouches(self.ctx, observer)
    }

    fn is_alive(&self, node: NodeIndex) -> bool {
        self.guardian.is_alive(self.ctx, node)
    }

    fn is_prompt(&self, node: NodeIndex) -> bool {
        self.guardian.is_prompt(self.ctx, node)
    }
}
