//! Integrity: the chain of seals, and the digests of binaries and configurations that nodes report.

use std::collections::BTreeMap;

use crate::{
    coherence::IntegrityOverview,
    ctx::Ctx,
    id::{Cycle, Epoch},
    integrity::{Digest, Seal},
};

/// Maximum number of digests listed in a snapshot.
const DIGESTS_LISTED: usize = 16;

/// The newest seal as (epoch, cycle, chain).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Integrity {
    last_seal: (Epoch, Cycle, Digest),
}

impl Integrity {
    /// Continues from the newest durable seal.
    pub(crate) fn new(last_seal: (Epoch, Cycle, Digest)) -> Integrity {
        Integrity { last_seal }
    }

    /// Records the seal of a snapshot.
    pub(crate) fn sealed(&mut self, seal: &Seal) {
        self.last_seal = (seal.epoch, seal.cycle, seal.chain);
    }

    /// Summary of integrity for the snapshot.
    pub(crate) fn overview(&self, ctx: &mut Ctx) -> IntegrityOverview {
        let census = ctx.registry.census();
        let (binaries, configs) = (frequencies(census.binaries()), frequencies(census.configs()));
        IntegrityOverview {
            public_key: ctx.config.public_key,
            previous: self.last_seal,
            binaries,
            configs,
        }
    }
}

/// The most frequent digests with their counts, most frequent first.
fn frequencies(counts: &BTreeMap<Digest, u32>) -> Vec<(Digest, u32)> {
    let mut counts: Vec<(Digest, u32)> = counts.iter().map(|(digest, count)| (*digest, *count)).collect();
    counts.sort_by_key(|&(digest, count)| (std::cmp::Reverse(count), digest));
    counts.truncate(DIGESTS_LISTED);
    counts
}
