//! Verdict rules: every threshold that decides whether a node is `offline`, in one place, so that a test can break each
//! one deliberately and confirm that the simulator's checks detect it.

use std::time::Duration;

use crate::mesh::Tally;

/// Thresholds of liveness verdicts. The defaults are used in production; no file or flag changes them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// Silence towards all observers after which a node is `offline`. A longer window delays verdicts; with a shorter
    /// one, a process that stalls for a second and then answers slowly would be declared `offline`.
    pub window: Duration,
    /// The same for a node whose host reports that no agent is listening; only a restart has to be allowed for.
    pub gone_window: Duration,
    /// The same for an erratic node, that some observer heard within [`erratic_for`](Self::erratic_for) while the node
    /// was in doubt: most of its packets may be lost.
    pub erratic_window: Duration,
    /// Time for which a node counts as erratic after it was heard while in doubt.
    pub erratic_for: Duration,
    /// Minimum window of an erratic node, as a multiple of its longest silence within [`lulls_for`](Self::lulls_for)
    /// that ended with a sign of life; the window is at most [`longest`](Self::longest).
    pub lulls: u32,
    /// Period over which [`lulls`](Self::lulls) are considered.
    pub lulls_for: Duration,
    /// The window for a node whose agent reports that it stalls repeatedly.
    pub strained_window: Duration,
    /// Time for which a question forwarded by a peer shows that its asker is alive. Agents ask once a second.
    pub asked_for: Duration,
    /// Time that a node may take to answer a ping of the coordinator. Together with the 0.3 s after which peers miss a
    /// node, a process may stall for one second without being suspected.
    pub ping_patience: Duration,
    /// Time without an answer after which a node's own observations are disregarded until it answers, and verdicts
    /// proceed without them.
    pub word_patience: Duration,
    /// Divisor of the window that determines when observers are asked for their newest observations: with 4, when a
    /// quarter of the window is left. The verdict rests on what they observed since then.
    pub confirm_part: u32,
    /// Whether a verdict waits until a quorum of the observers that miss the node has confirmed it.
    pub confirm: bool,
    /// Grace-period multiplier while observers exist and too few of them report.
    pub wait_for_others: u32,
    /// Percentage of a node's observers that must be exceeded by those missing it for a verdict without the grace
    /// period.
    pub quorum_percent: usize,
    /// Percentage of all members that must be exceeded by silent ones for the situation to be `ambiguous`.
    pub ambiguous_percent: usize,
    /// Largest cluster, in members, in which the coordinator counts as a present member: half of such a cluster is a
    /// single node, which may well have failed.
    pub smallest: usize,
    /// Maximum age of a cluster-wide evaluation that a verdict may reuse; zero evaluates anew each time.
    pub reckoning_age: Duration,
    /// Fraction of missed probes of live nodes, 0 to 1, at which the window is stretched to its maximum.
    pub unrest: f64,
    /// Maximum growth of the window, as a multiple of its length. A network that loses a third of its packets delays a
    /// live node's answers by three seconds, because transports double their retransmission timeout each time.
    pub stretch: f64,
    /// Maximum probability, 0 to 1, that no observer hears a live node for a whole window by chance alone.
    pub chance: f64,
    /// Number of probes within the default window, at ten a second.
    pub questions: f64,
    /// Maximum factor of the window when nearly all packets are lost.
    pub longest: f64,
    /// Maximum factor of the grace period when packets are lost.
    pub longest_grace: f64,
    /// Minimum grace period, as a multiple of the node's longest silence within [`gaps_for`](Self::gaps_for); limited
    /// by [`longest_gap`](Self::longest_gap).
    pub gaps: u32,
    /// Period over which [`gaps`](Self::gaps) and [`usual_gaps`](Self::usual_gaps) are considered.
    pub gaps_for: Duration,
    /// Maximum grace period that results from [`gaps`](Self::gaps); a longer regular grace period is not shortened.
    pub longest_gap: Duration,
    /// Silence of a node that its peers hear is usual up to this multiple of its longest one within
    /// [`gaps_for`](Self::gaps_for); limited by [`usual_gap`](Self::usual_gap).
    pub usual_gaps: u32,
    /// Maximum silence that is usual.
    pub usual_gap: Duration,
    /// Silence after which the liveness of a quarantined node changes; a node that flaps faster keeps its state.
    pub damped: Duration,
    /// Time for which a node declared `offline` for silence counts towards the circuit breaker.
    pub breaker_window: Duration,
    /// Number of verdicts that the circuit breaker never holds back.
    pub breaker_min: usize,
    /// Percentage of all nodes, recently declared `offline`, from which the circuit breaker holds further verdicts
    /// back.
    pub breaker_percent: usize,
    /// Time for which a node in doubt must be heard without interruption to become `online` again; four times as long
    /// for each recent return.
    pub steady: Duration,
    /// Whether only admitted nodes are members.
    pub admitted_only: bool,
    /// Whether a verdict waits for a live observer that heard the node when it could last report.
    pub missing_word: bool,
    /// Extra time for which the report of an agent that lost the coordinator is awaited, beyond the time that it needs
    /// to notice the loss: it then asks via its peers, once a second.
    pub word_margin: Duration,
    /// Whether observers that hear nobody are excluded: they are more likely to be isolated themselves.
    pub skip_deaf: bool,
    /// Whether the grace period runs from the last sign of life instead of the last change of liveness.
    pub grace_from_sign: bool,
    /// Whether silence is ignored while the coordinator's own store is stalled.
    pub hold_when_stalled: bool,
    /// Whether silence is ignored while agents may still reconnect to a coordinator that was itself isolated.
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
    /// Factor of the window for the given fractions of missed probes of live nodes, current and average. The larger of
    /// two bounds applies: the delay that transports add, and the number of probes needed so that all of them are
    /// missed by chance with at most probability [`chance`](Self::chance).
    pub(crate) fn stretched(&self, now: f64, average: f64) -> f64 {
        let kept_back = 1.0 + self.stretch * (now / self.unrest).min(1.0);
        let all_missed = match now.max(average) {
            ..=0.0 => 1.0,
            unrest => self.chance.ln() / unrest.min(0.99).ln() / self.questions,
        };
        kept_back.max(all_missed.min(self.longest))
    }

    /// Number of observers that must agree.
    pub(crate) fn quorum(&self, tally: &Tally) -> usize {
        (tally.telling() + tally.unknown) * self.quorum_percent / 100 + 1
    }

    /// Whether this many silent members, of all voices, make the situation ambiguous.
    pub(crate) fn is_ambiguous(&self, silent: usize, voices: usize) -> bool {
        100 * silent > self.ambiguous_percent * voices
    }

    /// Whether this many verdicts for silence, of all nodes, trip the circuit breaker.
    pub(crate) fn is_broken(&self, fell: usize, nodes: usize) -> bool {
        fell >= self.breaker_min && 100 * fell >= self.breaker_percent * nodes
    }
}
