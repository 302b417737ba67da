use std::{sync::Arc, time::Duration};

use super::*;
use crate::{
    id::Revision,
    workload::{AssignmentId, Kind, Probe, Spec},
};

fn at(millis: u64) -> Time {
    Time(millis * 1_000_000)
}

fn supervisor(change: impl FnOnce(&mut Spec)) -> Supervisor {
    let mut spec = Spec::new("web", "/bin/true");
    change(&mut spec);
    let assigned = Assigned {
        id: AssignmentId(1),
        slot: 0,
        revision: Revision(1),
        spec: Arc::new(spec),
    };
    Supervisor::new(at(0), WallTime(0), &assigned, Vec::new())
}

fn effects(supervisor: &mut Supervisor) -> Vec<Effect> {
    let all = std::iter::from_fn(|| supervisor.poll_effect());
    all.filter(|effect| *effect != Effect::Changed).collect()
}

fn run(supervisor: &mut Supervisor, millis: u64) {
    assert_eq!(effects(supervisor), [Effect::Spawn]);
    supervisor.handle(at(millis), Input::Started { pid: 7 });
    assert_eq!(supervisor.status().phase, Phase::Running);
}

fn crash(supervisor: &mut Supervisor, millis: u64) {
    supervisor.handle(at(millis), Input::Exited(Exit::Code(1)));
    assert_eq!(effects(supervisor), [Effect::Clear]);
    supervisor.handle(at(millis), Input::Cleared);
}

#[test]
fn a_process_that_ends_is_started_again_after_its_backoff() {
    let mut one = supervisor(|_| {});
    run(&mut one, 1);
    assert!(one.status().healthy);
    crash(&mut one, 100);
    assert_eq!((one.status().phase, one.status().restarts), (Phase::Backoff, 1));
    assert_eq!(one.poll_timeout(), Some(at(1_100)));
    one.handle_timeout(at(1_100));
    run(&mut one, 1_101);
    crash(&mut one, 1_200);
    assert_eq!(one.poll_timeout(), Some(at(3_200)));
}

#[test]
fn the_last_line_is_that_of_the_process_that_ended_last() {
    let mut one = supervisor(|_| {});
    run(&mut one, 1);
    one.handle(at(10), Input::Exited(Exit::Code(1)));
    one.handle(at(11), Input::Wrote("out of cheese".to_owned()));
    assert_eq!(effects(&mut one), [Effect::Clear]);
    one.handle(at(12), Input::Cleared);
    assert_eq!(
        (one.status().phase, &*one.status().last_stderr),
        (Phase::Backoff, "out of cheese")
    );
    one.handle_timeout(at(1_012));
    run(&mut one, 1_013);
    // The line is retained while the next process runs, and replaced when that ends.
    assert_eq!(one.status().last_stderr, "out of cheese");
    one.handle(at(1_100), Input::Exited(Exit::Code(0)));
    one.handle(at(1_101), Input::Wrote(String::new()));
    one.handle(at(1_102), Input::Cleared);
    assert_eq!(one.status().last_stderr, "");
}

#[test]
fn restarts_that_do_not_help_end_it() {
    let mut one = supervisor(|spec| spec.restart.attempts = 2);
    for _ in 0..2 {
        run(&mut one, 0);
        crash(&mut one, 0);
        let due = one.poll_timeout().unwrap();
        one.handle_timeout(due);
    }
    run(&mut one, 0);
    crash(&mut one, 0);
    assert_eq!((one.status().phase, one.status().complete), (Phase::Ended, false));
    assert_eq!(effects(&mut one), [Effect::Ended]);
    assert!(one.status().detail.contains("2 restarts"), "{}", one.status().detail);
}

#[test]
fn a_batch_ends_with_its_process() {
    for (exit, complete) in [(Exit::Code(0), true), (Exit::Code(3), false), (Exit::Signal(9), false)] {
        let mut one = supervisor(|spec| {
            spec.kind = Kind::Batch {
                replicas: 1,
                retries: 0,
            }
        });
        run(&mut one, 0);
        one.handle(at(5), Input::Exited(exit));
        one.handle(at(6), Input::Cleared);
        assert_eq!((one.status().phase, one.status().complete), (Phase::Ended, complete));
        assert_eq!(one.status().exit, Some(exit));
    }
}

#[test]
fn what_does_not_end_when_asked_is_killed() {
    let mut one = supervisor(|_| {});
    run(&mut one, 0);
    let reason = "scaled down".to_owned();
    one.handle(at(10), Input::Stop { reason });
    assert_eq!(effects(&mut one), [Effect::Signal(15)]);
    one.handle_timeout(at(10_010));
    assert_eq!(effects(&mut one), [Effect::Clear]);
    one.handle(at(10_020), Input::Exited(Exit::Signal(9)));
    one.handle(at(10_020), Input::Cleared);
    assert_eq!((one.status().phase, one.status().complete), (Phase::Ended, true));
    assert_eq!(one.status().detail, "scaled down");
}

#[test]
fn what_is_told_to_end_while_it_starts_does_not_stay() {
    let mut one = supervisor(|_| {});
    let reason = "deleted".to_owned();
    one.handle(at(1), Input::Stop { reason });
    assert_eq!(effects(&mut one), [Effect::Spawn]);
    one.handle(at(2), Input::Started { pid: 7 });
    assert_eq!(effects(&mut one), [Effect::Signal(15)]);
}

#[test]
fn a_check_that_fails_again_and_again_has_it_started_anew() {
    let mut one = supervisor(|spec| {
        spec.checks.push(Check {
            probe: Probe::Exec(vec!["check".to_owned()]),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            failures: 2,
            start_grace: None,
            address: String::new(),
        });
    });
    run(&mut one, 0);
    assert!(!one.status().healthy);
    one.handle_timeout(at(1_000));
    assert_eq!(effects(&mut one), [Effect::Check(0)]);
    one.handle(
        at(1_001),
        Input::Checked {
            check: 0,
            failure: None,
        },
    );
    assert!(one.status().healthy);
    for _ in 0..2 {
        assert_eq!(one.status().phase, Phase::Running);
        let failure = Some("no answer".to_owned());
        one.handle(at(2_000), Input::Checked { check: 0, failure });
    }
    assert_eq!((one.status().phase, one.status().healthy), (Phase::Stopping, false));
    assert!(effects(&mut one).contains(&Effect::Signal(15)));
    one.handle(at(2_100), Input::Exited(Exit::Signal(15)));
    one.handle(at(2_100), Input::Cleared);
    assert_eq!(one.status().phase, Phase::Backoff);
    assert!(one.status().detail.contains("no answer"), "{}", one.status().detail);
}

#[test]
fn what_is_told_to_end_goes_on_for_as_long_as_its_users_need_to_notice() {
    let told = || {
        let mut one = supervisor(|spec| spec.stop.delay = Duration::from_secs(3));
        run(&mut one, 0);
        let reason = "scaled down".to_owned();
        one.handle(at(1_000), Input::Stop { reason });
        assert_eq!((one.status().phase, one.status().healthy), (Phase::Stopping, false));
        one.handle_timeout(at(3_999));
        let quiet = effects(&mut one).into_iter().all(|effect| effect == Effect::Changed);
        assert!(quiet);
        one
    };
    let mut one = told();
    one.handle_timeout(at(4_000));
    assert_eq!(effects(&mut one), [Effect::Signal(15)]);
    // The grace period starts with the signal.
    one.handle_timeout(at(13_999));
    assert_eq!(effects(&mut one), []);
    one.handle_timeout(at(14_000));
    assert_eq!(effects(&mut one), [Effect::Clear]);
    // An end for another reason skips the stop delay.
    let mut one = told();
    let reason = "its agent is gone".to_owned();
    one.handle(at(3_999), Input::Quit { reason });
    assert_eq!(effects(&mut one), [Effect::Signal(15)]);
    one.handle_timeout(at(4_000));
    assert_eq!(effects(&mut one), []);
    // The process may end by itself meanwhile, and is then complete.
    let mut one = told();
    one.handle(at(3_999), Input::Exited(Exit::Code(0)));
    one.handle(at(3_999), Input::Cleared);
    assert_eq!((one.status().phase, one.status().complete), (Phase::Ended, true));
    effects(&mut one);
    one.handle_timeout(at(4_000));
    assert_eq!(effects(&mut one), []);
}

/// Runs checks when due; every check fails until `passes` and passes afterwards. Returns when the process was told to
/// stop, in milliseconds, within one minute.
fn replaced_at(start_grace: Option<Duration>, passes: u64) -> Option<u64> {
    let mut one = supervisor(|spec| {
        spec.checks.push(Check {
            probe: Probe::Exec(vec!["check".to_owned()]),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            failures: 3,
            start_grace,
            address: String::new(),
        });
    });
    run(&mut one, 0);
    for now in (0..60_000).step_by(100) {
        one.handle_timeout(at(now));
        for effect in effects(&mut one) {
            match effect {
                Effect::Check(check) => {
                    let failure = (now < passes).then(|| "refused".to_owned());
                    one.handle(at(now), Input::Checked { check, failure });
                }
                Effect::Signal(_) => return Some(now),
                _ => {}
            }
        }
        if one.status().phase == Phase::Stopping {
            return Some(now);
        }
    }
    assert!(one.status().healthy);
    None
}

#[test]
fn a_program_that_takes_its_time_to_start_is_not_replaced_for_it() {
    // The default grace equals the failures tolerated later: three times 10 s.
    assert_eq!(replaced_at(None, 8_000), None);
    assert_eq!(replaced_at(None, 29_000), None);
    assert!(replaced_at(None, 40_000).is_some_and(|at| (30_000..=31_000).contains(&at)));
    let grace = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(replaced_at(grace(50), 45_000), None);
    assert!(replaced_at(grace(5), 8_000).is_some_and(|at| (5_000..=6_000).contains(&at)));
    assert!(replaced_at(grace(0), 8_000).is_some_and(|at| at <= 1_000));
}

#[test]
fn a_singleton_runs_by_its_lease_alone() {
    let mut one = supervisor(|spec| spec.singleton = true);
    assert_eq!(effects(&mut one), []);
    one.handle(at(0), Input::Lease(at(30_000)));
    run(&mut one, 1);
    one.handle(at(2_000), Input::Lease(at(32_000)));
    // An earlier lease shortens nothing.
    one.handle(at(2_000), Input::Lease(at(31_000)));
    one.handle_timeout(at(18_000));
    assert_eq!(effects(&mut one), []);
    // 10 s of grace and a margin of 2 s.
    one.handle_timeout(at(20_000));
    assert_eq!(effects(&mut one), [Effect::Signal(15)]);
    one.handle_timeout(at(30_000));
    assert_eq!(effects(&mut one), [Effect::Clear]);
}

#[test]
fn a_lease_that_is_nearly_over_starts_nothing() {
    let mut one = supervisor(|spec| spec.singleton = true);
    one.handle(at(0), Input::Lease(at(11_000)));
    assert_eq!(effects(&mut one), []);
    one.handle(at(1_000), Input::Lease(at(40_000)));
    assert_eq!(effects(&mut one), [Effect::Spawn]);
}

#[test]
fn what_used_up_its_memory_says_so_and_the_next_end_does_not() {
    let mut one = supervisor(|spec| spec.resources.memory_bytes = 64 << 20);
    run(&mut one, 1);
    one.handle(at(10), Input::OutOfMemory { kills: 1 });
    one.handle(at(10), Input::Exited(Exit::Signal(9)));
    assert_eq!(effects(&mut one), [Effect::Clear]);
    one.handle(at(11), Input::Cleared);
    assert_eq!(one.status().detail, "killed: out of memory (limit 64 MiB)");
    one.handle_timeout(at(1_011));
    run(&mut one, 1_012);
    one.handle(at(1_013), Input::OutOfMemory { kills: 1 });
    crash(&mut one, 1_014);
    let expected =
        "its process ended: exit status 1; the kernel had killed one that it started: out of memory (limit 64 MiB)";
    assert_eq!(one.status().detail, expected);
    one.handle_timeout(at(3_014));
    run(&mut one, 3_015);
    crash(&mut one, 3_016);
    assert_eq!(one.status().detail, "its process ended: exit status 1");
}

#[test]
fn what_ends_at_once_again_and_again_waits_longer_whatever_is_declared() {
    let mut one = supervisor(|spec| {
        spec.restart = Restart {
            attempts: u32::MAX,
            window: Duration::from_secs(1),
            backoff: Duration::ZERO,
            backoff_max: Duration::ZERO,
        };
    });
    let mut now = 0;
    let mut waits = Vec::new();
    for _ in 0..10 {
        run(&mut one, now);
        crash(&mut one, now + 10);
        let due = one.poll_timeout().unwrap();
        waits.push(due.since(at(now + 10)).as_millis());
        now = due.0 / 1_000_000;
        one.handle_timeout(due);
    }
    assert_eq!(waits, [50, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000]);
    // A process that ran for a while resets the back-off.
    run(&mut one, now);
    crash(&mut one, now + 60_000);
    assert_eq!(one.poll_timeout(), Some(at(now + 60_050)));
}

#[test]
fn what_cannot_be_killed_is_named_and_has_not_ended() {
    let mut one = supervisor(|_| {});
    run(&mut one, 0);
    let stuck = |what: &str| Input::Stuck { what: what.to_owned() };
    // Nothing is being stopped, so nothing can be stuck.
    one.handle(at(1), stuck("pid 8 cannot be killed"));
    assert_eq!((one.status().phase, one.status().detail.as_str()), (Phase::Running, ""));
    let reason = "deleted".to_owned();
    one.handle(at(2), Input::Stop { reason });
    one.handle(at(3), Input::Exited(Exit::Signal(15)));
    one.handle(at(4), stuck("pid 8 cannot be killed"));
    assert_eq!(
        (one.status().phase, one.status().detail.as_str()),
        (Phase::Stopping, "pid 8 cannot be killed; deleted")
    );
    one.handle(at(5), Input::Cleared);
    assert_eq!(
        (one.status().phase, one.status().detail.as_str()),
        (Phase::Ended, "deleted")
    );
}

#[test]
fn a_singleton_that_is_lost_is_killed_at_once_and_others_are_told_to_end() {
    for (singleton, batch) in [(true, false), (false, false), (false, true)] {
        let mut one = supervisor(|spec| {
            spec.singleton = singleton;
            spec.stop.grace = Duration::from_secs(10);
            if batch {
                spec.kind = crate::workload::Kind::Batch {
                    replicas: 1,
                    retries: 9,
                };
            }
        });
        one.handle(at(0), Input::Lease(at(60_000)));
        effects(&mut one);
        one.handle(at(10), Input::Started { pid: 4 });
        effects(&mut one);
        let lost = || Input::Lost {
            reason: "its directory was renamed or replaced".to_owned(),
        };
        one.handle(at(20), lost());
        let asked = effects(&mut one);
        assert!(asked.contains(&Effect::Signal(15)));
        assert_eq!(asked.contains(&Effect::Clear), singleton);
        // The loss is reported again each second.
        one.handle(at(1_020), lost());
        one.handle(at(1_030), Input::Exited(Exit::Signal(15)));
        one.handle(at(1_040), Input::Cleared);
        assert_eq!(one.status().phase, Phase::Ended);
        assert_eq!((one.status().complete, one.status().unknown), (!batch, batch));
    }
}
