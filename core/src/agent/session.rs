//! The session with the coordinator: attempts at one, its beginning, and the waits after its end.

use std::time::Duration;

use rand::RngExt;

use super::{Agent, Effect, Live, Notice, Phase, Report, Timer};
use crate::{
    coordinator::{Message, RefusalReason, Refused, Welcome},
    node::{ConnId, Hello},
    telemetry::Channel,
    text::{SENTENCE, Span, shortened},
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

impl Agent {
    pub(super) fn connect(&mut self) {
        if !matches!(self.phase, Phase::Waiting) {
            return;
        }
        self.attempts += 1;
        let conn = ConnId(self.attempts);
        self.phase = Phase::Connecting(conn);
        self.ctx.timers.set(self.ctx.now + OPENING, Timer::Opening(conn));
        let address = self.address();
        self.ctx.effects.push_back(Effect::Connect { conn, address });
    }

    pub(super) fn connected(&mut self, conn: ConnId) {
        if !matches!(self.phase, Phase::Connecting(current) if current == conn) {
            return;
        }
        self.phase = Phase::Opening(conn);
        let hello = Hello {
            facts: self.ctx.config.facts.clone(),
            incarnation: self.ctx.config.incarnation,
            attempt: self.attempts - 1,
            channels: Channel::ALL.into_iter().map(Some).collect(),
            instance: self.ctx.config.instance,
            machine: self.ctx.config.machine,
            last_failure: self.last_failure.clone(),
        };
        self.ctx.send(conn, Report::Hello(Box::new(hello)));
        self.membership.greeted(self.ctx.now);
    }

    /// The transport that the agent counts on.
    pub(super) fn conn(&self) -> Option<ConnId> {
        match &self.phase {
            Phase::Connecting(conn) | Phase::Opening(conn) => Some(*conn),
            Phase::Live(live) => Some(live.conn),
            Phase::Waiting | Phase::Stopped => None,
        }
    }

    pub(super) fn closed(&mut self, conn: ConnId, reason: String) {
        if self.conn() == Some(conn) {
            self.lose(reason, None);
        }
    }

    /// The session, or the attempt at one, is over: the next one follows after a jittered wait.
    pub(super) fn lose(&mut self, reason: String, retry_after: Option<Duration>) {
        self.end_session();
        let limit = BACKOFF_MAX.min(BACKOFF_MIN * 2u32.saturating_pow(self.failures.min(16)));
        self.failures = self.failures.saturating_add(1);
        // Full jitter, as agents that lost one coordinator must not come back in step; what the coordinator asks for is
        // a lower bound.
        let jitter = limit.mul_f64(self.ctx.rng.random_range(0.0..1.0));
        self.try_again(reason, retry_after.unwrap_or_default() + jitter);
    }

    /// Something came that cannot be read. It would come again at once.
    pub(super) fn unreadable(&mut self, conn: ConnId, detail: &str) {
        if self.conn() != Some(conn) {
            return;
        }
        self.ctx.effects.push_back(Effect::Close { conn });
        let reason = shortened(
            &format!("the coordinator sent a message that cannot be read here: {detail}"),
            SENTENCE,
        );
        self.lose_over_content(reason.clone(), None);
        self.last_failure = reason;
    }

    /// The session ended over its content, by one side or the other: the waits are long, and grow until a session lasts.
    pub(super) fn lose_over_content(&mut self, reason: String, retry_after: Option<Duration>) {
        self.end_session();
        let limit = UNREADABLE_MAX.min(UNREADABLE_MIN * 2u32.saturating_pow(self.unreadable.min(16)));
        self.unreadable = self.unreadable.saturating_add(1);
        let jittered = limit.mul_f64(self.ctx.rng.random_range(0.5..1.0));
        self.try_again(reason, retry_after.unwrap_or_default() + jittered);
    }

    pub(super) fn end_session(&mut self) {
        self.ctx.live = None;
        let Phase::Live(live) = std::mem::replace(&mut self.phase, Phase::Waiting) else {
            return;
        };
        if self.ctx.now.since(live.since) >= LASTED {
            (self.unreadable, self.last_failure) = (0, String::new());
        }
        let line = self.line();
        self.membership.heard(&mut self.ctx, line);
    }

    pub(super) fn try_again(&mut self, reason: String, retry_in: Duration) {
        let address = self.address();
        self.address = self.address.wrapping_add(1);
        self.reconnect += 1;
        self.ctx
            .timers
            .set(self.ctx.now + retry_in, Timer::Reconnect(self.reconnect));
        self.ctx.tell(Notice::Lost {
            address,
            reason,
            retry_in,
        });
    }

    pub(super) fn give_up_opening(&mut self, conn: ConnId) {
        let waits = matches!(self.phase, Phase::Connecting(current) | Phase::Opening(current) if current == conn);
        if waits {
            self.ctx.effects.push_back(Effect::Close { conn });
            self.lose(format!("no answer within {}", Span(OPENING)), None);
        }
    }

    pub(super) fn give_up_quiet(&mut self) {
        if let Phase::Live(live) = &self.phase {
            let (conn, quiet) = (live.conn, live.quiet);
            self.ctx.effects.push_back(Effect::Close { conn });
            self.lose(format!("no snapshot was sealed for {}", Span(quiet)), None);
        }
    }

    pub(super) fn message(&mut self, conn: ConnId, message: Message) {
        if self.conn() != Some(conn) {
            return;
        }
        match message {
            Message::Welcome(welcome) => self.welcome(conn, *welcome),
            Message::Refused(refused) => self.refused(conn, refused),
            Message::Directive(directive) => self.directive(&directive),
            Message::ProbePlan(plan) => self.plan(plan),
            Message::Ping { number } => self.pinged(number),
            Message::Noted => {
                self.evidence.noted();
                self.tell_next();
            }
            Message::Work(work) => self.work.told(&mut self.ctx, *work, self.membership.lent()),
            Message::ReadLog(request) => self.ctx.effects.push_back(Effect::ReadLog(request)),
            Message::Standing { number, standing } => self.membership.give_back(&mut self.ctx, number, Some(standing)),
            Message::Seal { seal, heard } => {
                if let Phase::Live(live) = &self.phase {
                    self.heartbeats.sealed(seal.epoch, seal.cycle);
                    let quiet = live.quiet;
                    self.hears(quiet);
                    let line = self.line();
                    if self.membership.confirmed(&mut self.ctx, line, heard) {
                        self.lend_all();
                    }
                }
            }
        }
    }

    pub(super) fn welcome(&mut self, conn: ConnId, welcome: Welcome) {
        if !matches!(self.phase, Phase::Opening(_)) {
            return;
        }
        self.failures = 0;
        self.epoch = self.epoch.max(welcome.epoch);
        self.heartbeats.new_session(welcome.heartbeat_interval);
        self.directives.new_session();
        let (cycle, lease) = (welcome.cycle_interval, welcome.lease);
        let quiet = QUIET_MIN.max(cycle * QUIET_CYCLES);
        let Welcome {
            cluster,
            epoch,
            session,
            ..
        } = welcome;
        let live = Live {
            conn,
            since: self.ctx.now,
            session,
            quiet,
        };
        self.phase = Phase::Live(live);
        self.ctx.live = Some(conn);
        let address = self.address();
        self.ctx.tell(Notice::Joined {
            cluster,
            epoch,
            session,
            address,
        });
        if !std::mem::replace(&mut self.taken_over, true) {
            self.ctx.effects.push_back(Effect::TakeOver);
            self.work.end_what_is_of_another(&mut self.ctx);
        }
        self.work.reckon_begun(&mut self.ctx, cluster, welcome.next_assignment);
        self.probes.new_session(cluster);
        self.plan(welcome.probe_plan);
        self.evidence.set_arrivals(self.beacons.peers());
        self.beacons.start(&mut self.ctx);
        let line = self.line();
        self.membership.new_session(&mut self.ctx, line, lease, cycle);
        self.lend_all();
        self.hears(quiet);
        self.beat(self.ctx.now);
        self.evidence.new_session(&self.probes, welcome.notes_sightings);
        self.tell();
        self.work.new_session(&mut self.ctx);
        if self.health.is_unwell() {
            self.tell_health();
        }
    }

    /// The coordinator gave a sign of life; the next is due within `quiet`.
    pub(super) fn hears(&mut self, quiet: Duration) {
        self.quiet += 1;
        // Seals come with heartbeats.
        let quiet = quiet.max(self.heartbeats.interval() * QUIET_HEARTBEATS);
        self.ctx.timers.set(self.ctx.now + quiet, Timer::Quiet(self.quiet));
    }

    pub(super) fn refused(&mut self, conn: ConnId, refused: Refused) {
        let (reason, retry_after) = (refused.detail.clone(), refused.retry_after);
        if matches!(
            refused.reason,
            RefusalReason::Stale | RefusalReason::Revoked | RefusalReason::Replaced
        ) {
            let line = self.line();
            self.membership.expelled(&mut self.ctx, line);
        }
        let over_content = matches!(refused.reason, RefusalReason::Invalid | RefusalReason::Unreadable);
        self.ctx.tell(Notice::Refused(refused));
        self.ctx.effects.push_back(Effect::Close { conn });
        let reason = format!("refused: {reason}");
        match over_content {
            true => self.lose_over_content(reason, retry_after),
            false => self.lose(reason, retry_after),
        }
    }
}
