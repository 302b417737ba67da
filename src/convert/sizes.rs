//! Tests that the core's size bounds are never below the encoded sizes, and that every valid message fits.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use prost::Message as _;
use wyneos_core::{
    agent::FromAgent,
    coordinator::{Message, Work},
    id::Revision,
    limits::{AGENT_MESSAGE, DECLARATION, NODE_MESSAGE, REQUEST},
    time::WallTime,
    workload::{
        Assigned, AssignmentId, Check, Constraint, Exit, FixedPort, Interruption, Kind, Operator, Order, Phase, Probe,
        Protocol, Secret, Spec, Status, limits, log,
    },
};

use super::{spec_in, spec_out, workload::Values};
use crate::v1;

/// None, one, or the maximum; and, less often, any number in between.
fn count(most: usize) -> impl Strategy<Value = usize> {
    prop_oneof![4 => Just(most), 2 => Just(0), 1 => Just(1), 2 => 0..=most]
}

fn word(most: usize) -> impl Strategy<Value = String> {
    (
        count(most),
        prop_oneof![3 => Just("x"), 1 => Just("é"), 1 => Just("😀")],
    )
        .prop_map(|(bytes, letter)| letter.repeat(bytes / letter.len()))
}

fn words(many: usize, most: usize) -> impl Strategy<Value = Vec<String>> {
    (count(many), word(most)).prop_map(|(many, word)| vec![word; many])
}

fn constraints() -> impl Strategy<Value = Vec<Constraint>> {
    let values = words(limits::VALUES, 255);
    (count(limits::CONSTRAINTS), values).prop_map(|(many, values)| {
        let operator = if values.is_empty() {
            Operator::Exists
        } else {
            Operator::NotIn
        };
        let key = "k".repeat(63);
        vec![Constraint { key, operator, values }; many]
    })
}

fn checks() -> impl Strategy<Value = Vec<Check>> {
    let port = || "p".repeat(63);
    let probe = prop_oneof![
        words(limits::CHECK_ARGS, limits::TEXT).prop_map(|words| Probe::Exec(if words.is_empty() {
            vec![String::new()]
        } else {
            words
        })),
        Just(Probe::Tcp(port())),
        Just(Probe::Grpc(port())),
        word(limits::PATH).prop_map(move |path| Probe::Http(port(), path)),
    ];
    (count(limits::CHECKS), probe).prop_map(|(many, probe)| {
        let (interval, timeout) = (limits::SPAN, Duration::from_nanos(100_000_001));
        let failures = u32::MAX;
        let address = match probe {
            Probe::Exec(_) => String::new(),
            _ => "x".repeat(limits::ADDRESS),
        };
        vec![
            Check {
                probe,
                interval,
                timeout,
                failures,
                start_grace: Some(limits::SPAN),
                address,
            };
            many
        ]
    })
}

fn spec() -> impl Strategy<Value = Spec> {
    let process = (
        word(limits::TEXT),
        words(limits::ARGS, limits::TEXT),
        word(limits::TEXT),
        word(limits::USER),
    );
    let env = (count(limits::ENV), word(limits::TEXT));
    let placing = (constraints(), constraints(), word(63), word(63), count(limits::PORTS));
    let kind = prop_oneof![
        Just(Kind::Daemon),
        Just(Kind::Service { replicas: 100_000 }),
        Just(Kind::Batch {
            replicas: 100_000,
            retries: u32::MAX
        })
    ];
    (process, env, placing, checks(), kind).prop_map(|(process, (variables, value), placing, checks, kind)| {
        let mut spec = Spec::new(&"n".repeat(63), "x");
        (spec.command, spec.args, spec.directory, spec.user) = process;
        if spec.command.is_empty() {
            spec.command.push('x');
        }
        spec.env = (0..variables)
            .map(|at| (format!("{at:V>128}"), Secret::from(value.clone())))
            .collect();
        let (constraints, affinity, spread, near, ports) = placing;
        (spec.constraints, spec.affinity, spec.spread) = (constraints, affinity, spread);
        spec.near = near.chars().map(|_| 'a').collect();
        spec.ports = (1..ports).map(|at| format!("{at:p>63}")).collect();
        spec.ports.push("p".repeat(63));
        let fixed = |(at, name): (usize, &String)| {
            // The last port is used by checks.
            let protocol = if name.starts_with(&"p".repeat(63)) {
                Protocol::Tcp
            } else {
                Protocol::Udp
            };
            let port = 65_000 + at as u16;
            (name.clone(), FixedPort { port, protocol })
        };
        spec.fixed_ports = spec.ports.iter().enumerate().map(fixed).collect();
        (spec.checks, spec.kind, spec.alone) = (checks, kind, true);
        if kind.is_batch() {
            (spec.parallelism, spec.on_interruption) = (u32::MAX, Interruption::Fail);
        } else {
            spec.offline_start = Some(limits::SPAN - Duration::from_nanos(1));
        }
        spec.update.order = Order::StopFirst;
        (spec.resources.cpu_millis, spec.resources.memory_bytes) = (100_000_000, 1 << 60);
        (spec.limits.cpu_millis, spec.limits.pids) = (100_000_000, limits::MOST_PIDS);
        (spec.restart.attempts, spec.restart.backoff) = (u32::MAX, Duration::from_nanos(60_000_001));
        (spec.restart.window, spec.restart.backoff_max) = (limits::SPAN, limits::SPAN);
        spec.reschedule_delay = Some(limits::SPAN);
        (spec.update.max_parallel, spec.update.canary) = (u32::MAX, u32::MAX);
        spec
    })
}

/// Removes just enough to satisfy the limits on total sizes.
fn trimmed(mut spec: Spec) -> Spec {
    let texts = |spec: &Spec| {
        let env = spec.env.iter().map(|(name, value)| name.len() + value.reveal().len());
        spec.args.iter().map(String::len).chain(env).sum::<usize>()
    };
    while texts(&spec) > limits::TEXTS {
        if spec.args.pop().is_none() {
            spec.env.pop_last();
        }
    }
    while spec.size() > DECLARATION {
        let gone = spec.affinity.pop().is_some()
            || spec.constraints.pop().is_some()
            || spec.checks.pop().is_some()
            || spec.args.pop().is_some();
        assert!(gone, "{} bytes", spec.size());
    }
    spec
}

fn assigned(spec: Spec) -> Assigned {
    Assigned {
        id: AssignmentId(u64::MAX),
        slot: u32::MAX,
        revision: Revision(u64::MAX),
        spec: Arc::new(spec),
    }
}

fn status(detail: String, ports: usize) -> Status {
    Status {
        phase: Phase::Ended,
        healthy: true,
        since: WallTime(253_402_300_799_999),
        pid: u32::MAX,
        restarts: u32::MAX,
        exit: Some(Exit::Code(-1)),
        complete: true,
        unknown: true,
        interrupted: true,
        started_alone: u32::MAX,
        oom_kills: u32::MAX,
        detail,
        ports: vec![u16::MAX; ports],
        last_stderr: "x".repeat(log::LAST_LINE),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn no_declaration_is_larger_than_reckoned(spec in spec()) {
        prop_assert!(spec_out(&spec, Values::Shown).encoded_len() <= spec.size());
        let assigned = assigned(spec);
        let alone = v1::SessionResponse::from(Message::Work(Box::new(Work {
            assign: vec![assigned.clone()],
            repeated: vec![assigned.id],
            ..Work::default()
        })));
        prop_assert!(alone.encoded_len() <= assigned.size() + 64);
    }

    #[test]
    fn every_valid_declaration_fits_into_every_message_that_carries_one(spec in spec()) {
        let spec = trimmed(spec);
        prop_assert_eq!(spec.check(), Ok(()));
        let wire = spec_out(&spec, Values::Shown);
        prop_assert_eq!(&spec_in(wire.clone()).unwrap(), &spec, "it is read as it was");
        let apply = v1::ApplyWorkloadRequest { spec: Some(wire), revision: Some(u64::MAX), keep_replicas: false, force: true };
        prop_assert!(apply.encoded_len() <= REQUEST);
        let assigned = assigned(spec);
        let told = v1::SessionRequest::from(FromAgent::Described { instances: vec![assigned.clone()], refused: Vec::new() });
        prop_assert!(told.encoded_len() <= AGENT_MESSAGE, "{} bytes from the agent", told.encoded_len());
        let work = Work { repeated: vec![assigned.id], assign: vec![assigned], ..Work::default() };
        let order = v1::SessionResponse::from(Message::Work(Box::new(work)));
        prop_assert!(order.encoded_len() <= NODE_MESSAGE, "{} bytes to the agent", order.encoded_len());
    }

    #[test]
    fn no_status_is_larger_than_reckoned_and_a_full_report_fits(detail in word(5_000), ports in 0..=limits::PORTS) {
        let status = status(detail, ports);
        let report = |many: usize| {
            let instances = vec![(AssignmentId(u64::MAX), status.clone()); many];
            v1::SessionRequest::from(FromAgent::Instances { instances, all: true }).encoded_len()
        };
        prop_assert!(report(1) <= status.size() + 16);
        prop_assert!(report(64) <= AGENT_MESSAGE);
    }
}

#[test]
fn the_largest_chunk_of_a_log_fits() {
    let position = log::Position {
        life: u64::MAX,
        part: u64::MAX,
        offset: u64::MAX,
    };
    let chunk = log::Chunk {
        number: u64::MAX,
        data: vec![0; log::CHUNK],
        next: position,
        at_end: true,
        error: "x".repeat(5_000),
        none_before: true,
    };
    let length = v1::SessionRequest::from(FromAgent::Log(chunk)).encoded_len();
    assert!(length <= AGENT_MESSAGE, "{length}");
}
