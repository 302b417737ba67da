//! What is true, known only to the simulator: small enough to be seen to be right.
//!
//! A node is *there* when it has power, its agent runs, and there is a way from the coordinator to it and back. A way has any number of hops.
//! Every hop needs both directions, since probes, questions and sessions are all answered on the way they came; a one-way cut therefore ends
//! a hop. A machine between two hops must run, know whom to probe, and be paired with the next one by a probe plan: nobody else asks.

use std::{collections::BTreeMap, time::Duration};

use wyneos_core::time::Time;

/// A process that stands still for longer than this is as good as gone; one that goes on before must not be given up.
pub(crate) const TOLERATED: Duration = Duration::from_secs(1);

/// A gap between two absences that is shorter than this may pass without a single probe in it: they are one.
const GLIMPSE: Duration = Duration::from_millis(300);

/// How long it may take until somebody knows that a node is back: a probe, its report, and questions to several peers in turn.
const NOTICED: Duration = Duration::from_secs(4);

/// A transport that waited for so long tries again after as long (TCP doubles its waits); agents try anew at least this often.
const RETRIED: Duration = Duration::from_secs(15);

/// The same after a process stood still, where nothing has to be sent again.
const RESUMED: Duration = Duration::from_millis(500);

/// How much longer news may take where packets are lost.
const LOSSY: Duration = Duration::from_secs(8);

/// A time in which a node was not there; without an end while it is not.
#[derive(Clone, Copy, Debug)]
struct Absence {
    from: Time,
    until: Option<Time>,
    /// Its process stood still, and nothing else.
    still: bool,
}

/// Who was there, and when.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// Something changed on which presence rests.
    pub(crate) stale: bool,
    /// The newest absences of each node, oldest first.
    absences: BTreeMap<usize, Vec<Absence>>,
}

/// Absences of a node that are remembered; older ones excuse nothing any more.
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

    /// A process stood still.
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

    /// True when a node was away for so long, until so lately, that nobody need know yet that it is back.
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
