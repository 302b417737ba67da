//! Integrity: the chain of seals, and what nodes run by their own account.

use std::collections::BTreeMap;

use crate::{
    coherence::IntegrityOverview,
    ctx::Ctx,
    integrity::{Digest, Seal},
    node::Liveness,
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
    pub(crate) fn overview(&self, ctx: &Ctx) -> IntegrityOverview {
        let online = || {
            ctx.registry
                .iter()
                .filter(|(_, node)| node.liveness == Liveness::Online)
        };
        IntegrityOverview {
            public_key: ctx.config.public_key,
            previous: self.last_seal,
            binaries: frequencies(online().map(|(_, node)| node.record.facts.binary_digest)),
            configs: frequencies(online().map(|(_, node)| node.record.facts.config_digest)),
        }
    }
}

fn frequencies(digests: impl Iterator<Item = Digest>) -> Vec<(Digest, u32)> {
    let mut counts: BTreeMap<Digest, u32> = BTreeMap::new();
    // Most nodes have what the node before has: those are counted without a look-up.
    let mut run: Option<(Digest, u32)> = None;
    for digest in digests {
        match &mut run {
            Some((same, count)) if *same == digest => *count += 1,
            _ => {
                if let Some((digest, count)) = run.replace((digest, 1)) {
                    *counts.entry(digest).or_default() += count;
                }
            }
        }
    }
    if let Some((digest, count)) = run {
        *counts.entry(digest).or_default() += count;
    }
    let mut counts: Vec<(Digest, u32)> = counts.into_iter().collect();
    counts.sort_by_key(|&(digest, count)| (std::cmp::Reverse(count), digest));
    counts.truncate(DIGESTS_LISTED);
    counts
}
