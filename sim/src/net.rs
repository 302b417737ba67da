//! The network: packet delay and loss between machines.

use std::{collections::BTreeMap, time::Duration};

use rand::RngExt;
use rand_pcg::Pcg64Mcg;

use crate::scenario::Network;

/// Minimum size, in bytes, of a packet of full size or of a message that contains one.
const LARGE: usize = 1_400;

/// Size of a small packet, in bytes.
pub(crate) const SMALL: usize = 100;

/// Effect of a fault on packets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Harm {
    Drop,
    Lose(f64),
    /// Drops packets of full size.
    DropLarge,
    Delay(Duration),
}

/// A fault's effect on packets between two sets of machines.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) from: Vec<bool>,
    pub(crate) to: Vec<bool>,
    pub(crate) harm: Harm,
}

impl Rule {
    fn drops_all(&self) -> bool {
        matches!(self.harm, Harm::Drop) || matches!(self.harm, Harm::Lose(share) if share >= 1.0)
    }

    fn meets(&self, from: usize, to: usize) -> bool {
        self.from[from] && self.to[to]
    }
}

/// The network. Machines are numbered: nodes from 0, followed by the coordinator's machine.
#[derive(Debug)]
pub(crate) struct Net {
    network: Network,
    /// Mean jitter, in seconds.
    jitter: f64,
    /// Zone of each machine.
    zones: Vec<usize>,
    /// Rules by fault.
    rules: BTreeMap<usize, Vec<Rule>>,
}

impl Net {
    pub(crate) fn new(network: Network, nodes: usize, zones: usize) -> Net {
        // The coordinator's machine is in the first zone.
        let zones = (0..nodes).map(|node| node % zones).chain([0]).collect();
        Net {
            jitter: network.jitter.as_secs_f64(),
            network,
            zones,
            rules: BTreeMap::new(),
        }
    }

    pub(crate) fn harm(&mut self, fault: usize, rules: Vec<Rule>) {
        self.rules.insert(fault, rules);
    }

    pub(crate) fn heal(&mut self, fault: usize) {
        self.rules.remove(&fault);
    }

    /// Whether any rule drops all packets.
    pub(crate) fn has_cuts(&self) -> bool {
        self.rules.values().flatten().any(|rule| rule.drops_all())
    }

    /// Whether packets are lost randomly, or delayed so much that it is equivalent.
    pub(crate) fn is_lossy(&self) -> bool {
        let by_chance = |rule: &Rule| !rule.drops_all();
        self.network.loss > 0.0 || self.rules.values().flatten().any(by_chance)
    }

    /// Whether no packet passes from one machine to the other.
    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        let mut rules = self.rules.values().flatten();
        rules.any(|rule| rule.drops_all() && rule.meets(from, to))
    }

    /// Transit time of a packet of this size; `None` if it is lost.
    pub(crate) fn packet(&self, rng: &mut Pcg64Mcg, from: usize, to: usize, bytes: usize) -> Option<Duration> {
        let mut loss = self.network.loss;
        let mut takes = self.network.latency;
        // A fault whose two sides overlap affects a packet only once.
        let meeting = |rules: &Vec<Rule>| rules.iter().find(|rule| rule.meets(from, to)).map(|rule| rule.harm);
        for harm in self.rules.values().filter_map(meeting) {
            match harm {
                Harm::Drop => return None,
                Harm::DropLarge if bytes >= LARGE => return None,
                Harm::DropLarge => {}
                Harm::Lose(share) => loss = 1.0 - (1.0 - loss) * (1.0 - share),
                Harm::Delay(by) => takes += by,
            }
        }
        if loss > 0.0 && rng.random_bool(loss) {
            return None;
        }
        if self.zones[from] != self.zones[to] {
            takes += self.network.zone_latency;
        }
        // Exponential distribution computed from the number of leading zeros, which is identical on every machine.
        let halvings = rng.random::<u64>().leading_zeros();
        let part: f64 = rng.random_range(0.0..1.0);
        Some(takes + Duration::from_secs_f64((f64::from(halvings) + part) * 0.69 * self.jitter))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_fault_harms_a_packet_once() {
        let both = |harm| Rule {
            from: vec![true; 3],
            to: vec![true; 3],
            harm,
        };
        let mut net = Net::new(Network::default(), 2, 1);
        net.harm(0, vec![both(Harm::Lose(0.3)), both(Harm::Lose(0.3))]);
        net.harm(1, vec![both(Harm::Delay(Duration::from_secs(1))); 2]);
        let mut rng = Pcg64Mcg::seed_from_u64(1);
        let packets: Vec<_> = (0..10_000).map(|_| net.packet(&mut rng, 0, 1, SMALL)).collect();
        let lost = packets.iter().filter(|packet| packet.is_none()).count();
        assert!((2_800..3_200).contains(&lost), "{lost}");
        let longest = packets.into_iter().flatten().max();
        assert!(
            longest.is_some_and(|longest| longest < Duration::from_secs(2)),
            "{longest:?}"
        );
    }
}
