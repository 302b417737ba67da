//! Ground truth known only to the simulator, kept small enough to be verified by reading.
//!
//! A node is *there* if it has power, its agent runs, and a path leads from the coordinator to it and back. A path has
//! any number of hops. Every hop requires both directions, since probes, questions and sessions are answered on the
//! path they used; a one-way cut therefore breaks a hop. A machine between two hops must run, have probe targets, and
//! be paired with the next one by a probe plan, because only paired nodes ask one another.

use std::{collections::BTreeMap, time::Duration};

use wyneos_core::time::Time;

/// Maximum stall of a process that must be tolerated; after a longer one the node may be given up.
pub(crate) const TOLERATED: Duration = Duration::from_secs(1);

/// Minimum gap between two absences; a shorter one may pass without a probe, so the absences count as one.
const GLIMPSE: Duration = Duration::from_millis(300);

/// Maximum time until the return of a node is known: a probe, its report, and questions to several peers in turn.
const NOTICED: Duration = Duration::from_secs(4);

/// Maximum time until a transport or agent retries: a transport retries after as long as it has waited (TCP doubles its
/// timeouts); agents retry at least this often.
const RETRIED: Duration = Duration::from_secs(15);

/// The same after a stall of a process, when nothing has to be retransmitted.
const RESUMED: Duration = Duration::from_millis(500);

/// Additional time if packets are lost.
const LOSSY: Duration = Duration::from_secs(8);

/// A period in which a node was absent; open-ended while it is.
#[derive(Clone, Copy, Debug)]
struct Absence {
    from: Time,
    until: Option<Time>,
    /// Whether it was only a stall of its process.
    still: bool,
}

/// Presence of nodes over time.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// Whether presence must be re-evaluated.
    pub(crate) stale: bool,
    /// Most recent absences of each node, oldest first.
    absences: BTreeMap<usize, Vec<Absence>>,
}

/// Maximum number of retained absences per node; older ones no longer matter.
const REMEMBERED: usize = 16;

impl Truth {
    pub(crate) fn note(&mut self, node: usize, here: bool, now: Time) {
        let absences = self.absences.entry(node).or_default();
        let last = absences.iter_mut().rfind(|absence| !absence.still);
        match last {
            Some(last) if here && last.until.is_none() => last.until = Some(now),
            Some(last) if !here && last.until.is_some_and(|until| now.since(until) < GLIMPSE) => last.until = None,
            Some(last) if !here && last.until.is_none() => {}
            _ if here => {}
            _ => self.add(node, now, None, false),
        }
    }

    /// Records a stall of a process.
    pub(crate) fn stood(&mut self, node: usize, from: Time, until: Time) {
        self.add(node, from, Some(until), true);
    }

    fn add(&mut self, node: usize, from: Time, until: Option<Time>, still: bool) {
        let absences = self.absences.entry(node).or_default();
        if absences.len() == REMEMBERED {
            absences.remove(0);
        }
        absences.push(Absence { from, until, still });
    }

    /// Whether a node was absent for so long, and until so recently, that its return need not be known yet.
    pub(crate) fn was_away(&self, node: usize, now: Time, lossy: bool) -> bool {
        let more = if lossy { LOSSY } else { Duration::ZERO };
        let excuses = |absence: &Absence| {
            let until = absence.until.unwrap_or(now);
            let lasted = until.since(absence.from);
            let noticed = match absence.still {
                true => RESUMED,
                false => NOTICED + lasted.min(RETRIED),
            };
            lasted > TOLERATED && now.since(until) < noticed + more
        };
        self.absences
            .get(&node)
            .is_some_and(|absences| absences.iter().any(excuses))
    }
}
