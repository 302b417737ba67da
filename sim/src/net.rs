//! The network: how long a packet takes from one machine to another, if it arrives.

use std::{collections::BTreeMap, time::Duration};

use rand::RngExt;
use rand_pcg::Pcg64Mcg;

use crate::scenario::Network;

/// Bytes from which a packet, or one of those that a message is sent in, is of full size.
const LARGE: usize = 1_400;

/// Bytes of a packet that carries next to nothing.
pub(crate) const SMALL: usize = 100;

/// What a fault does to packets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Harm {
    Drop,
    Lose(f64),
    /// Packets of full size are dropped.
    DropLarge,
    Delay(Duration),
}

/// Packets from some machines to some others meet a harm.
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

/// The network. Machines are numbered: the nodes from 0, then the coordinator's.
#[derive(Debug)]
pub(crate) struct Net {
    network: Network,
    /// Seconds of its jitter.
    jitter: f64,
    /// Each machine's zone.
    zones: Vec<usize>,
    /// By the fault that brought them.
    rules: BTreeMap<usize, Vec<Rule>>,
}

impl Net {
    pub(crate) fn new(network: Network, nodes: usize, zones: usize) -> Net {
        // The coordinator's machine stands in the first zone.
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

    /// True while some packets are dropped by a rule.
    pub(crate) fn has_cuts(&self) -> bool {
        self.rules.values().flatten().any(|rule| rule.drops_all())
    }

    /// True while packets are lost by chance, or arrive so late that they may as well be.
    pub(crate) fn is_lossy(&self) -> bool {
        let by_chance = |rule: &Rule| !rule.drops_all();
        self.network.loss > 0.0 || self.rules.values().flatten().any(by_chance)
    }

    /// True while no packet gets from one to the other.
    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        let mut rules = self.rules.values().flatten();
        rules.any(|rule| rule.drops_all() && rule.meets(from, to))
    }

    /// How long one packet of so many bytes takes; `None` when it is lost.
    pub(crate) fn packet(&self, rng: &mut Pcg64Mcg, from: usize, to: usize, bytes: usize) -> Option<Duration> {
        let mut loss = self.network.loss;
        let mut takes = self.network.latency;
        // A fault between nodes of which some are on both sides harms a packet once all the same.
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
        // An exponential draw, by a table-free series that is the same on every machine: the number of halvings.
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
