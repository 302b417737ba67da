//! Integrity: the chain of seals, and what nodes run by their own account.

use std::collections::BTreeMap;

use crate::{
    coherence::IntegrityOverview,
    ctx::Ctx,
    integrity::{Digest, Seal},
};

/// Digests that a snapshot lists at most.
const DIGESTS_LISTED: usize = 16;

/// The newest seal, as (epoch, cycle, chain).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Integrity {
    last_seal: (u64, u64, Digest),
}

impl Integrity {
    /// Goes on from the newest seal that is durable.
    pub(crate) fn new(last_seal: (u64, u64, Digest)) -> Integrity {
        Integrity { last_seal }
    }

    /// A snapshot was sealed.
    pub(crate) fn sealed(&mut self, seal: &Seal) {
        self.last_seal = (seal.epoch, seal.cycle, seal.chain);
    }

    /// Integrity at a glance, for the snapshot.
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

/// The most frequent digests.
fn frequencies(counts: &BTreeMap<Digest, u32>) -> Vec<(Digest, u32)> {
    let mut counts: Vec<(Digest, u32)> = counts.iter().map(|(digest, count)| (*digest, *count)).collect();
    counts.sort_by_key(|&(digest, count)| (std::cmp::Reverse(count), digest));
    counts.truncate(DIGESTS_LISTED);
    counts
}
