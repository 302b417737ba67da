//! The Orchestrator Engine: the coordinator as a state machine without I/O.

mod access;
mod command;
mod conclude;
mod cycle;
mod durable;
mod forget;
mod input;
mod planner;
mod pulse;
mod recall;
mod reconcile;
mod session;
mod sights;
mod steering;

#[cfg(test)]
mod tests;
mod workloads;

use std::time::Duration;

pub use input::Input;
pub use planner::Planner;
use pulse::Pulse;

pub use crate::{
    command::{
        Answer, Asked, ChangeWorkload, Changed, Denial, Forgotten, Limit, PlannedStart, PlannedStop, Refusal,
        TokenProblem, WorkloadVerb,
    },
    ctx::{config::Config, rules::Rules},
    effect::{Effect, Published, RequestId},
    protocol::{FromAgent, Heartbeat, Message, ProbePlan, RefusalReason, Refused, Welcome, Work},
};

use crate::{
    coherence::NodeDetail,
    ctx::{Ctx, alarm::Timer},
    event::EventBody,
    node::{ConnId, Origin},
    recycled::Recycled,
    store::Durable,
    systems::{
        admission::Admissions, autonomy::Autonomy, behaviour::Behaviour, coherence::rows::Rows, guardian::Guardian,
        integrity::Integrity, predictive::Predictive, telemetry::Telemetry, work,
    },
    time::{Time, WallTime},
    timer::Kinds,
};

/// Lateness of a timer that indicates a stall of this process; silence during a stall is no evidence.
const STALL: Duration = Duration::from_millis(500);

/// The coordinator state machine. Four methods drive it: [`handle`](Self::handle),
/// [`handle_timeout`](Self::handle_timeout), [`poll_effect`](Self::poll_effect), [`poll_timeout`](Self::poll_timeout).
#[derive(Debug)]
pub struct Coordinator {
    ctx: Ctx,
    pulse: Pulse,
    details: Recycled<NodeDetail>,
    sessions: u64,

    admissions: Admissions,
    telemetry: Telemetry,
    predictive: Predictive,
    guardian: Guardian,
    autonomy: Autonomy,
    behaviour: Behaviour,
    work: work::Work,
    integrity: Integrity,
    rows: Rows,
    /// Time up to which the absence of nodes has been accumulated.
    aged: Time,
    /// Refused hellos with an outdated incarnation or session since the newest cycle.
    stale_hellos: u32,
}

impl Coordinator {
    /// Creates a coordinator that continues from durable state. The first cycle is due immediately.
    pub fn new(now: Time, wall: WallTime, config: Config, durable: Durable) -> Coordinator {
        let (history, seed) = (config.history, config.seed);
        let mut coordinator = Coordinator {
            ctx: Ctx::new(now, wall, config, &durable),
            pulse: Pulse::new(now),
            details: Recycled::default(),
            sessions: 0,
            admissions: Admissions::new(durable.access),
            telemetry: Telemetry::new(history),
            predictive: Predictive::default(),
            guardian: Guardian::new(seed),
            autonomy: Autonomy::new(durable.epoch, durable.decisions, durable.policy),
            behaviour: Behaviour::new(durable.epoch),
            work: work::Work::new(durable.restored),
            integrity: Integrity::new(durable.last_snapshot),
            rows: Rows::default(),
            aged: now,
            stale_hellos: 0,
        };
        coordinator.recall(durable.nodes.into_values().collect());
        let (workloads, assignments) = (durable.workloads.into_values(), durable.assignments.into_values());
        coordinator
            .work
            .recall(&mut coordinator.ctx, workloads.collect(), assignments.collect());
        coordinator.ctx.timers.set(now, Timer::Pulse);
        coordinator.ctx.timers.set(now, Timer::Survey);
        let version = coordinator.ctx.config.version.to_string();
        let summary = format!("coordinator {version} started, epoch {}", coordinator.ctx.term.epoch);
        coordinator
            .ctx
            .record(None, summary, EventBody::Coordinator { started: true, version });
        coordinator.work.begin_restored(&mut coordinator.ctx);
        coordinator.flush();
        coordinator
    }

    /// Handles one input.
    pub fn handle(&mut self, now: Time, input: Input) {
        self.advance(now);
        match input {
            Input::WallClock(wall) => self.ctx.clock.wall.set(now, wall),
            Input::FromAgent(conn, said) => self.said(conn, said),
            Input::Opened { conn, hello, origin } => self.hello(conn, *hello, origin),
            Input::Invalid { conn, detail } => self.invalid(conn, detail),
            Input::Unreadable { conn, detail } => self.unreadable(conn, &detail),
            Input::Closed { conn, by_peer } => self.closed(conn, by_peer),
            Input::Command { request, command, by } => self.command(request, command, &by),
            Input::Committed => self.committed(),
            Input::Published(published) => self.published(published),
            Input::Shutdown { retry_after } => self.shutdown(retry_after),
            Input::AuditLost { detail } => self.audit_lost(detail),
        }
        self.flush();
    }

    /// Takes what an agent says.
    fn said(&mut self, conn: ConnId, said: FromAgent) {
        match said {
            FromAgent::Heartbeat(heartbeat) => self.heartbeat(conn, heartbeat),
            FromAgent::Hello(hello) => self.hello(conn, *hello, Origin::default()),
            FromAgent::Directive { id, state, detail } => self.directive_update(conn, id, state, &detail),
            FromAgent::Goodbye { reason } => self.goodbye(conn, &reason),
            FromAgent::Evidence {
                observations,
                health,
                sent_millis,
            } => self.evidence(conn, &observations, health, sent_millis),
            FromAgent::Arrivals(arrivals) => self.arrivals(conn, &arrivals),
            FromAgent::Question {
                number,
                question,
                sent_millis,
            } => self.question(conn, number, &question, sent_millis),
            FromAgent::Instances { instances, all } => self.instances(conn, instances, all),
            FromAgent::Described { instances, refused } => self.described(conn, instances, refused),
            FromAgent::Log(chunk) => self.log_read(conn, chunk),
        }
    }

    /// Handles every timer that is due.
    pub fn handle_timeout(&mut self, now: Time) {
        self.advance(now);
        while let Some((_, timer)) = self.ctx.timers.take_due(now) {
            match timer {
                Timer::Pulse => self.pulse(),
                Timer::Liveness(index, token) => self.look_at(index, token),
                Timer::RestartGrace => self.give_up_unseen(),
                Timer::Plan => self.guardian.replan(&mut self.ctx),
                Timer::Survey => self.guardian.survey(&mut self.ctx),
                Timer::Directive(id) => self.behaviour.redeliver(&mut self.ctx, id),
                Timer::Reconcile(token) => self.reconcile(token),
                Timer::Tell => self.work.tell_more(&mut self.ctx),
                Timer::Read(number) => self.work.give_up_reading(&mut self.ctx, number),
                Timer::View => self.view(),
                Timer::Settle => self.work.settle(&mut self.ctx),
            }
        }
        self.flush();
    }

    /// Names of all timer kinds.
    pub const TIMERS: &'static [&'static str] = Timer::NAMES;

    /// Names of the timer kinds that have fired at least once.
    pub fn timers_fired(&self) -> impl Iterator<Item = &'static str> {
        self.ctx.timers.fired()
    }

    /// Returns the next effect to be executed.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.ctx.outbox.effects.pop_front()
    }

    /// Time at which [`handle_timeout`](Self::handle_timeout) is due next.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.ctx.timers.next()
    }

    /// Advances the clock and detects stalls of the process.
    fn advance(&mut self, now: Time) {
        self.ctx.clock.now = self.ctx.clock.now.max(now);
        let Some(due) = self.ctx.timers.next() else { return };
        if now.since(due) > STALL {
            self.ctx.clock.resumed_at = self.ctx.clock.now;
            self.guardian.stood(&mut self.ctx, now.since(due));
        }
    }

    /// Verifies incrementally maintained counts against a full recount.
    #[cfg(test)]
    fn recount(&mut self) {
        let counted = self.ctx.registry.recounted();
        assert_eq!(self.ctx.registry.census(), &counted, "the census");
        self.rows.recount(&self.ctx);
    }

    fn shutdown(&mut self, retry_after: Duration) {
        self.ctx.stopping = true;
        let detail = "the coordinator is shutting down".to_owned();
        let refused = Refused {
            reason: RefusalReason::Shutdown,
            detail,
            retry_after: Some(retry_after),
        };
        let conns: Vec<_> = self
            .ctx
            .registry
            .iter()
            .filter_map(|(_, node)| Some(node.session.as_ref()?.conn))
            .collect();
        for conn in conns {
            self.ctx.send(conn, Message::Refused(refused.clone()));
            self.ctx.outbox.push(Effect::Close { conn });
        }
        self.ctx.record_repeated(true);
        let version = self.ctx.config.version.to_string();
        let body = EventBody::Coordinator {
            started: false,
            version,
        };
        self.ctx.record(None, "coordinator is shutting down".to_owned(), body);
    }

    /// Records that audit entries were lost.
    pub(super) fn audit_lost(&mut self, detail: String) {
        let (verb, by) = ("audit".to_owned(), String::new());
        let summary = detail.clone();
        self.ctx.record(None, summary, EventBody::Command { verb, detail, by });
    }
}
