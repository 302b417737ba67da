//! The supervisor of one instance: starts and restarts its process, checks its health, and stops it. A state machine
//! without I/O, with the same four methods as the others; it continues while its agent is not running.

mod io;

use std::{collections::VecDeque, time::Duration};

use self::io::Timer;
pub use self::io::{Effect, Input};
use crate::{
    backoff::doubled,
    text::{Span, count},
    time::{Time, WallClock, WallTime},
    timer::Timers,
    workload::{Assigned, Check, Exit, Phase, Restart, Status, Stop, limits},
};

/// Time before the end of its lease by which a singleton has ended; it covers the difference between its clock and the
/// coordinator's.
pub const LEASE_MARGIN: Duration = Duration::from_secs(2);

/// Time before the end of its lease at which the kernel ends a singleton whose supervisor is stalled: after the
/// supervisor would have ended it, and early enough for a loaded host, where every ending process must be scheduled
/// once more.
pub const DEADLINE: Duration = Duration::from_millis(1_500);

/// SIGKILL, which no process survives.
const KILL: i32 = 9;

/// Maximum run time of a process that counts as ended immediately. However short the configured delays, those between
/// processes that end immediately double up to [`BRIEF_MAX`]; otherwise a program that cannot run would overload its
/// host and the history.
const BRIEF: Duration = Duration::from_secs(1);
const BRIEF_MAX: Duration = Duration::from_secs(5);

/// Time after an out-of-memory kill within which the end of a process is attributed to it.
const OUT_OF_MEMORY: Duration = Duration::from_secs(2);

/// Maximum number of characters of a status detail.
const DETAIL: usize = 512;

/// Result of a health check for the current process.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    /// Number of consecutive failures since it first passed.
    failures: u32,
    /// Whether it passed, and has not failed often enough since.
    passed: bool,
}

/// The supervisor state machine.
#[derive(Debug)]
pub struct Supervisor {
    now: Time,
    wall: WallClock,
    once: bool,
    singleton: bool,
    /// Memory limit, in bytes.
    memory: u64,
    restart: Restart,
    stop: Stop,
    checks: Vec<Check>,
    status: Status,
    /// Start time of the current process, and number of consecutive processes before it that ended immediately.
    began: Time,
    brief: u32,
    /// Times of recent restarts.
    restarts: VecDeque<Time>,
    /// Results of the checks for the current process.
    results: Vec<Outcome>,
    /// Incremented with every process; timers of an older one are stale.
    life: u64,
    /// Reason for the permanent end, and whether an operator requested it.
    ending: Option<(String, bool)>,
    /// Whether the current process keeps running for the stop delay before it is signalled.
    lingers: bool,
    /// Reason why the current process is to be replaced by another one.
    replaced: Option<String>,
    lease: Option<Time>,
    leases: u64,
    /// Time of the kernel's last out-of-memory kill during the current process.
    out_of_memory: Option<Time>,
    /// Whether the start waits for a long enough lease.
    waits_for_lease: bool,
    timers: Timers<Timer>,
    effects: VecDeque<Effect>,
}

impl Supervisor {
    /// Creates a supervisor that starts the process immediately; a singleton once it has a lease.
    pub fn new(now: Time, wall: WallTime, assigned: &Assigned, ports: Vec<u16>) -> Supervisor {
        let spec = &assigned.spec;
        let mut clock = WallClock::default();
        clock.set(now, wall);
        let mut supervisor = Supervisor {
            now,
            wall: clock,
            once: spec.kind.is_batch(),
            singleton: spec.singleton,
            memory: spec.resources.memory_bytes,
            restart: spec.restart.clamped(),
            stop: spec.stop,
            checks: spec.checks.clone(),
            status: Status {
                since: wall,
                ports,
                ..Status::default()
            },
            began: now,
            brief: 0,
            restarts: VecDeque::new(),
            results: vec![Outcome::default(); spec.checks.len()],
            life: 0,
            ending: None,
            lingers: false,
            replaced: None,
            lease: None,
            leases: 0,
            out_of_memory: None,
            waits_for_lease: false,
            timers: Timers::default(),
            effects: VecDeque::new(),
        };
        supervisor.start();
        supervisor
    }

    /// Status of the instance.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Handles one input.
    pub fn handle(&mut self, now: Time, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::WallClock(wall) => self.wall.set(now, wall),
            Input::Started { pid } => self.started(pid),
            Input::NotStarted { reason } => self.not_started(&reason),
            Input::OutOfMemory { kills } => self.out_of_memory(kills),
            Input::Exited(exit) => self.exited(exit),
            Input::Wrote(line) => self.status.last_stderr = line,
            Input::Cleared => self.cleared(),
            Input::Stuck { what } => self.stuck(&what),
            Input::Checked { check, failure } => self.checked(check, failure),
            Input::Stop { reason } => self.stop(reason),
            Input::Quit { reason } => self.quit(reason),
            Input::Lost { reason } => self.lost(reason),
            Input::Lease(until) => self.lease(until),
        }
    }

    /// Handles every timer that is due.
    pub fn handle_timeout(&mut self, now: Time) {
        self.now = self.now.max(now);
        while let Some((_, timer)) = self.timers.take_due(now) {
            match timer {
                Timer::Start(life) if life == self.life && self.status.phase == Phase::Backoff => self.start(),
                Timer::Signal(life) if life == self.life => self.lingers_no_more(),
                Timer::Kill(life) if life == self.life && self.status.phase == Phase::Stopping => {
                    self.effects.push_back(Effect::Clear);
                }
                Timer::Check(check, life) if life == self.life && self.status.phase == Phase::Running => {
                    self.effects.push_back(Effect::Check(check));
                }
                Timer::Lease(lease) if lease == self.leases => self.lease_ends(),
                _ => {}
            }
        }
    }

    /// Returns the next effect to be executed.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Time at which [`handle_timeout`](Self::handle_timeout) is due next.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.next()
    }

    fn becomes(&mut self, phase: Phase, detail: &str) {
        let detail: String = detail.chars().take(DETAIL).collect();
        if self.status.phase != phase || self.status.detail != detail {
            if self.status.phase != phase {
                self.status.since = self.wall.at(self.now);
            }
            (self.status.phase, self.status.detail) = (phase, detail);
        }
        if phase != Phase::Running {
            self.status.healthy = false;
        }
        if matches!(phase, Phase::Starting | Phase::Backoff | Phase::Ended) {
            self.status.pid = 0;
        }
        self.effects.push_back(Effect::Changed);
    }

    fn start(&mut self) {
        self.waits_for_lease = self.singleton && self.lease.is_none_or(|until| until <= self.now + self.needed());
        if self.waits_for_lease {
            self.becomes(Phase::Backoff, "waits for its lease");
            return;
        }
        self.life += 1;
        self.began = self.now;
        (self.replaced, self.out_of_memory) = (None, None);
        self.results.fill(Outcome::default());
        self.becomes(Phase::Starting, "");
        self.effects.push_back(Effect::Spawn);
    }

    /// Time before the end of a lease at which a singleton is told to stop.
    fn needed(&self) -> Duration {
        self.stop.grace + LEASE_MARGIN
    }

    fn started(&mut self, pid: u32) {
        self.status.pid = pid;
        if self.status.phase != Phase::Starting {
            // The instance was told to stop while its process was being started.
            self.signal();
            return;
        }
        self.becomes(Phase::Running, "");
        self.status.pid = pid;
        for check in 0..self.checks.len() {
            self.check_later(check);
        }
        self.reckon_health("");
    }

    fn check_later(&mut self, check: usize) {
        let Some(interval) = self.checks.get(check).map(|check| check.interval) else {
            return;
        };
        // The first result is needed soon, because others wait for the instance to become healthy.
        let passed = self.results.get(check).is_some_and(|outcome| outcome.passed);
        let wait = if passed {
            interval
        } else {
            interval.min(Duration::from_secs(1))
        };
        self.timers.set(self.now + wait, Timer::Check(check, self.life));
    }

    fn reckon_health(&mut self, detail: &str) {
        let healthy = self.status.phase == Phase::Running && self.results.iter().all(|outcome| outcome.passed);
        if healthy != self.status.healthy || self.status.detail != detail {
            self.status.healthy = healthy;
            self.status.detail = detail.chars().take(DETAIL).collect();
            self.effects.push_back(Effect::Changed);
        }
    }

    fn checked(&mut self, check: usize, failure: Option<String>) {
        if self.status.phase != Phase::Running {
            return;
        }
        let (Some(outcome), Some(declared)) = (self.results.get_mut(check), self.checks.get(check)) else {
            return;
        };
        let Some(why) = failure else {
            *outcome = Outcome {
                failures: 0,
                passed: true,
            };
            self.reckon_health("");
            self.check_later(check);
            return;
        };
        // Until the check first passes it runs more often than configured, so the elapsed time counts instead of the
        // number of failures.
        let grace = declared.grace();
        let failed = match outcome.passed {
            false if self.now.since(self.began) < grace => None,
            false => Some(format!("has not passed within {} of the start", Span(grace))),
            true => {
                outcome.failures += 1;
                let failures = outcome.failures;
                (failures >= declared.failures).then(|| format!("failed {}", count(failures, "time")))
            }
        };
        let Some(failed) = failed else {
            self.reckon_health(&format!("health check {check}: {why}"));
            self.check_later(check);
            return;
        };
        outcome.passed = false;
        let why = format!("health check {check} {failed}: {why}");
        self.replaced = Some(why.clone());
        self.becomes(Phase::Stopping, &why);
        self.signal();
    }

    fn signal(&mut self) {
        self.effects.push_back(Effect::Signal(self.stop.signal));
        self.timers.set(self.now + self.stop.grace, Timer::Kill(self.life));
    }

    fn not_started(&mut self, reason: &str) {
        self.status.exit = None;
        self.status.last_stderr.clear();
        self.over(&format!("cannot be started: {reason}"));
    }

    fn exited(&mut self, exit: Exit) {
        if matches!(self.status.phase, Phase::Backoff | Phase::Ended) {
            return;
        }
        self.status.exit = Some(exit);
        self.status.healthy = false;
        // Remaining processes are killed first; then the next step is decided.
        if self.status.phase != Phase::Stopping {
            let detail = self.how_it_ended();
            self.becomes(Phase::Stopping, &detail);
        }
        self.effects.push_back(Effect::Clear);
    }

    fn cleared(&mut self) {
        if self.status.phase != Phase::Stopping {
            return;
        }
        let detail = self.replaced.take().unwrap_or_else(|| self.how_it_ended());
        self.over(&detail);
    }

    /// Reports which process remains; the instance has not ended until it is gone.
    fn stuck(&mut self, what: &str) {
        if self.status.phase == Phase::Stopping {
            let why = self.ending.as_ref().map(|(why, _)| format!("; {why}"));
            self.becomes(Phase::Stopping, &format!("{what}{}", why.unwrap_or_default()));
        }
    }

    fn how_it_ended(&self) -> String {
        let exit = self.status.exit.map(|exit| exit.to_string()).unwrap_or_default();
        let limit = self.memory as f64 / f64::from(1 << 20);
        let killed = self.out_of_memory.is_some_and(|at| self.now.since(at) <= OUT_OF_MEMORY);
        match (killed, self.status.exit) {
            (false, _) => format!("its process ended: {exit}"),
            (true, Some(Exit::Signal(KILL))) => format!("killed: out of memory (limit {limit:.0} MiB)"),
            (true, _) => format!(
                "its process ended: {exit}; the kernel had killed one that it started: out of memory (limit {limit:.0} MiB)"
            ),
        }
    }

    /// Decides the next step once no process is left.
    fn over(&mut self, detail: &str) {
        if let Some((why, asked)) = self.ending.clone() {
            // An interrupted batch is not complete.
            self.finish(asked || !self.once, &why);
            return;
        }
        let success = self.status.exit.is_some_and(Exit::is_success);
        if self.once {
            self.finish(success, if success { "done" } else { detail });
            return;
        }
        let window = self.restart.window;
        let now = self.now;
        self.restarts.retain(|at| now.since(*at) < window);
        let before = self.restarts.len() as u32;
        if before >= self.restart.attempts {
            let restarts = count(before, "restart");
            let detail = format!("{detail}; {restarts} within {} did not help", Span(window));
            self.finish(false, &detail);
            return;
        }
        self.restarts.push_back(now);
        self.status.restarts += 1;
        let wait = doubled(self.restart.backoff, before, self.restart.backoff_max).max(self.brief_wait());
        self.life += 1;
        self.timers.set(now + wait, Timer::Start(self.life));
        self.becomes(Phase::Backoff, detail);
    }

    /// Minimum delay after a process that ended immediately.
    fn brief_wait(&mut self) -> Duration {
        if self.now.since(self.began) > BRIEF {
            self.brief = 0;
            return Duration::ZERO;
        }
        let wait = doubled(limits::BACKOFF, self.brief, BRIEF_MAX);
        self.brief = self.brief.saturating_add(1);
        wait
    }

    fn finish(&mut self, complete: bool, detail: &str) {
        self.life += 1;
        self.status.complete = complete;
        self.becomes(Phase::Ended, detail);
        self.effects.push_back(Effect::Ended);
    }

    fn out_of_memory(&mut self, kills: u32) {
        self.out_of_memory = Some(self.now);
        self.status.oom_kills = self.status.oom_kills.saturating_add(kills);
        self.effects.push_back(Effect::Changed);
    }

    /// Continues an instance that its host ended and that its agent starts again by itself; `before` is its previous
    /// status.
    #[must_use]
    pub fn resumed(mut self, before: &Status) -> Supervisor {
        self.status.restarts = before.restarts.saturating_add(1);
        self.status.oom_kills = before.oom_kills;
        self.status.started_alone = before.started_alone.saturating_add(1);
        self
    }

    /// Stops the instance because its host shuts down or its agent ends permanently.
    fn quit(&mut self, reason: String) {
        self.status.interrupted |= self.ending.is_none() && self.status.phase != Phase::Ended;
        self.end(reason, false);
    }

    /// Stops the instance permanently, after the stop delay that gives clients time to notice.
    fn stop(&mut self, reason: String) {
        let lingers = !self.stop.delay.is_zero() && self.status.phase == Phase::Running && self.ending.is_none();
        if !lingers {
            return self.end(reason, true);
        }
        self.ending = Some((reason.clone(), true));
        self.lingers = true;
        self.becomes(Phase::Stopping, &reason);
        self.timers.set(self.now + self.stop.delay, Timer::Signal(self.life));
    }

    fn lingers_no_more(&mut self) {
        if std::mem::take(&mut self.lingers) && self.status.phase == Phase::Stopping {
            self.signal();
        }
    }

    /// Stops the instance permanently.
    fn end(&mut self, reason: String, asked: bool) {
        self.lingers_no_more();
        if self.ending.is_some() || self.status.phase == Phase::Ended {
            return;
        }
        self.ending = Some((reason.clone(), asked));
        match self.status.phase {
            Phase::Assigned | Phase::Backoff => self.finish(asked || !self.once, &reason),
            Phase::Starting | Phase::Running => {
                let starting = self.status.phase == Phase::Starting;
                self.becomes(Phase::Stopping, &reason);
                match starting {
                    // The process is signalled once it is started; if that takes too long, it is killed.
                    true => self.timers.set(self.now + self.stop.grace, Timer::Kill(self.life)),
                    false => self.signal(),
                }
            }
            Phase::Stopping | Phase::Ended => {}
        }
    }

    /// Handles the loss of the instance's directory.
    fn lost(&mut self, reason: String) {
        // The results of a batch are lost with its directory, whether or not anybody notices.
        self.status.unknown |= self.once && self.status.phase != Phase::Ended;
        self.end(reason, false);
        if self.singleton && self.status.phase == Phase::Stopping {
            self.effects.push_back(Effect::Clear);
        }
    }

    fn lease(&mut self, until: Time) {
        if !self.singleton || self.lease.is_some_and(|before| before >= until) {
            return;
        }
        self.lease = Some(until);
        self.leases += 1;
        self.timers.set(until - self.needed(), Timer::Lease(self.leases));
        if self.waits_for_lease && self.ending.is_none() {
            self.start();
        }
    }

    fn lease_ends(&mut self) {
        let over = self.lease.is_some_and(|until| until <= self.now + LEASE_MARGIN);
        self.end(
            "its lease was not renewed: there might be another one soon".to_owned(),
            false,
        );
        if over && self.status.phase == Phase::Stopping {
            // The host was suspended or stalled, and no time is left for a graceful stop.
            self.effects.push_back(Effect::Clear);
        }
    }
}

#[cfg(test)]
mod tests;
