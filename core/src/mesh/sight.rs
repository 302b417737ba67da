//! Sights: what observers see of a subject now, and what follows from all of them together.

use std::collections::BTreeMap;

use crate::{node::NodeIndex, time::Time};

/// What an observer sees of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It answers.
    Heard,
    /// Nothing comes back in the time that this link usually takes and then some.
    Silent,
    /// Its host answers that nobody listens there.
    Refused,
}

impl Sight {
    /// What it means, as people read it.
    pub const fn meaning(self) -> &'static str {
        match self {
            Sight::Heard => "hears it",
            Sight::Silent => "does not hear it",
            Sight::Refused => "is told by its host that no agent listens",
        }
    }
}

/// A change of what an observer sees; reported at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// What it sees now.
    pub sight: Sight,
    /// Milliseconds since the subject's last answer; `None` when there was none.
    pub last_heard_age_millis: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Noted {
    sight: Sight,
    /// When the observer heard it last, by our clock; our start when it never did.
    heard: Time,
}

/// What all observers see of all subjects.
#[derive(Debug, Default)]
pub(super) struct Sights {
    by_subject: BTreeMap<NodeIndex, BTreeMap<NodeIndex, Noted>>,
}

/// What a subject's observers see of it, those counted that can be counted on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Observers that hear it.
    pub heard: Vec<NodeIndex>,
    /// Observers that do not.
    pub silent: Vec<NodeIndex>,
    /// Observers that its host tells that no agent listens.
    pub refused: Vec<NodeIndex>,
    /// Observers that have not said anything yet.
    pub unknown: usize,
    /// When one of them heard it last.
    pub last_heard: Time,
}

impl Tally {
    /// Observers that do not hear it, for either reason.
    pub fn lost(&self) -> usize {
        self.silent.len() + self.refused.len()
    }

    /// Observers that say something.
    pub fn telling(&self) -> usize {
        self.heard.len() + self.lost()
    }

    /// More than half of all observers that can be counted on.
    pub fn quorum(&self) -> usize {
        (self.telling() + self.unknown) / 2 + 1
    }
}

impl Sights {
    pub(super) fn note(&mut self, observer: NodeIndex, subject: NodeIndex, sight: Sight, heard: Time) {
        let noted = Noted { sight, heard };
        self.by_subject.entry(subject).or_default().insert(observer, noted);
    }

    /// Notes that the link was reported to live, unless more is known.
    pub(super) fn assume(&mut self, observer: NodeIndex, subject: NodeIndex, now: Time) {
        let noted = Noted {
            sight: Sight::Heard,
            heard: now,
        };
        self.by_subject
            .entry(subject)
            .or_default()
            .entry(observer)
            .or_insert(noted);
    }

    /// Forgets what an observer said.
    pub(super) fn forget(&mut self, observer: NodeIndex) {
        for sights in self.by_subject.values_mut() {
            sights.remove(&observer);
        }
    }

    /// Forgets what is no longer asked.
    pub(super) fn keep(&mut self, asked: impl Fn(NodeIndex, NodeIndex) -> bool) {
        self.by_subject.retain(|&subject, sights| {
            sights.retain(|&observer, _| asked(observer, subject));
            !sights.is_empty()
        });
    }

    /// Of what is seen of the subjects that `count`: sights that are no hearing, and all.
    pub(super) fn lost(&self, counts: impl Fn(NodeIndex) -> bool) -> (usize, usize) {
        let sights = self.by_subject.iter().filter(|(subject, _)| counts(**subject));
        let noted = sights.flat_map(|(_, sights)| sights.values());
        noted.fold((0, 0), |(lost, all), noted| {
            (lost + usize::from(noted.sight != Sight::Heard), all + 1)
        })
    }

    /// What `observers` see of `subject`.
    pub(super) fn tally(&self, subject: NodeIndex, observers: impl Iterator<Item = NodeIndex>) -> Tally {
        let sights = self.by_subject.get(&subject);
        let mut tally = Tally::default();
        for observer in observers {
            let Some(noted) = sights.and_then(|sights| sights.get(&observer)) else {
                tally.unknown += 1;
                continue;
            };
            match noted.sight {
                Sight::Heard => tally.heard.push(observer),
                Sight::Silent => tally.silent.push(observer),
                Sight::Refused => tally.refused.push(observer),
            }
            tally.last_heard = tally.last_heard.max(noted.heard);
        }
        tally
    }
}
