//! Sights: what observers currently see of each subject, and the conclusions from all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{id::NodeIndex, time::Time};

/// An observer's view of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sight {
    /// The subject answers.
    Heard,
    /// Nothing arrives in the time that this link usually takes, plus a margin.
    Silent,
    /// The host of the subject answers that nothing listens on the port.
    Refused,
}

impl Sight {
    /// Returns the description for people.
    pub const fn meaning(self) -> &'static str {
        match self {
            Sight::Heard => "hears it",
            Sight::Silent => "does not hear it",
            Sight::Refused => "gets the answer, from the host of the node it probes, that no agent listens there",
        }
    }
}

/// A change of an observer's view; reported immediately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The current view.
    pub sight: Sight,
    /// Milliseconds since the subject's last answer; `None` if there was none.
    pub last_heard_age_millis: Option<u64>,
}

/// Number of missed subjects from which an observer that hears none is not counted.
pub(super) const SEVERAL: u32 = 3;

/// Maximum time between two misses, with an answer between them, for a link to be shaky, and maximum age of the newer
/// one.
const TWICE: Duration = Duration::from_secs(10);
const LATELY: Duration = Duration::from_secs(5);

/// Time without any packet after which a link is considered cut, or one of its ends gone.
const CUT: Duration = Duration::from_secs(20);

/// A miss shorter than this is a late answer.
const SHORT: Duration = Duration::from_millis(500);

/// Severity of degraded links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// Probes are missed repeatedly, and some get through.
    Shaky,
    /// No probe gets through.
    Down,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Noted {
    pub(super) sight: Sight,
    /// Time since which the view is unchanged.
    since: Time,
    /// Time at which the observer last heard the subject, by the coordinator's clock; the coordinator's start if never.
    pub(super) heard: Time,
    /// Start times of the newest two misses.
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

/// Views of all observers on all subjects.
#[derive(Debug, Default)]
pub(super) struct Sights {
    by_subject: BTreeMap<NodeIndex, BTreeMap<NodeIndex, Noted>>,
    /// By observer: number of subjects seen, and number of those not heard.
    by_observer: BTreeMap<NodeIndex, (u32, u32)>,
    /// Views without hearing, as (observer, subject).
    lost: BTreeSet<(NodeIndex, NodeIndex)>,
    /// Views that may be shaky, as (observer, subject).
    shaky: BTreeSet<(NodeIndex, NodeIndex)>,
}

/// Views of a subject's observers, limited to the observers that count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Observers that hear the subject.
    pub heard: Vec<NodeIndex>,
    /// Observers that do not hear it.
    pub silent: Vec<NodeIndex>,
    /// Observers to which its host answers that no agent listens.
    pub refused: Vec<NodeIndex>,
    /// Number of observers without a report.
    pub unknown: usize,
    /// Time at which an observer last heard the subject.
    pub last_heard: Time,
}

impl Tally {
    /// Returns the number of observers that do not hear the subject, for either reason.
    pub fn lost(&self) -> usize {
        self.silent.len() + self.refused.len()
    }

    /// Returns the number of observers with a report.
    pub fn telling(&self) -> usize {
        self.heard.len() + self.lost()
    }
}

/// Returns how many observers hear a subject, and how many report on it; cut links are left out.
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
            // A miss that was over at once was a late answer.
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

    /// Records a reported live link, unless a more precise view is known.
    pub(super) fn assume(&mut self, observer: NodeIndex, subject: NodeIndex, now: Time) {
        let known = self
            .by_subject
            .get(&subject)
            .is_some_and(|sights| sights.contains_key(&observer));
        if !known {
            self.note(observer, subject, Sight::Heard, now, now);
        }
    }

    /// Drops the views of an observer on `subjects`, which are all its planned subjects.
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

    /// Drops views on links that are no longer planned.
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

    /// Returns whether the observer hears none of its subjects.
    pub(super) fn hears_nobody(&self, observer: NodeIndex) -> bool {
        self.by_observer.get(&observer).is_some_and(|&(all, lost)| lost == all)
    }

    /// Returns how many of these subjects the observer misses that it heard shortly before `at` or later; 0 if any host
    /// refuses it, since then it does hear.
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

    /// Returns the share, 0 to 1, of views without hearing: among the views of observers that `count` on subjects that
    /// are present, either by themselves or because such an observer hears them. A link that has passed nothing for
    /// [`CUT`] does not lose packets by chance.
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

    /// Returns the views without hearing, as (observer, subject).
    pub(super) fn unheard(&self) -> impl Iterator<Item = (NodeIndex, NodeIndex)> {
        self.lost.iter().copied()
    }

    /// Drops misses that are too old to count.
    pub(super) fn settle(&mut self, now: Time) {
        let by_subject = &self.by_subject;
        self.shaky.retain(|(observer, subject)| {
            let noted = by_subject.get(subject).and_then(|sights| sights.get(observer));
            noted.is_some_and(|noted| noted.is_lately(now))
        });
    }

    /// Returns the views that miss the subject repeatedly, as (observer, subject).
    pub(super) fn shaky(&self, now: Time) -> impl Iterator<Item = (NodeIndex, NodeIndex)> {
        self.shaky
            .iter()
            .copied()
            .filter(move |&(observer, subject)| self.is_shaky(observer, subject, now))
    }

    /// Returns whether the observer misses the subject repeatedly.
    pub(super) fn is_shaky(&self, observer: NodeIndex, subject: NodeIndex, now: Time) -> bool {
        self.noted(observer, subject).is_some_and(|noted| noted.is_shaky(now))
    }

    /// Returns the record of one observer's view of one subject.
    pub(super) fn noted(&self, observer: NodeIndex, subject: NodeIndex) -> Option<&Noted> {
        self.by_subject.get(&subject)?.get(&observer)
    }

    /// Returns one observer's view of one subject.
    pub(super) fn sight(&self, observer: NodeIndex, subject: NodeIndex) -> Option<Sight> {
        self.noted(observer, subject).map(|noted| noted.sight)
    }

    /// Summarizes the views of `observers` on `subject`.
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
