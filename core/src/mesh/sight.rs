//! Sights: what observers see of a subject now, and what follows from all of them together.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{id::NodeIndex, time::Time};

/// What an observer sees of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
            Sight::Refused => "gets the answer, from the host of the node it probes, that no agent listens there",
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

/// An observer that hears none of so many is not counted.
pub(super) const SEVERAL: u32 = 3;

/// Two misses within this time, with an answer between them, are more than a packet's bad luck; for as long as the newest one is this recent.
const TWICE: Duration = Duration::from_secs(10);
const LATELY: Duration = Duration::from_secs(5);

/// A link that nothing has passed for so long is cut, or one end of it is gone.
const CUT: Duration = Duration::from_secs(20);

/// A miss that is taken back sooner is an answer that was late.
const SHORT: Duration = Duration::from_millis(500);

/// How badly links do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// Probes are missed again and again, and some get through.
    Shaky,
    /// No probe gets through.
    Down,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Noted {
    pub(super) sight: Sight,
    /// Since when it sees that.
    since: Time,
    /// When the observer heard it last, by our clock; our start when it never did.
    pub(super) heard: Time,
    /// When the newest miss began, and the one before.
    pub(super) misses: [Option<Time>; 2],
}

impl Noted {
    fn is_lately(&self, now: Time) -> bool {
        self.misses[0].is_some_and(|newest| now.since(newest) < LATELY)
    }

    fn is_shaky(&self, now: Time) -> bool {
        match self.misses {
            [Some(newest), Some(before)] => {
                let lasted = if self.sight == Sight::Heard { self.since } else { now };
                newest.since(before) < TWICE && now.since(newest) < LATELY && lasted.since(newest) >= SHORT
            }
            _ => false,
        }
    }
}

/// What all observers see of all subjects.
#[derive(Debug, Default)]
pub(super) struct Sights {
    by_subject: BTreeMap<NodeIndex, BTreeMap<NodeIndex, Noted>>,
    /// By observer: how many it sees, and how many of them it does not hear.
    by_observer: BTreeMap<NodeIndex, (u32, u32)>,
    /// Sights that are no hearing, as (observer, subject).
    lost: BTreeSet<(NodeIndex, NodeIndex)>,
    /// Sights that may be missed again and again.
    shaky: BTreeSet<(NodeIndex, NodeIndex)>,
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
}

/// How many observers hear a subject, and how many tell of it, cut links left out.
fn seen(sights: &BTreeMap<NodeIndex, Noted>, counts: impl Fn(NodeIndex) -> bool, now: Time) -> (usize, usize) {
    let passes = |noted: &Noted| noted.sight == Sight::Heard || now.since(noted.heard) < CUT;
    let counted = sights
        .iter()
        .filter(|(observer, noted)| counts(**observer) && passes(noted));
    counted.fold((0, 0), |(heard, all), (_, noted)| {
        (heard + usize::from(noted.sight == Sight::Heard), all + 1)
    })
}

impl Sights {
    pub(super) fn note(&mut self, observer: NodeIndex, subject: NodeIndex, sight: Sight, heard: Time, now: Time) {
        let sights = self.by_subject.entry(subject).or_default();
        let before = sights.get(&observer).copied();
        let was_lost = before.is_some_and(|before| before.sight != Sight::Heard);
        let is_lost = sight != Sight::Heard;
        let mut misses = before.map_or([None; 2], |before| before.misses);
        if is_lost && !was_lost {
            // One that was over at once was an answer that was a little late.
            let was_short =
                before.is_some_and(|before| before.misses[0].is_some_and(|at| before.since.since(at) < SHORT));
            misses = [Some(now), if was_short { misses[1] } else { misses[0] }];
        }
        let since = before
            .filter(|before| before.sight == sight)
            .map_or(now, |before| before.since);
        let noted = Noted {
            sight,
            since,
            heard,
            misses,
        };
        sights.insert(observer, noted);
        if misses[1].is_some() {
            self.shaky.insert((observer, subject));
        }
        match is_lost {
            true => self.lost.insert((observer, subject)),
            false => self.lost.remove(&(observer, subject)),
        };
        let (all, lost) = self.by_observer.entry(observer).or_default();
        *all += u32::from(before.is_none());
        *lost += u32::from(sight != Sight::Heard);
        *lost -= u32::from(was_lost);
    }

    /// Notes that the link was reported to live, unless more is known.
    pub(super) fn assume(&mut self, observer: NodeIndex, subject: NodeIndex, now: Time) {
        let known = self
            .by_subject
            .get(&subject)
            .is_some_and(|sights| sights.contains_key(&observer));
        if !known {
            self.note(observer, subject, Sight::Heard, now, now);
        }
    }

    /// Forgets what an observer said of `subjects`, all that it was asked to probe.
    pub(super) fn forget(&mut self, observer: NodeIndex, subjects: &[NodeIndex]) {
        for subject in subjects {
            if let Some(sights) = self.by_subject.get_mut(subject) {
                sights.remove(&observer);
            }
            self.lost.remove(&(observer, *subject));
            self.shaky.remove(&(observer, *subject));
        }
        self.by_observer.remove(&observer);
    }

    /// Forgets what is no longer asked.
    pub(super) fn keep(&mut self, asked: impl Fn(NodeIndex, NodeIndex) -> bool) {
        self.by_observer.clear();
        self.lost.retain(|&(observer, subject)| asked(observer, subject));
        self.shaky.retain(|&(observer, subject)| asked(observer, subject));
        let by_observer = &mut self.by_observer;
        self.by_subject.retain(|&subject, sights| {
            sights.retain(|&observer, noted| {
                let kept = asked(observer, subject);
                if kept {
                    let (all, lost) = by_observer.entry(observer).or_default();
                    *all += 1;
                    *lost += u32::from(noted.sight != Sight::Heard);
                }
                kept
            });
            !sights.is_empty()
        });
    }

    /// True when the observer hears nobody.
    pub(super) fn hears_nobody(&self, observer: NodeIndex) -> bool {
        self.by_observer.get(&observer).is_some_and(|&(all, lost)| lost == all)
    }

    /// How many of these the observer misses, and heard not long before that time or later; none when a host refuses it, for it hears that.
    pub(super) fn lost_with(&self, observer: NodeIndex, of: impl Iterator<Item = NodeIndex>, at: Time) -> u32 {
        let mut lost = 0;
        for subject in of {
            match self.by_subject.get(&subject).and_then(|sights| sights.get(&observer)) {
                Some(noted) if noted.sight == Sight::Refused => return 0,
                Some(noted) => lost += u32::from(at.since(noted.heard) < CUT),
                None => {}
            }
        }
        lost
    }

    /// The share, 0 to 1, of sights that are no hearing: of what observers that `count` see of the subjects that are there, by themselves or
    /// because one of those hears them. A link that nothing has passed for [`CUT`] loses nothing by chance.
    pub(super) fn unrest(
        &self,
        is_there: impl Fn(NodeIndex) -> bool,
        counts: impl Fn(NodeIndex) -> bool,
        now: Time,
    ) -> f64 {
        if self.lost.is_empty() {
            return 0.0;
        }
        let observers = self.by_observer.keys().copied();
        let counted: BTreeSet<NodeIndex> = observers.filter(|&observer| counts(observer)).collect();
        let (mut lost, mut all) = (0, 0);
        for (&subject, sights) in &self.by_subject {
            let (heard, of_subject) = seen(sights, |observer| counted.contains(&observer), now);
            if heard > 0 || is_there(subject) {
                lost += of_subject - heard;
                all += of_subject;
            }
        }
        lost as f64 / all.max(1) as f64
    }

    /// Sights that are no hearing, as (observer, subject).
    pub(super) fn unheard(&self) -> impl Iterator<Item = (NodeIndex, NodeIndex)> {
        self.lost.iter().copied()
    }

    /// Forgets misses that are too old to count.
    pub(super) fn settle(&mut self, now: Time) {
        let by_subject = &self.by_subject;
        self.shaky.retain(|(observer, subject)| {
            let noted = by_subject.get(subject).and_then(|sights| sights.get(observer));
            noted.is_some_and(|noted| noted.is_lately(now))
        });
    }

    /// Sights that are missed again and again, as (observer, subject).
    pub(super) fn shaky(&self, now: Time) -> impl Iterator<Item = (NodeIndex, NodeIndex)> {
        self.shaky
            .iter()
            .copied()
            .filter(move |&(observer, subject)| self.is_shaky(observer, subject, now))
    }

    /// True when the observer misses the subject again and again.
    pub(super) fn is_shaky(&self, observer: NodeIndex, subject: NodeIndex, now: Time) -> bool {
        self.noted(observer, subject).is_some_and(|noted| noted.is_shaky(now))
    }

    /// What was noted of one subject by one observer.
    pub(super) fn noted(&self, observer: NodeIndex, subject: NodeIndex) -> Option<&Noted> {
        self.by_subject.get(&subject)?.get(&observer)
    }

    /// What one observer sees of one subject.
    pub(super) fn sight(&self, observer: NodeIndex, subject: NodeIndex) -> Option<Sight> {
        self.noted(observer, subject).map(|noted| noted.sight)
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
