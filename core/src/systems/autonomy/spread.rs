//! Spread: workloads that became unevenly spread, for example after a node was away, are spread again under the rules
//! of rebalancing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Autonomy,
    rebalance::{Because, REST, Shift},
};
use crate::{
    autonomy::Fact,
    node::{Eligibility, NodeIndex},
    placement::{Fleet, Node},
    systems::fleet::Cluster,
    workload::{Declared, Held, Kind},
};

/// Maximum number of workloads for which a target is searched in one evaluation.
const LOOKS: usize = 16;

/// Values of each spread label among eligible nodes.
type Labels = BTreeMap<String, BTreeSet<Option<Arc<str>>>>;

fn value(node: &Node, label: &str) -> Option<Arc<str>> {
    node.label(label).map(Arc::from)
}

impl Autonomy {
    /// Selects one instance to move for each unevenly spread workload, and a target; at most `most`.
    pub(super) fn uneven(&self, cluster: Cluster<'_>, most: usize) -> Vec<Shift> {
        let spreads = |declared: &&Declared| declared.record.spec().is_some_and(|spec| !spec.spread.is_empty());
        let mut workloads = cluster
            .table
            .workloads()
            .map(|(_, declared)| declared)
            .filter(spreads)
            .peekable();
        if most == 0 || workloads.peek().is_none() {
            return Vec::new();
        }
        let (mut fleet, mut labels, mut looks) = (cluster.fleet(), Labels::new(), LOOKS);
        workloads
            .filter_map(|declared| self.uneven_one(cluster, declared, &mut fleet, &mut labels, &mut looks))
            .take(most)
            .collect()
    }

    fn uneven_one(
        &self,
        cluster: Cluster<'_>,
        declared: &Declared,
        fleet: &mut Fleet,
        labels: &mut Labels,
        looks: &mut usize,
    ) -> Option<Shift> {
        let record = &declared.record;
        let spec = record.spec()?;
        let service = matches!(spec.kind, Kind::Service { .. }) && !spec.stops_first();
        let instances: Vec<&Held> = cluster
            .table
            .instances(declared)
            .filter(|held| held.is_there())
            .collect();
        let is_quiet =
            |held: &&Held| held.is_wanted() && held.healthy_since.is_some() && held.record.leaving.is_empty();
        if !service
            || record.deleted
            || record.stable != record.revision
            || !declared.waiting.is_empty()
            || !instances.iter().all(is_quiet)
            || instances.iter().any(|held| self.was_proposed(cluster, held))
        {
            return None;
        }
        let value_of = |fleet: &Fleet, index: NodeIndex| fleet.node(index).and_then(|node| value(node, &spec.spread));
        let mut by_value: BTreeMap<Option<Arc<str>>, Vec<&Held>> = BTreeMap::new();
        for held in &instances {
            by_value.entry(value_of(fleet, held.index)).or_default().push(held);
        }
        let (fullest, there) = by_value.iter().max_by_key(|(_, there)| there.len())?;
        let values = labels.entry(spec.spread.clone()).or_insert_with(|| {
            let open = fleet
                .nodes()
                .iter()
                .filter(|node| node.eligibility == Eligibility::Eligible);
            open.map(|node| value(node, &spec.spread)).collect()
        });
        let fewest = values
            .iter()
            .map(|value| by_value.get(value).map_or(0, Vec::len))
            .min()?;
        if there.len() < fewest + 2 || *looks == 0 {
            return None;
        }
        *looks -= 1;
        // The newest instance moves.
        let held = there.last()?;
        let mut trial = fleet.clone();
        let mut standing = trial.standing(cluster.table, declared, cluster.ctx.clock.now);
        let to = trial
            .place_off(spec, &mut standing, Some(held.index))
            .placed
            .first()
            .copied()?;
        let emptiest = value_of(fleet, to.node);
        let few = by_value.get(&emptiest).map_or(0, Vec::len);
        if there.len() < few + 2 {
            return None;
        }
        *fleet = trial;
        Some(Shift {
            id: held.record.id,
            from: held.index,
            to,
            fact: Fact::Uneven {
                label: spec.spread.clone(),
                fullest: fullest.clone(),
                many: there.len() as u32,
                emptiest,
                few: few as u32,
            },
            because: Because::Uneven,
        })
    }

    /// Whether a move of this instance was proposed recently and it has not moved.
    fn was_proposed(&self, cluster: Cluster<'_>, held: &Held) -> bool {
        let slots = self.moved.get(&held.record.workload);
        let at = slots.and_then(|slots| slots.get(&held.record.slot));
        at.is_some_and(|at| cluster.ctx.clock.now.since(*at) < REST && held.known_since < *at)
    }
}
