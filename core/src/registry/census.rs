//! The census: counters and sets over all nodes, maintained incrementally so that no caller has to scan all rows.
//!
//! A row handed out for modification is re-evaluated before the census is read. Only
//! [`Registry::heard`](super::Registry::heard) hands out a row without that: a sign of life changes nothing that is
//! counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    integrity::Digest,
    node::{Admission, Cause, ConnId, Facts, Liveness, Node, NodeIndex, NodeRecord},
    time::Time,
};

/// Number of returns from which a node counts as flapping.
pub(crate) const FLAPS: u32 = 3;

/// Contribution of one row to the census.
#[derive(Clone, Debug, Default)]
pub(super) struct Mark {
    liveness: Option<Liveness>,
    is_admitted: bool,
    is_notable: bool,
    /// Time since which the node has been offline because of silence.
    silenced: Option<Time>,
    /// Facts that the agent stated, while the node is online.
    facts: Option<Arc<Facts>>,
    /// Record of the node with its labels, while the node is present: neither offline nor departed.
    labelled: Option<Arc<NodeRecord>>,
    has_session: bool,
    /// Whether the session's transport is not associated with the node.
    is_astray: bool,
}

/// Node associated with each transport.
pub(super) type Conns = BTreeMap<ConnId, NodeIndex>;

impl Mark {
    pub(super) fn of(index: NodeIndex, node: Option<&Node>, conns: &Conns) -> Mark {
        let Some(node) = node else {
            return Mark::default();
        };
        let is_online = node.liveness() == Liveness::Online;
        let is_present = !matches!(node.liveness(), Liveness::Offline | Liveness::Left);
        let is_silenced = node.liveness() == Liveness::Offline && node.cause() == Cause::HostSilent;
        Mark {
            liveness: Some(node.liveness()),
            is_admitted: node.record.admission == Admission::Admitted,
            is_notable: is_notable(node),
            silenced: is_silenced.then_some(node.since()),
            facts: is_online.then(|| Arc::clone(&node.record.facts)),
            labelled: is_present.then(|| Arc::clone(&node.record)),
            has_session: node.session.is_some(),
            is_astray: node
                .session
                .as_ref()
                .is_some_and(|session| conns.get(&session.conn) != Some(&index)),
        }
    }

    /// Whether the node is online or in doubt.
    fn is_member(&self) -> bool {
        self.liveness
            .is_some_and(|liveness| liveness == Liveness::Online || liveness.is_in_doubt())
    }

    fn is_same(&self, other: &Mark) -> bool {
        let facts = match (&self.facts, &other.facts) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        let labels = match (&self.labelled, &other.labelled) {
            (Some(one), Some(other)) => {
                Arc::ptr_eq(&one.facts, &other.facts) && one.operator_labels == other.operator_labels
            }
            (one, other) => one.is_none() && other.is_none(),
        };
        let plain = |mark: &Mark| (mark.liveness, mark.is_admitted, mark.is_notable, mark.silenced);
        let session = |mark: &Mark| (mark.has_session, mark.is_astray);
        facts && labels && plain(self) == plain(other) && session(self) == session(other)
    }
}

/// Whether surveys evaluate a node: it is in doubt or unseen, flapping, strained, has a stalled disk, or is a bad
/// observer.
fn is_notable(node: &Node) -> bool {
    let says = node.health.strained || node.health.disk_stalled;
    let is_settled = matches!(node.liveness(), Liveness::Online | Liveness::Offline | Liveness::Left);
    !is_settled || node.returns.0 >= FLAPS || says || node.conduct.distrusted.is_some()
}

/// Counters and sets over all nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Number of nodes that are online or in doubt: not admitted ones at 0, admitted ones at 1.
    members: [usize; 2],
    unseen: usize,
    notable: BTreeSet<NodeIndex>,
    silenced: BTreeSet<(Time, NodeIndex)>,
    binaries: BTreeMap<Digest, u32>,
    configs: BTreeMap<Digest, u32>,
    versions: BTreeMap<String, u32>,
    sessions: usize,
    astray: BTreeSet<NodeIndex>,
    /// Number of present nodes, and the present nodes by key and value of their labels.
    present: usize,
    labels: BTreeMap<String, BTreeMap<String, BTreeSet<NodeIndex>>>,
}

impl Census {
    /// Number of nodes that are online or in doubt; with `admitted_only`, only admitted ones.
    pub fn members(&self, admitted_only: bool) -> usize {
        self.members[1] + if admitted_only { 0 } else { self.members[0] }
    }

    /// Number of nodes not seen since the coordinator started.
    pub fn unseen(&self) -> usize {
        self.unseen
    }

    /// Nodes that are in doubt or unseen, returned `FLAPS` times, report strain or a stalled disk, or were ever
    /// distrusted; in index order.
    pub fn notable(&self) -> Vec<NodeIndex> {
        self.notable.iter().copied().collect()
    }

    /// Nodes that went offline because of silence at `since` or later.
    pub fn silenced_since(&self, since: Time) -> Vec<NodeIndex> {
        let newer = self.silenced.range((since, NodeIndex(0))..);
        newer.map(|(_, index)| *index).collect()
    }

    /// Number of online nodes per agent binary digest.
    pub fn binaries(&self) -> &BTreeMap<Digest, u32> {
        &self.binaries
    }

    /// Number of online nodes per configuration digest.
    pub fn configs(&self) -> &BTreeMap<Digest, u32> {
        &self.configs
    }

    /// Agent versions of online nodes.
    pub fn versions(&self) -> impl Iterator<Item = &str> {
        self.versions.keys().map(String::as_str)
    }

    /// Number of nodes with a session.
    pub fn sessions(&self) -> usize {
        self.sessions
    }

    /// Nodes whose session has a transport that is not associated with them, in index order.
    pub fn astray(&self) -> impl Iterator<Item = NodeIndex> {
        self.astray.iter().copied()
    }

    /// Present nodes with this label.
    pub fn labelled(&self, key: &str, value: &str) -> Option<&BTreeSet<NodeIndex>> {
        self.labels.get(key)?.get(value)
    }

    /// Present nodes grouped by value, for up to this number of labels that may describe locations. Labels with a
    /// single value, or with a unique value for every node, are omitted.
    pub fn groups(&self, labels: usize) -> Vec<Vec<&BTreeSet<NodeIndex>>> {
        let telling = self
            .labels
            .values()
            .filter(|values| values.len() > 1 && values.len() < self.present);
        telling.take(labels).map(|values| values.values().collect()).collect()
    }

    fn count(&mut self, index: NodeIndex, mark: &Mark, is_there: bool) {
        let members = &mut self.members[usize::from(mark.is_admitted)];
        step(members, mark.is_member(), is_there);
        step(&mut self.unseen, mark.liveness == Some(Liveness::Unseen), is_there);
        step(&mut self.sessions, mark.has_session, is_there);
        if mark.is_astray {
            set(&mut self.astray, index, is_there);
        }
        if mark.is_notable {
            set(&mut self.notable, index, is_there);
        }
        if let Some(since) = mark.silenced {
            set(&mut self.silenced, (since, index), is_there);
        }
        step(&mut self.present, mark.labelled.is_some(), is_there);
        for (key, value) in mark.labelled.iter().flat_map(|record| record.labels()) {
            let values = self.labels.entry(key.clone()).or_default();
            let nodes = values.entry(value.clone()).or_default();
            set(nodes, index, is_there);
            if nodes.is_empty() {
                values.remove(&value);
            }
            if values.is_empty() {
                self.labels.remove(&key);
            }
        }
        if let Some(facts) = &mark.facts {
            tally(&mut self.binaries, &facts.binary_digest, is_there);
            tally(&mut self.configs, &facts.config_digest, is_there);
            tally(&mut self.versions, &facts.agent_version, is_there);
        }
    }
}

fn step(counter: &mut usize, counts: bool, is_there: bool) {
    let by = usize::from(counts);
    *counter = match is_there {
        true => *counter + by,
        false => counter.saturating_sub(by),
    };
}

fn set<T: Ord>(of: &mut BTreeSet<T>, item: T, is_there: bool) {
    match is_there {
        true => of.insert(item),
        false => of.remove(&item),
    };
}

fn tally<T: Ord + Clone>(of: &mut BTreeMap<T, u32>, key: &T, is_there: bool) {
    match (of.get_mut(key), is_there) {
        (Some(count), true) => *count += 1,
        (Some(count), false) if *count > 1 => *count -= 1,
        (Some(_), false) => drop(of.remove(key)),
        (None, true) => drop(of.insert(key.clone(), 1)),
        (None, false) => {}
    }
}

/// Rows handed out for modification, each once.
#[derive(Clone, Debug, Default)]
struct Lent {
    list: Vec<NodeIndex>,
    is_listed: Vec<bool>,
}

impl Lent {
    fn push(&mut self, index: NodeIndex) {
        if self.is_listed.len() <= index.get() {
            self.is_listed.resize(index.get() + 1, false);
        }
        if !std::mem::replace(&mut self.is_listed[index.get()], true) {
            self.list.push(index);
        }
    }

    fn pop(&mut self) -> Option<NodeIndex> {
        let index = self.list.pop()?;
        self.is_listed[index.get()] = false;
        Some(index)
    }
}

/// The census, and the rows that are to be re-evaluated.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    census: Census,
    /// Contribution of each row, by index.
    marks: Vec<Mark>,
    to_count: Lent,
    /// Rows marked for publication.
    to_show: Lent,
}

impl Kept {
    /// Marks a row that may change.
    pub(super) fn lend(&mut self, index: NodeIndex) {
        self.to_count.push(index);
        self.to_show.push(index);
    }

    /// Marks a row for publication only.
    pub(super) fn show(&mut self, index: NodeIndex) {
        self.to_show.push(index);
    }

    /// Takes a row marked for publication; each mark is returned once.
    pub(super) fn take_to_show(&mut self) -> Option<NodeIndex> {
        self.to_show.pop()
    }

    /// Re-evaluates the rows that may have changed.
    pub(super) fn settle(&mut self, nodes: &[Option<Node>], conns: &Conns) -> &Census {
        while let Some(index) = self.to_count.pop() {
            let at = index.get();
            let mark = Mark::of(index, nodes.get(at).and_then(Option::as_ref), conns);
            if self.marks.len() <= at {
                self.marks.resize(at + 1, Mark::default());
            }
            if !self.marks[at].is_same(&mark) {
                let before = std::mem::replace(&mut self.marks[at], mark);
                self.census.count(index, &before, false);
                self.census.count(index, &self.marks[at], true);
            }
        }
        &self.census
    }

    /// The last census.
    pub(super) fn settled(&self) -> &Census {
        debug_assert!(self.to_count.list.is_empty(), "rows were lent out since");
        &self.census
    }

    #[cfg(test)]
    pub(super) fn is_to_show(&self, index: NodeIndex) -> bool {
        self.to_show.list.contains(&index)
    }
}

/// A census from a full recount.
#[cfg(test)]
pub(super) fn recounted<'a>(nodes: impl Iterator<Item = (NodeIndex, &'a Node)>, conns: &Conns) -> Census {
    let mut census = Census::default();
    for (index, node) in nodes {
        census.count(index, &Mark::of(index, Some(node), conns), true);
    }
    census
}
