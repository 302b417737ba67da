//! Limits on the size of events, whatever text they contain.

use std::sync::Arc;

use super::{Event, EventBody};
use crate::{
    autonomy::{Alternative, Decision, Evidence, Fact, Source},
    text::{SENTENCE, is_hidden, shortened},
};

/// Maximum size of a decision's evidence, and of its alternatives, in an event, in bytes. A larger value retains longer
/// reasons and fewer events in the same space.
const LISTED: usize = 16 * 1024;

fn shorten(text: &mut String) {
    if text.len() > SENTENCE || text.contains(is_hidden) {
        *text = shortened(text, SENTENCE);
    }
}

/// Size of a list item in addition to its texts, in bytes.
const ITEM: usize = 64;

/// Number of leading `items` that fit; `size` returns the size of an item's texts.
fn fitting<T>(items: &[T], size: impl Fn(&T) -> usize) -> usize {
    let mut room = LISTED;
    let fits = |item: &&T| {
        let bytes = size(item) + ITEM;
        let fits = bytes <= room;
        room = room.saturating_sub(bytes);
        fits
    };
    items.iter().take_while(fits).count()
}

fn evidence_that_fits(decision: &Decision) -> usize {
    let size = |one: &Evidence| one.source.to_string().len() + one.fact.to_string().len();
    fitting(&decision.evidence, size)
}

fn alternatives_that_fit(decision: &Decision) -> usize {
    let size = |one: &Alternative| one.action.len() + one.rejected_because.len();
    fitting(&decision.alternatives, size)
}

fn shorten_decision(decision: &mut Decision) {
    shorten(&mut decision.action);
    for evidence in &mut decision.evidence {
        evidence.fact.shorten();
    }
    for alternative in &mut decision.alternatives {
        shorten(&mut alternative.action);
        shorten(&mut alternative.rejected_because);
    }
    let listed = evidence_that_fits(decision);
    let more = decision.evidence.len() - listed;
    if more > 0 {
        decision.evidence.truncate(listed);
        let (facts, room) = (more as u64, LISTED as u64);
        let fact = Fact::LeftOut { facts, room };
        decision
            .evidence
            .push(Evidence::new(decision.time, Source::Event, fact));
    }
    let listed = alternatives_that_fit(decision);
    decision.alternatives.truncate(listed);
}

/// Whether a decision is within the limits.
fn is_short(decision: &Decision) -> bool {
    let plain = |text: &String| text.len() <= SENTENCE && !text.contains(is_hidden);
    let mut others = decision
        .alternatives
        .iter()
        .flat_map(|one| [&one.action, &one.rejected_because]);
    plain(&decision.action)
        && decision.evidence.iter().all(|one| one.fact.is_short())
        && others.all(plain)
        && evidence_that_fits(decision) == decision.evidence.len()
        && alternatives_that_fit(decision) == decision.alternatives.len()
}

impl Event {
    /// Truncates the event's texts to [`SENTENCE`] bytes and its lists to their limits. Omitted content remains in the
    /// record concerned: a node's labels, or an open decision.
    #[must_use]
    pub(crate) fn bounded(mut self) -> Event {
        shorten(&mut self.summary);
        match &mut self.body {
            EventBody::Command { detail, by, .. } => {
                shorten(detail);
                shorten(by);
            }
            EventBody::Impostor { detail } | EventBody::Session { detail } => shorten(detail),
            EventBody::Directive(record) => shorten(&mut record.detail),
            EventBody::Workload { by, .. } => shorten(by),
            // A finding names a bounded number of nodes.
            EventBody::Finding { finding, .. } => shorten(&mut finding.detail),
            EventBody::Decision(decision) if !is_short(decision) => shorten_decision(Arc::make_mut(decision)),
            EventBody::Decision(_) | EventBody::Liveness { .. } | EventBody::Coordinator { .. } => {}
        }
        self
    }
}

#[cfg(test)]
mod tests;
