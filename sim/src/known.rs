//! What the coordinator can know, by what has reached it: the reference that its verdicts are checked against.
//!
//! Everything here is typed data: the events of the coordinator's own transitions, and what the simulator delivered. No check reads an
//! explanation, so that rewording one switches nothing off.

use std::{collections::BTreeMap, time::Duration};

use wyneos_core::{
    coordinator::Rules,
    mesh::FindingKind,
    node::{Cause, Liveness},
    time::Time,
};

use crate::{names::name, world::World};

/// A reckoning of the whole cluster may be this old where it is used for other things than verdicts.
pub(crate) const RECKONED: Duration = Duration::from_millis(200);

/// What an observer has just heard may be on its way to the coordinator for so long.
const UNDER_WAY: Duration = Duration::from_millis(50);

/// How long observers, sessions and links must have been undisturbed for an answer to be known to the coordinator.
const SETTLED: Duration = Duration::from_secs(5);

/// A coordinator that stood still for this long has noticed it.
const NOTICEABLE: Duration = Duration::from_millis(1_600);

/// A process that stood still within this time may have said so, and is not counted as an observer then.
const CALM: Duration = Duration::from_secs(60);

/// The state of a node by the coordinator's own transitions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Believed {
    pub(crate) liveness: Liveness,
    cause: Cause,
    since: Time,
}

/// An observer's answers by a subject.
#[derive(Clone, Copy, Debug)]
struct Heard {
    observer: usize,
    /// Since when it was answered again and again.
    since: Time,
    /// The one before the last.
    before: Time,
    last: Time,
}

impl Heard {
    /// The newest answer that the coordinator may have been told of: words take their time.
    fn told_of(&self, now: Time) -> Time {
        if now.since(self.last) < UNDER_WAY {
            self.before
        } else {
            self.last
        }
    }
}

/// What reached whom.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// By node; nodes without an entry were not known before.
    believed: BTreeMap<usize, Believed>,
    /// When the coordinator's process last started, or went on after it had stood still; and the same where it stood still for so long that it
    /// is sure to have noticed.
    resumed: Time,
    noticed: Time,
    /// When it got something by each node's session that is a sign of life.
    received: BTreeMap<usize, Time>,
    /// When it got anything by each node, a hello included.
    reached: BTreeMap<usize, Time>,
    /// Since when each node has its session.
    welcomed: BTreeMap<usize, Time>,
    /// Answers, by subject.
    answers: BTreeMap<usize, Vec<Heard>>,
    /// When each observer last got any answer.
    answered: BTreeMap<usize, Time>,
    /// Open findings on observers that are not believed.
    untrusted: BTreeMap<usize, usize>,
}

impl Known {
    /// A new process of the coordinator knows what is durable: which nodes there are, and which departed.
    pub(crate) fn restart(&mut self, now: Time, nodes: impl Iterator<Item = (usize, Option<(Liveness, Cause)>)>) {
        let unseen = (Liveness::Unseen, Cause::UnseenSinceRestart);
        let believed = nodes.map(|(node, departed)| {
            let (liveness, cause) = departed.unwrap_or(unseen);
            let since = now;
            (node, Believed { liveness, cause, since })
        });
        *self = Known {
            believed: believed.collect(),
            resumed: now,
            noticed: now,
            answers: std::mem::take(&mut self.answers),
            answered: std::mem::take(&mut self.answered),
            ..Known::default()
        };
    }

    /// The process goes on after it stood still since `from`. One that has a timer every second notices when it is half a second late.
    pub(crate) fn resume(&mut self, from: Time, now: Time) {
        self.resumed = now;
        if now.since(from) >= NOTICEABLE {
            self.noticed = now;
        }
    }

    /// Something came from the node's agent; a `sign` of life is what belongs to the session that counts.
    pub(crate) fn receive(&mut self, node: usize, sign: bool, now: Time) {
        self.reached.insert(node, now);
        if sign {
            self.received.insert(node, now);
        }
    }

    pub(crate) fn welcome(&mut self, node: usize, now: Time) {
        self.welcomed.insert(node, now);
        self.receive(node, true, now);
    }

    pub(crate) fn forget(&mut self, node: usize) {
        self.believed.remove(&node);
    }

    pub(crate) fn answer(&mut self, subject: usize, observer: usize, now: Time) {
        self.answered.insert(observer, now);
        let heard = self.answers.entry(subject).or_default();
        match heard.iter_mut().find(|one| one.observer == observer) {
            Some(one) => {
                if now.since(one.last) >= SETTLED {
                    one.since = now;
                }
                (one.before, one.last) = (one.last, now);
            }
            None => heard.push(Heard {
                observer,
                since: now,
                before: now,
                last: now,
            }),
        }
    }

    pub(crate) fn believe(&mut self, node: usize, liveness: Liveness, cause: Cause, now: Time) {
        let believed = Believed {
            liveness,
            cause,
            since: now,
        };
        self.believed.insert(node, believed);
    }

    /// The coordinator's belief about a node.
    pub(crate) fn of(&self, node: usize) -> Option<Believed> {
        self.believed.get(&node).copied()
    }

    /// How long the coordinator has got no sign of life by the node's session.
    fn silence(&self, node: usize, now: Time) -> Duration {
        let received = self.received.get(&node).copied().unwrap_or_default();
        now.since(received.max(self.noticed))
    }

    /// How long the coordinator has got nothing at all by the node.
    fn stillness(&self, node: usize, now: Time) -> Duration {
        let reached = self.reached.get(&node).copied().unwrap_or_default();
        now.since(reached.max(self.resumed))
    }
}

impl World<'_> {
    /// The shortest time by which the coordinator's clock has run for `span`, whatever its rate.
    fn at_least(&self, span: Duration) -> Duration {
        let span = span.mul_f64(1.0 / (1.0 + self.scenario.cluster.clock_drift));
        span.saturating_sub(Duration::from_millis(1))
    }

    /// True when more than half of all members were silent for longer than a heartbeat may be late, and have been for `margin` beyond that:
    /// nobody can tell then whether they died or the coordinator is cut off.
    pub(crate) fn is_ambiguous(&self, margin: Duration) -> bool {
        let cluster = &self.scenario.cluster;
        let limit = (self.slowest_heartbeat() * 3 / 2).mul_f64(1.0 + 2.0 * cluster.clock_drift) + margin;
        let (mut members, mut silent) = (0, 0);
        for (&node, believed) in &self.known.believed {
            let settled = self.now.since(believed.since) >= margin;
            let is_member = match believed.liveness {
                Liveness::Online | Liveness::Suspect | Liveness::Unreachable => true,
                Liveness::Offline | Liveness::Left => !settled,
                Liveness::Unseen => false,
            };
            if self.pending_nodes.contains(&node) || !is_member {
                continue;
            }
            members += 1;
            // One that its peers hear is not silent.
            let in_doubt = believed.liveness == Liveness::Suspect && settled;
            silent += usize::from(in_doubt && self.known.stillness(node, self.now) >= limit);
        }
        2 * silent > members + usize::from(members <= 2)
    }

    /// The longest interval of heartbeats that any node may have.
    fn slowest_heartbeat(&self) -> Duration {
        let set = self.scenario.commands.iter().filter_map(|order| order.interval);
        set.fold(self.scenario.cluster.heartbeat, Duration::max)
    }

    /// True when half of all nodes, and at least three, were declared offline for their silence within the last five minutes.
    fn is_breaker_open(&self) -> bool {
        let rules = Rules::default();
        let (mut members, mut fell) = (0, 0);
        for (node, believed) in &self.known.believed {
            if self.pending_nodes.contains(node) {
                continue;
            }
            match believed.liveness {
                Liveness::Online | Liveness::Suspect | Liveness::Unreachable => members += 1,
                Liveness::Offline if believed.cause == Cause::HostSilent => {
                    let lately = self.now.since(believed.since) < self.at_least(rules.breaker_window);
                    fell += usize::from(lately);
                }
                _ => {}
            }
        }
        fell >= rules.breaker_min && 2 * fell >= members + fell
    }

    /// True when the word of an observer counts, and is sure to have reached the coordinator.
    fn is_sure_witness(&self, observer: usize, subject: usize) -> bool {
        let hub = self.hub();
        let machine = &self.machines[observer];
        let calm = machine.starving.is_none()
            && !machine.is_frozen()
            && machine.thawed.is_none_or(|at| self.now.since(at) >= CALM);
        let online = self
            .known
            .of(observer)
            .is_some_and(|believed| believed.liveness == Liveness::Online && self.now.since(believed.since) >= SETTLED);
        let welcomed = self.known.welcomed.get(&observer);
        let joined = !self.net.is_cut(observer, hub) && !self.net.is_cut(hub, observer);
        observer != subject
            && calm
            && online
            && joined
            && machine.powered
            && machine.runs()
            && machine.targets.contains(&subject)
            && machine.lies.is_none()
            && welcomed.is_some_and(|at| self.now.since(*at) >= SETTLED)
            && !self.known.untrusted.contains_key(&observer)
            && self.known.silence(observer, self.now) < self.slowest_heartbeat() * 3 / 2
            && !self.is_stuck(observer)
    }

    /// A node is declared offline by silence only that was long enough, that nobody who counts contradicts, and while silence says something.
    pub(crate) fn check_silence(&mut self, node: usize, cause: Cause) {
        let rules = Rules::default();
        let now = self.now;
        let needed = match cause {
            Cause::AgentGone => rules.gone_window,
            Cause::HostSilent => rules.window,
            _ => self.scenario.cluster.suspect_grace,
        };
        let silence = self.known.silence(node, now);
        if silence < self.at_least(needed) {
            self.fail(format!(
                "{} is declared offline ({cause:?}) {silence:?} after its session said something, which is less than {needed:?}",
                name(node)
            ));
        }
        if cause != Cause::AgentGone {
            if self.is_ambiguous(Duration::ZERO) {
                self.fail(format!("{} is declared offline though most are silent", name(node)));
            }
            if self.is_breaker_open() {
                self.fail(format!("{} is declared offline though the breaker is open", name(node)));
            }
            if self.host.is_behind(now) {
                self.fail(format!(
                    "{} is declared offline while the store stands still",
                    name(node)
                ));
            }
        }
        self.check_answers(node, needed);
    }

    /// No observer that counts got an answer by the node within the window.
    fn check_answers(&mut self, node: usize, window: Duration) {
        let now = self.now;
        let settled = now.since(self.known.resumed) >= SETTLED;
        if self.net.is_lossy() || !settled {
            return;
        }
        let window = self.at_least(window).min(Rules::default().window);
        let answers = self.known.answers.get(&node).into_iter().flatten();
        let lately =
            answers.filter(|heard| now.since(heard.told_of(now)) < window && now.since(heard.since) >= SETTLED);
        let hears_others = |observer| {
            let last = self.known.answered.get(observer);
            last.is_some_and(|at| now.since(*at) < TOGETHER)
        };
        let witness = lately
            .filter(|heard| hears_others(&heard.observer) && self.is_sure_witness(heard.observer, node))
            .map(|heard| (heard.observer, now.since(heard.told_of(now))))
            .next();
        if let Some((observer, before)) = witness {
            self.fail(format!(
                "{} is declared offline, and answered {} {before:?} before",
                name(node),
                name(observer)
            ));
        }
    }

    /// What the coordinator's findings say of whom it believes.
    pub(crate) fn believe_finding(&mut self, kind: FindingKind, near: impl Iterator<Item = usize>, open: bool) {
        if kind != FindingKind::Untrusted {
            return;
        }
        for node in near {
            let count = self.known.untrusted.entry(node).or_default();
            *count = if open { *count + 1 } else { count.saturating_sub(1) };
        }
        self.known.untrusted.retain(|_, count| *count > 0);
    }
}

/// An observer that got no answer by anybody for this long is more likely to be cut off itself.
const TOGETHER: Duration = Duration::from_millis(1_500);
