//! The session with the coordinator: attempts at one, its beginning, and the waits after its end.

use std::time::Duration;

use rand::RngExt;

use super::{
    ctx::{Ctx, Link},
    io::{Effect, Notice},
    timer::Timer,
};
use crate::{
    node::{ConnId, Hello},
    protocol::{RefusalReason, Refused, Report, Welcome},
    telemetry::Channel,
    text::{SENTENCE, Span, shortened},
    time::Time,
};

/// The first wait after a failed attempt at a session; it doubles with every further one.
pub(super) const BACKOFF_MIN: Duration = Duration::from_millis(250);

/// The longest wait between two attempts.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(15);

/// The waits after sessions that ended over their content: the same content would come again.
const UNREADABLE_MIN: Duration = Duration::from_secs(1);
const UNREADABLE_MAX: Duration = Duration::from_secs(60);

/// A session that stood for so long was no failure, however it ended.
const LASTED: Duration = Duration::from_secs(60);

/// How long the coordinator may take to answer a hello.
const OPENING: Duration = Duration::from_secs(10);

/// Cycles without a seal after which the coordinator is taken for dead though its transport stands.
const QUIET_CYCLES: u32 = 5;

/// Heartbeats without a seal after which it is, when those are farther apart than cycles.
const QUIET_HEARTBEATS: u32 = 5;

/// The shortest time after which a coordinator is taken for dead.
const QUIET_MIN: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
enum Phase {
    /// Until the timer for the next attempt.
    #[default]
    Waiting,
    /// The transport is being made.
    Connecting(ConnId),
    /// The hello is sent.
    Opening(ConnId),
    /// The session stands.
    Live(Live),
    /// Goodbye was said.
    Stopped,
}

#[derive(Debug)]
struct Live {
    conn: ConnId,
    since: Time,
    session: u64,
    quiet: Duration,
}

/// Why a session, or an attempt at one, is over.
#[derive(Debug)]
#[must_use]
pub(super) struct Loss {
    reason: String,
    /// The shortest wait that the coordinator asks for.
    retry_after: Option<Duration>,
    cause: Cause,
    /// What this side closes.
    close: Option<ConnId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// The transport, or silence.
    Transport,
    /// The content, by one side or the other: the waits are long, and grow until a session lasts.
    Content,
    /// What the coordinator sent, which the next hello tells.
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

/// The session, or the attempts at one.
#[derive(Debug, Default)]
pub(super) struct Session {
    phase: Phase,
    /// Attempts at a session, this process's whole life.
    attempts: u64,
    /// Attempts since the last session that stood.
    failures: u32,
    /// Sessions in a row that ended over their content, and what this agent could not read in the last one.
    unreadable: u32,
    last_failure: String,
    address: usize,
    epoch: u64,
    /// Tokens of the newest timers.
    reconnect: u64,
    quiet: u64,
    /// [`Effect::TakeOver`] was said.
    taken_over: bool,
}

impl Session {
    /// The first attempt is made at once.
    pub(super) fn start(&mut self, ctx: &mut Ctx) {
        self.reconnect += 1;
        ctx.timers.set(ctx.now, Timer::Reconnect(self.reconnect));
    }

    /// The newest epoch that is known.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The number of the session that stands.
    pub(super) fn number(&self) -> Option<u64> {
        match &self.phase {
            Phase::Live(live) => Some(live.session),
            _ => None,
        }
    }

    /// True once goodbye was said.
    pub(super) fn has_stopped(&self) -> bool {
        matches!(self.phase, Phase::Stopped)
    }

    /// The transport that the agent counts on.
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

    /// Makes the next attempt.
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

    /// The transport stands. True when a hello is sent.
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
            instance: ctx.config.instance,
            machine: ctx.config.machine,
            last_failure: self.last_failure.clone(),
        };
        ctx.send(conn, Report::Hello(Box::new(hello)));
        true
    }

    /// True while a hello waits for its answer.
    pub(super) fn is_opening(&self) -> bool {
        matches!(self.phase, Phase::Opening(_))
    }

    /// The hello is answered: the session stands. True for the first of this process.
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

    /// The coordinator gave a sign of life; the next one is due in time.
    pub(super) fn hears(&mut self, ctx: &mut Ctx) {
        let Phase::Live(live) = &self.phase else { return };
        self.quiet += 1;
        // Seals come with heartbeats.
        let quiet = live.quiet.max(ctx.link.interval * QUIET_HEARTBEATS);
        ctx.timers.set(ctx.now + quiet, Timer::Quiet(self.quiet));
    }

    /// The transport ended.
    pub(super) fn closed(&self, conn: ConnId, reason: String) -> Option<Loss> {
        (self.conn() == Some(conn)).then(|| Loss::transport(reason, None))
    }

    /// Something came that cannot be read. It would come again at once.
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

    /// The hello was not answered in time.
    pub(super) fn give_up_opening(&self, conn: ConnId) -> Option<Loss> {
        let waits = matches!(self.phase, Phase::Connecting(current) | Phase::Opening(current) if current == conn);
        waits.then(|| Loss::transport(format!("no answer within {}", Span(OPENING)), Some(conn)))
    }

    /// The coordinator gave no sign of life in time.
    pub(super) fn give_up_quiet(&self, token: u64) -> Option<Loss> {
        match &self.phase {
            Phase::Live(live) if token == self.quiet => {
                let reason = format!("no snapshot was sealed for {}", Span(live.quiet));
                Some(Loss::transport(reason, Some(live.conn)))
            }
            _ => None,
        }
    }

    /// The coordinator refused this agent.
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

    /// The session, or the attempt at one, is over. True when one stood.
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

    /// After the end: the next attempt follows after a jittered wait.
    pub(super) fn try_again(&mut self, ctx: &mut Ctx, loss: Loss) {
        let jittered = match loss.cause {
            Cause::Transport => {
                let limit = BACKOFF_MAX.min(BACKOFF_MIN * 2u32.saturating_pow(self.failures.min(16)));
                self.failures = self.failures.saturating_add(1);
                // Full jitter, as agents that lost one coordinator must not come back in step; what the coordinator asks for is
                // a lower bound.
                limit.mul_f64(ctx.rng.random_range(0.0..1.0))
            }
            Cause::Content | Cause::Unreadable => {
                let limit = UNREADABLE_MAX.min(UNREADABLE_MIN * 2u32.saturating_pow(self.unreadable.min(16)));
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
            ctx.send(conn, Report::Goodbye { reason });
            ctx.effects.push_back(Effect::Close { conn });
        } else if let Some(conn) = self.conn() {
            ctx.effects.push_back(Effect::Close { conn });
        }
        self.phase = Phase::Stopped;
        ctx.effects.push_back(Effect::Stopped);
    }
}

/// Whether a coordinator that refuses for this reason takes the node for no member.
pub(super) fn expels(reason: RefusalReason) -> bool {
    matches!(
        reason,
        RefusalReason::Stale | RefusalReason::Revoked | RefusalReason::Replaced
    )
}
