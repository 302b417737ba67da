//! Probe plans: which nodes probe which.
//!
//! Up to [`ALL_PAIRS`] nodes, every node probes every other one. In larger clusters, every subject has exactly
//! [`OBSERVERS`] observers: its successors on as many rings, each of which orders the nodes by its own seeded hash of
//! their ids (a random Hamiltonian cycle; the union of the rings is an expander with high probability: Law & Siu,
//! "Distributed construction of random expander networks", 2003). A node that joins or leaves changes only the plans of
//! its neighbours on each ring: about K plans.

use std::collections::BTreeMap;

use crate::id::{NodeId, NodeIndex};

/// Number of observers of each subject in clusters larger than [`ALL_PAIRS`].
pub const OBSERVERS: usize = 10;

/// Maximum number of nodes for which every node probes every other one.
pub const ALL_PAIRS: usize = 11;

/// Subjects of each observer, each list sorted.
pub type Plan = BTreeMap<NodeIndex, Vec<NodeIndex>>;

fn place(seed: u64, ring: usize, id: NodeId) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&(ring as u64).to_le_bytes());
    hasher.update(&id.0);
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// Plans the probes among `members`; the result depends only on the arguments, not on their order.
#[derive(Debug, Default)]
pub struct Planner {
    seed: u64,
    places: BTreeMap<NodeIndex, [u64; OBSERVERS]>,
}

impl Planner {
    /// Creates a planner; `seed` determines the order of the rings.
    pub fn new(seed: u64) -> Planner {
        Planner {
            seed,
            places: BTreeMap::new(),
        }
    }

    /// Forgets a node's places on the rings.
    pub fn forget(&mut self, node: NodeIndex) {
        self.places.remove(&node);
    }

    /// Returns the plan for `members`.
    pub fn plan(&mut self, members: &[(NodeIndex, NodeId)]) -> Plan {
        let mut plan: Plan = members.iter().map(|&(index, _)| (index, Vec::new())).collect();
        if members.len() <= ALL_PAIRS {
            for (observer, subjects) in &mut plan {
                subjects.extend(
                    members
                        .iter()
                        .map(|&(index, _)| index)
                        .filter(|index| index != observer),
                );
                subjects.sort_unstable();
            }
            return plan;
        }
        for (subject, observers) in self.observers(members) {
            for observer in observers {
                plan.entry(observer).or_default().push(subject);
            }
        }
        for subjects in plan.values_mut() {
            subjects.sort_unstable();
        }
        plan
    }

    /// Returns [`OBSERVERS`] distinct observers for every member.
    fn observers(&mut self, members: &[(NodeIndex, NodeId)]) -> BTreeMap<NodeIndex, Vec<NodeIndex>> {
        let seed = self.seed;
        let mut chosen: BTreeMap<NodeIndex, Vec<NodeIndex>> = BTreeMap::new();
        let mut order: Vec<(u64, NodeIndex)> = Vec::with_capacity(members.len());
        for ring in 0..OBSERVERS {
            order.clear();
            order.extend(members.iter().map(|&(index, id)| {
                let places = self
                    .places
                    .entry(index)
                    .or_insert_with(|| std::array::from_fn(|ring| place(seed, ring, id)));
                (places[ring], index)
            }));
            order.sort_unstable();
            for at in 0..order.len() {
                let subject = order[at].1;
                let observers = chosen.entry(subject).or_default();
                let successors = (1..order.len()).map(|step| order[(at + step) % order.len()].1);
                observers.extend(successors.into_iter().find(|next| !observers.contains(next)));
            }
        }
        chosen
    }
}
