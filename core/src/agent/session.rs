//! The session with the coordinator: connection attempts, handshake, and backoff.

use std::time::Duration;

use rand::RngExt;

use super::{
    ctx::{Ctx, Link},
    io::{Effect, Notice},
    timer::Timer,
};
use crate::{
    backoff::doubled,
    id::{Epoch, SessionNo},
    node::{ConnId, Hello},
    protocol::{FromAgent, RefusalReason, Refused, Welcome},
    telemetry::Channel,
    text::{SENTENCE, Span, shortened},
    time::Time,
};

/// Backoff after the first failed attempt; it doubles with each further one.
pub(super) const BACKOFF_MIN: Duration = Duration::from_millis(250);

/// Maximum backoff.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(15);

/// Backoff after sessions that ended over their content: the same content would be sent again.
const UNREADABLE_MIN: Duration = Duration::from_secs(1);
const UNREADABLE_MAX: Duration = Duration::from_secs(60);

/// Duration after which a session counts as successful, however it ends.
const LASTED: Duration = Duration::from_secs(60);

/// Maximum time for the coordinator to answer a hello.
const OPENING: Duration = Duration::from_secs(10);

/// Cycles without a seal after which the coordinator is considered dead although the transport is open.
const QUIET_CYCLES: u32 = 5;

/// The same in heartbeats, where the heartbeat interval exceeds the cycle.
const QUIET_HEARTBEATS: u32 = 5;

/// Minimum time after which a coordinator is considered dead.
const QUIET_MIN: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
enum Phase {
    /// No transport; the next attempt is scheduled.
    #[default]
    Waiting,
    /// The transport is being opened.
    Connecting(ConnId),
    /// The hello is sent and not yet answered.
    Opening(ConnId),
    /// The session is live.
    Live(Live),
    /// The agent has said goodbye.
    Stopped,
}

#[derive(Debug)]
struct Live {
    conn: ConnId,
    since: Time,
    session: SessionNo,
    quiet: Duration,
}

/// Reason for the end of a session or of an attempt.
#[derive(Debug)]
#[must_use]
pub(super) struct Loss {
    reason: String,
    /// Minimum wait requested by the coordinator.
    retry_after: Option<Duration>,
    cause: Cause,
    /// Transport to be closed by this side.
    close: Option<ConnId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// The transport failed, or the coordinator was silent.
    Transport,
    /// Content that one side rejected: backoff is long and grows until a session succeeds.
    Content,
    /// Content that this agent cannot read; the next hello reports it.
    Unreadable,
}

impl Loss {
    fn transport(reason: String, close: Option<ConnId>) -> Loss {
        Loss {
            reason,
            retry_after: None,
            cause: Cause::Transport,
            close,
        }
    }
}

/// State of the session and of attempts.
#[derive(Debug, Default)]
pub(super) struct Session {
    phase: Phase,
    /// Number of attempts by this process.
    attempts: u64,
    /// Failed attempts since the last live session.
    failures: u32,
    /// Consecutive sessions that ended over their content, and what this agent could not read in the last one.
    unreadable: u32,
    last_failure: String,
    address: usize,
    epoch: Epoch,
    /// Tokens of the latest timers.
    reconnect: u64,
    quiet: u64,
    /// Whether [`Effect::TakeOver`] was emitted.
    taken_over: bool,
}

impl Session {
    /// Schedules the first attempt immediately.
    pub(super) fn start(&mut self, ctx: &mut Ctx) {
        self.reconnect += 1;
        ctx.timers.set(ctx.now, Timer::Reconnect(self.reconnect));
    }

    /// Newest known epoch.
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Number of the live session.
    pub(super) fn number(&self) -> Option<SessionNo> {
        match &self.phase {
            Phase::Live(live) => Some(live.session),
            _ => None,
        }
    }

    /// Returns whether the agent has said goodbye.
    pub(super) fn has_stopped(&self) -> bool {
        matches!(self.phase, Phase::Stopped)
    }

    /// Current transport, live or not.
    pub(super) fn conn(&self) -> Option<ConnId> {
        match &self.phase {
            Phase::Connecting(conn) | Phase::Opening(conn) => Some(*conn),
            Phase::Live(live) => Some(live.conn),
            Phase::Waiting | Phase::Stopped => None,
        }
    }

    fn address(&self, ctx: &Ctx) -> String {
        let coordinators = &ctx.config.coordinators;
        coordinators
            .get(self.address % coordinators.len().max(1))
            .cloned()
            .unwrap_or_default()
    }

    /// Starts the next attempt.
    pub(super) fn connect(&mut self, ctx: &mut Ctx, token: u64) {
        if token != self.reconnect || !matches!(self.phase, Phase::Waiting) {
            return;
        }
        self.attempts += 1;
        let conn = ConnId(self.attempts);
        self.phase = Phase::Connecting(conn);
        ctx.timers.set(ctx.now + OPENING, Timer::Opening(conn));
        let address = self.address(ctx);
        ctx.effects.push_back(Effect::Connect { conn, address });
    }

    /// Handles an opened transport. Returns whether a hello is sent.
    #[must_use]
    pub(super) fn connected(&mut self, ctx: &mut Ctx, conn: ConnId) -> bool {
        if !matches!(self.phase, Phase::Connecting(current) if current == conn) {
            return false;
        }
        self.phase = Phase::Opening(conn);
        let hello = Hello {
            facts: ctx.config.facts.clone(),
            incarnation: ctx.config.incarnation,
            attempt: self.attempts - 1,
            channels: Channel::ALL.into_iter().map(Some).collect(),
            process_id: ctx.config.process_id,
            machine: ctx.config.machine,
            last_failure: self.last_failure.clone(),
        };
        ctx.send(conn, FromAgent::Hello(Box::new(hello)));
        true
    }

    /// Returns whether a hello awaits its answer.
    pub(super) fn is_opening(&self) -> bool {
        matches!(self.phase, Phase::Opening(_))
    }

    /// Makes the session live. Returns whether it is the first session of this process.
    pub(super) fn welcomed(&mut self, ctx: &mut Ctx, conn: ConnId, welcome: &Welcome) -> bool {
        self.failures = 0;
        self.epoch = self.epoch.max(welcome.epoch);
        self.phase = Phase::Live(Live {
            conn,
            since: ctx.now,
            session: welcome.session,
            quiet: QUIET_MIN.max(welcome.cycle_interval * QUIET_CYCLES),
        });
        ctx.link = Link {
            conn: Some(conn),
            interval: welcome.heartbeat_interval,
        };
        let address = self.address(ctx);
        ctx.tell(Notice::Joined {
            cluster: welcome.cluster,
            epoch: welcome.epoch,
            session: welcome.session,
            address,
        });
        let is_first = !std::mem::replace(&mut self.taken_over, true);
        if is_first {
            ctx.effects.push_back(Effect::TakeOver);
        }
        is_first
    }

    /// Restarts the timeout of the coordinator's silence.
    pub(super) fn hears(&mut self, ctx: &mut Ctx) {
        let Phase::Live(live) = &self.phase else { return };
        self.quiet += 1;
        // Seals are sent with heartbeats.
        let quiet = live.quiet.max(ctx.link.interval * QUIET_HEARTBEATS);
        ctx.timers.set(ctx.now + quiet, Timer::Quiet(self.quiet));
    }

    /// Handles the end of a transport.
    pub(super) fn closed(&self, conn: ConnId, reason: String) -> Option<Loss> {
        (self.conn() == Some(conn)).then(|| Loss::transport(reason, None))
    }

    /// Handles a message that cannot be read; a new session would receive it again.
    pub(super) fn unreadable(&self, conn: ConnId, detail: &str) -> Option<Loss> {
        if self.conn() != Some(conn) {
            return None;
        }
        let reason = format!("the coordinator sent a message that cannot be read here: {detail}");
        Some(Loss {
            reason: shortened(&reason, SENTENCE),
            retry_after: None,
            cause: Cause::Unreadable,
            close: Some(conn),
        })
    }

    /// Handles the timeout of a hello.
    pub(super) fn give_up_opening(&self, conn: ConnId) -> Option<Loss> {
        let waits = matches!(self.phase, Phase::Connecting(current) | Phase::Opening(current) if current == conn);
        waits.then(|| Loss::transport(format!("no answer within {}", Span(OPENING)), Some(conn)))
    }

    /// Handles the timeout of the coordinator's silence.
    pub(super) fn give_up_quiet(&self, token: u64) -> Option<Loss> {
        match &self.phase {
            Phase::Live(live) if token == self.quiet => {
                let reason = format!("no snapshot was sealed for {}", Span(live.quiet));
                Some(Loss::transport(reason, Some(live.conn)))
            }
            _ => None,
        }
    }

    /// Handles a refusal.
    pub(super) fn refused(&self, ctx: &mut Ctx, conn: ConnId, refused: Refused) -> Loss {
        let over_content = matches!(refused.reason, RefusalReason::Invalid | RefusalReason::Unreadable);
        let loss = Loss {
            reason: format!("refused: {}", refused.detail),
            retry_after: refused.retry_after,
            cause: if over_content { Cause::Content } else { Cause::Transport },
            close: Some(conn),
        };
        ctx.tell(Notice::Refused(refused));
        loss
    }

    /// Ends the session or the attempt. Returns whether a session was live.
    #[must_use]
    pub(super) fn end(&mut self, ctx: &mut Ctx, loss: &Loss) -> bool {
        if let Some(conn) = loss.close {
            ctx.effects.push_back(Effect::Close { conn });
        }
        ctx.link.conn = None;
        let Phase::Live(live) = std::mem::take(&mut self.phase) else {
            return false;
        };
        if ctx.now.since(live.since) >= LASTED {
            (self.unreadable, self.last_failure) = (0, String::new());
        }
        true
    }

    /// Schedules the next attempt with jittered backoff.
    pub(super) fn try_again(&mut self, ctx: &mut Ctx, loss: Loss) {
        let jittered = match loss.cause {
            Cause::Transport => {
                let limit = doubled(BACKOFF_MIN, self.failures, BACKOFF_MAX);
                self.failures = self.failures.saturating_add(1);
                // Full jitter, so that agents that lost the same coordinator do not reconnect simultaneously; the delay
                // requested by the coordinator is a lower bound.
                limit.mul_f64(ctx.rng.random_range(0.0..1.0))
            }
            Cause::Content | Cause::Unreadable => {
                let limit = doubled(UNREADABLE_MIN, self.unreadable, UNREADABLE_MAX);
                self.unreadable = self.unreadable.saturating_add(1);
                limit.mul_f64(ctx.rng.random_range(0.5..1.0))
            }
        };
        let Loss {
            reason, retry_after, ..
        } = loss;
        if loss.cause == Cause::Unreadable {
            self.last_failure.clone_from(&reason);
        }
        let (address, retry_in) = (self.address(ctx), retry_after.unwrap_or_default() + jittered);
        self.address = self.address.wrapping_add(1);
        self.reconnect += 1;
        ctx.timers.set(ctx.now + retry_in, Timer::Reconnect(self.reconnect));
        ctx.tell(Notice::Lost {
            address,
            reason,
            retry_in,
        });
    }

    /// Says goodbye.
    pub(super) fn stop(&mut self, ctx: &mut Ctx, reason: String) {
        if let Some(conn) = ctx.link.conn.take() {
            ctx.send(conn, FromAgent::Goodbye { reason });
            ctx.effects.push_back(Effect::Close { conn });
        } else if let Some(conn) = self.conn() {
            ctx.effects.push_back(Effect::Close { conn });
        }
        self.phase = Phase::Stopped;
        ctx.effects.push_back(Effect::Stopped);
    }
}

/// Returns whether a refusal ends the node's membership.
pub(super) fn expels(reason: RefusalReason) -> bool {
    matches!(
        reason,
        RefusalReason::Stale | RefusalReason::Revoked | RefusalReason::Replaced
    )
}
