//! Verdict rules: every threshold that decides whether a node is `offline`, in one place, so that a test can break each of them on
//! purpose and see that the simulator's checks notice.

use std::time::Duration;

use crate::mesh::Tally;

/// Thresholds of the verdicts on nodes. The defaults are what ships; no file and no flag sets them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// Silence towards everybody after which a node is `offline`. Longer: later verdicts; shorter: a process that stands still for a
    /// second, and whose answers then take their time, would be given up.
    pub window: Duration,
    /// The same when the node's host says that no agent listens: only a restart has to be waited for.
    pub gone_window: Duration,
    /// The same for a node that some observer heard while it was in doubt, within [`erratic_for`](Self::erratic_for): most of its
    /// packets may be lost.
    pub erratic_window: Duration,
    /// How long a node counts as erratic after it was heard while in doubt.
    pub erratic_for: Duration,
    /// The same for such a node: at least so many times the longest that nobody heard it within [`lulls_for`](Self::lulls_for), and then
    /// somebody did; the window is at most [`longest`](Self::longest).
    pub lulls: u32,
    /// See [`lulls`](Self::lulls).
    pub lulls_for: Duration,
    /// The same for a node whose agent reports that it stands still again and again.
    pub strained_window: Duration,
    /// How long a question that a peer passed on shows that its asker is there. Agents ask once a second.
    pub asked_for: Duration,
    /// How long a node may take to answer the coordinator's own question. With the 0.3 s after which peers miss it, a process may stand still for a second
    /// and is not suspected.
    pub ping_patience: Duration,
    /// After which its word on others does not count until it has answered, and a verdict goes on without it.
    pub word_patience: Duration,
    /// Observers are asked for their newest word when so large a part of the window is left: a quarter by 4. The verdict rests on what they saw
    /// since then.
    pub confirm_part: u32,
    /// A verdict waits until a quorum of those who miss the node has confirmed it.
    pub confirm: bool,
    /// Grace-period multiplier while observers exist and too few of them report.
    pub wait_for_others: u32,
    /// Percentage of a node's observers of which more must miss it for a verdict without the grace period.
    pub quorum_percent: usize,
    /// Percentage of all members of which more must be silent for the situation to be `ambiguous`.
    pub ambiguous_percent: usize,
    /// Largest cluster, in members, in which the coordinator counts as one that is there: half of it is one node, which may well
    /// have died.
    pub smallest: usize,
    /// Age up to which a verdict uses the last reckoning of the whole cluster; zero reckons anew.
    pub reckoning_age: Duration,
    /// Share of missed probes of living nodes, 0 to 1, at which the window is the longest.
    pub unrest: f64,
    /// How many times its own length the window grows at most. A network that loses a third of its packets keeps a living node's
    /// answers back for three seconds, as transports wait twice as long each time that they send again.
    pub stretch: f64,
    /// The window is so long that chance alone has at most this part in nobody's hearing a node that is there, 0 to 1.
    pub chance: f64,
    /// Questions that fall into the usual window: ten a second.
    pub questions: f64,
    /// How many times its own length the window grows at most where nearly everything is lost.
    pub longest: f64,
    /// The same for the grace period.
    pub longest_grace: f64,
    /// The grace period is at least so many times the longest silence of the node within [`gaps_for`](Self::gaps_for)...
    pub gaps: u32,
    /// See [`gaps`](Self::gaps).
    pub gaps_for: Duration,
    /// ... and at most this, unless it is longer by itself.
    pub longest_gap: Duration,
    /// Silence of a node that its peers hear is usual up to so many times its longest one within [`gaps_for`](Self::gaps_for)...
    pub usual_gaps: u32,
    /// ... and at most so long.
    pub usual_gap: Duration,
    /// Silence after which a node in quarantine is concluded to be anything else: one that comes and goes faster stays where it is.
    pub damped: Duration,
    /// How long a node that was declared `offline` for its silence counts towards the breaker.
    pub breaker_window: Duration,
    /// Verdicts that the breaker never holds back.
    pub breaker_min: usize,
    /// Percentage of all nodes, declared `offline` lately, from which on the breaker holds further verdicts back.
    pub breaker_percent: usize,
    /// How long a node in doubt must be heard without a break to be `online` again; four times as long for each recent return.
    pub steady: Duration,
    /// Only admitted nodes are members.
    pub admitted_only: bool,
    /// A verdict waits for an observer that heard the node when it could last tell, and that lives.
    pub missing_word: bool,
    /// For so much longer than an agent that lost the coordinator needs to notice, its word is waited for: it asks by way of peers, once a second.
    pub word_margin: Duration,
    /// Observers that hear nobody are not counted: they are more likely to be cut off themselves.
    pub skip_deaf: bool,
    /// The grace period runs from the last sign of life, not from the last change of liveness.
    pub grace_from_sign: bool,
    /// No silence counts while the coordinator's own store stands still.
    pub hold_when_stalled: bool,
    /// Nor while agents may come back to a coordinator that was cut off itself.
    pub wait_for_returns: bool,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            window: Duration::from_millis(1_800),
            gone_window: Duration::from_millis(1_200),
            erratic_window: Duration::from_secs(7),
            erratic_for: Duration::from_secs(30),
            lulls: 4,
            lulls_for: Duration::from_secs(60),
            strained_window: Duration::from_secs(5),
            asked_for: Duration::from_millis(2_500),
            ping_patience: Duration::from_millis(800),
            word_patience: Duration::from_millis(500),
            confirm_part: 4,
            confirm: true,
            wait_for_others: 3,
            quorum_percent: 50,
            ambiguous_percent: 50,
            smallest: 2,
            reckoning_age: Duration::ZERO,
            unrest: 0.25,
            stretch: 2.0,
            chance: 1e-9,
            questions: 18.0,
            longest: 20.0,
            longest_grace: 10.0,
            gaps: 5,
            gaps_for: Duration::from_secs(300),
            longest_gap: Duration::from_secs(120),
            usual_gaps: 3,
            usual_gap: Duration::from_secs(15),
            damped: Duration::from_secs(10),
            breaker_window: Duration::from_secs(300),
            breaker_min: 3,
            breaker_percent: 50,
            steady: Duration::from_secs(4),
            admitted_only: true,
            missing_word: true,
            word_margin: Duration::from_secs(4),
            skip_deaf: true,
            grace_from_sign: true,
            hold_when_stalled: true,
            wait_for_returns: true,
        }
    }
}

impl Rules {
    /// How many times as long the window is where these shares of the probes of living nodes are missed now and on an average. Two arguments, of which the longer one counts:
    /// transports keep answers back, and of questions that are missed by chance so many must fall into the window that not all of them are.
    pub(crate) fn stretched(&self, now: f64, average: f64) -> f64 {
        let kept_back = 1.0 + self.stretch * (now / self.unrest).min(1.0);
        let all_missed = match now.max(average) {
            ..=0.0 => 1.0,
            unrest => self.chance.ln() / unrest.min(0.99).ln() / self.questions,
        };
        kept_back.max(all_missed.min(self.longest))
    }

    /// Observers that must agree.
    pub(crate) fn quorum(&self, tally: &Tally) -> usize {
        (tally.telling() + tally.unknown) * self.quorum_percent / 100 + 1
    }

    /// Whether so many silent members of all voices leave open what died.
    pub(crate) fn is_ambiguous(&self, silent: usize, voices: usize) -> bool {
        100 * silent > self.ambiguous_percent * voices
    }

    /// Whether so many verdicts on silence, of all nodes, are enough for a while.
    pub(crate) fn is_broken(&self, fell: usize, nodes: usize) -> bool {
        fell >= self.breaker_min && 100 * fell >= self.breaker_percent * nodes
    }
}
