//! Validation of scenarios.

use std::time::Duration;

use wyneos_core::{autonomy, limits, workload};

use super::{Cluster, Declared, Expect, Fault, Kind, MAX_NODES, Order, Verb, machines::Group};

/// Minimum duration of a flap phase or of a stall of a starved process. Shorter ones cause many insignificant events.
const SHORTEST: Duration = Duration::from_millis(1);

/// Range of heartbeat intervals accepted by the coordinator.
const BEAT: Duration = Duration::from_millis(100);
const HEARTBEAT: Duration = Duration::from_secs(60);

/// Maximum memory of a declaration, in MiB: 1 TiB.
const MEMORY: u64 = 1 << 20;

pub(super) fn check_share(field: &str, share: f64) -> Result<(), String> {
    if (0.0..=1.0).contains(&share) {
        return Ok(());
    }
    Err(format!("{field}: {share} is not between 0 and 1"))
}

pub(super) fn check_cluster(cluster: &Cluster) -> Result<(), String> {
    if !(1..=MAX_NODES).contains(&cluster.nodes) {
        return Err(format!("nodes: {} is not between 1 and {MAX_NODES}", cluster.nodes));
    }
    if !(1..=cluster.nodes).contains(&cluster.zones) {
        return Err(format!(
            "zones: {} is not between 1 and the number of nodes",
            cluster.zones
        ));
    }
    if !(0.0..=0.1).contains(&cluster.clock_drift) {
        return Err(format!("clock_drift: {} is not between 0 and 0.1", cluster.clock_drift));
    }
    let is_bad = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
        label.is_empty() || label == "zone" || label.len() > limits::LABEL_KEY || !label.bytes().all(fits)
    };
    if let Some((label, _)) = cluster
        .labels
        .iter()
        .find(|(label, values)| **values == 0 || is_bad(label))
    {
        let most = limits::LABEL_KEY;
        return Err(format!(
            "labels: {label:?} needs a name other than zone, of up to {most} of a-z, A-Z, 0-9 and ._-/, and at least one value"
        ));
    }
    // The zone is one of the labels.
    if cluster.labels.len() >= limits::LABELS {
        return Err(format!("labels: more than {}", limits::LABELS - 1));
    }
    for (field, names) in [
        ("uncontained", &cluster.uncontained),
        ("overstated", &cluster.overstated),
        ("pending", &cluster.pending),
    ] {
        for name in names {
            if matches!(Group::parse(name, cluster)?, Group::Coordinator | Group::Share(_)) {
                return Err(format!("{field}: {name:?} does not name nodes by themselves"));
            }
        }
    }
    let spans = [
        ("cycle", cluster.cycle),
        ("heartbeat", cluster.heartbeat),
        ("probe_interval", cluster.probe_interval),
    ];
    for (field, span) in spans {
        if span < BEAT {
            return Err(format!("{field}: {span:?} is shorter than 100ms"));
        }
    }
    if cluster.heartbeat > HEARTBEAT {
        return Err(format!(
            "heartbeat: {:?} is longer than {HEARTBEAT:?}",
            cluster.heartbeat
        ));
    }
    Ok(())
}

pub(super) fn check_fault(fault: &Fault, cluster: &Cluster, duration: Duration) -> Result<(), String> {
    if fault.at > duration {
        return Err(format!("at: {:?} is after the end, {duration:?}", fault.at));
    }
    for target in fault.targets.iter().chain(&fault.peers) {
        Group::parse(target, cluster)?;
    }
    // (Field, is set, may be set, must be set).
    let kind = fault.kind;
    let network = matches!(
        kind,
        Kind::Cut | Kind::Loss | Kind::LargeLoss | Kind::Delay | Kind::Flap | Kind::CoordinatorCut
    );
    let restore = kind == Kind::CoordinatorRestore;
    let coordinator = restore || matches!(kind, Kind::CoordinatorCrash | Kind::CoordinatorPause);
    let disk = matches!(kind, Kind::DiskStall | Kind::DiskFail);
    let someone = !coordinator && !disk;
    let lasts = matches!(kind, Kind::Pause | Kind::SupervisorPause) || coordinator || disk;
    let rules = [
        ("targets", !fault.targets.is_empty(), !coordinator, someone),
        (
            "peers",
            !fault.peers.is_empty(),
            (network && kind != Kind::CoordinatorCut) || kind == Kind::Lie,
            false,
        ),
        ("one_way", fault.one_way, network, false),
        (
            "for",
            fault.lasts.is_some(),
            !matches!(
                kind,
                Kind::Restart | Kind::ClockJump | Kind::SupervisorKill | Kind::Misplace
            ),
            lasts,
        ),
        ("loss", fault.loss.is_some(), kind == Kind::Loss, kind == Kind::Loss),
        ("load", fault.load.is_some(), kind == Kind::Load, kind == Kind::Load),
        ("delay", fault.delay.is_some(), kind == Kind::Delay, kind == Kind::Delay),
        ("period", fault.period.is_some(), kind == Kind::Flap, kind == Kind::Flap),
        (
            "speed",
            fault.speed.is_some(),
            kind == Kind::Starve,
            kind == Kind::Starve,
        ),
        (
            "pause",
            fault.pause.is_some(),
            kind == Kind::Starve,
            kind == Kind::Starve,
        ),
        (
            "jump",
            fault.jump.is_some(),
            kind == Kind::ClockJump,
            kind == Kind::ClockJump,
        ),
        ("taken", fault.taken.is_some(), restore, restore),
        ("back", fault.back, kind == Kind::ClockJump, false),
    ];
    for (field, set, may, must) in rules {
        if set && !may {
            return Err(format!("{field}: means nothing for this kind of fault"));
        }
        if must && !set {
            return Err(format!("{field}: missing, and this kind of fault needs it"));
        }
    }
    if fault.taken.is_some_and(|taken| taken >= fault.at) {
        return Err("taken: not before at".to_owned());
    }
    check_share("loss", fault.loss.unwrap_or_default())?;
    check_share("load", fault.load.unwrap_or_default())?;
    check_share("speed", fault.speed.unwrap_or_default())?;
    for (field, span) in [("period", fault.period), ("pause", fault.pause)] {
        if let Some(span) = span.filter(|span| *span < SHORTEST) {
            return Err(format!("{field}: {span:?} is shorter than {SHORTEST:?}"));
        }
    }
    Ok(())
}

pub(super) fn check_declared(declared: &Declared, duration: Duration) -> Result<(), String> {
    if declared.at > duration {
        return Err(format!("at: {:?} is after the end, {duration:?}", declared.at));
    }
    if let Some(memory) = declared.memory.filter(|memory| *memory > MEMORY) {
        return Err(format!("memory: {memory} is more than {MEMORY} MiB"));
    }
    declared.spec().check().map_err(|error| error.to_string())
}

/// Checks that a named workload is declared by a given time.
fn check_workload(name: &str, workloads: &[&Declared], by: Duration) -> Result<(), String> {
    match workloads
        .iter()
        .filter(|declared| declared.name == name)
        .map(|declared| declared.at)
        .min()
    {
        None => Err(format!("workload: there is no {name:?} in this scenario")),
        Some(first) if first > by => Err(format!("workload: {name:?} is declared at {first:?} only")),
        Some(_) => Ok(()),
    }
}

pub(super) fn check_order(
    order: &Order,
    cluster: &Cluster,
    workloads: &[&Declared],
    duration: Duration,
) -> Result<(), String> {
    if order.at > duration {
        return Err(format!("at: {:?} is after the end, {duration:?}", order.at));
    }
    let on_workload = order.on_workload().is_some();
    let autonomy = order.verb == Verb::Autonomy;
    let on_nodes = !(on_workload || autonomy || order.verb == Verb::Approve);
    // (Field, is set, may be set, must be set).
    let rules = [
        ("targets", !order.targets.is_empty(), on_nodes, on_nodes),
        ("workload", !order.workload.is_empty(), on_workload, on_workload),
        (
            "replicas",
            order.replicas.is_some(),
            order.verb == Verb::Scale,
            order.verb == Verb::Scale,
        ),
        ("heal", order.heal.is_some(), autonomy, false),
        ("rebalance", order.rebalance.is_some(), autonomy, false),
        ("preempt", order.preempt.is_some(), autonomy, false),
        ("deadline", order.deadline.is_some(), order.verb == Verb::Drain, false),
        (
            "interval",
            order.interval.is_some(),
            order.verb == Verb::SetHeartbeat,
            false,
        ),
    ];
    for (field, set, may, must) in rules {
        if set && !may {
            return Err(format!("{field}: means nothing for this command"));
        }
        if must && !set {
            return Err(format!("{field}: missing, and this command needs it"));
        }
    }
    if autonomy && order.heal.or(order.rebalance).or(order.preempt).is_none() {
        return Err("heal, rebalance, preempt: autonomy needs one of them".to_owned());
    }
    if let Some(replicas) = order.replicas.filter(|replicas| *replicas > workload::limits::REPLICAS) {
        return Err(format!("replicas: {replicas}; at most {}", workload::limits::REPLICAS));
    }
    if let Some(interval) = order.interval.filter(|interval| !(BEAT..=HEARTBEAT).contains(interval)) {
        return Err(format!(
            "interval: {interval:?} is not between {BEAT:?} and {HEARTBEAT:?}"
        ));
    }
    if on_workload {
        return check_workload(&order.workload, workloads, order.at);
    }
    for target in &order.targets {
        if Group::parse(target, cluster)? == Group::Coordinator {
            return Err("targets: the coordinator is no node".to_owned());
        }
    }
    Ok(())
}

pub(super) fn check_expect(
    expect: &Expect,
    cluster: &Cluster,
    workloads: &[&Declared],
    duration: Duration,
) -> Result<(), String> {
    for (field, time) in [("by", expect.by), ("after", expect.after)] {
        if let Some(time) = time.filter(|time| *time > duration) {
            return Err(format!("{field}: {time:?} is after the end, {duration:?}"));
        }
    }
    if let (Some(after), Some(by)) = (expect.after, expect.by)
        && after >= by
    {
        return Err(format!("by: {by:?} is not later than after, {after:?}"));
    }
    if let Some(rule) = expect
        .decision
        .as_deref()
        .filter(|rule| !autonomy::RULES.contains(rule))
    {
        let rules = autonomy::RULES.join(", ");
        return Err(format!("decision: {rule:?} is no rule; there are {rules}"));
    }
    for target in expect.targets.iter().chain(&expect.near).chain(&expect.far) {
        if Group::parse(target, cluster)? == Group::Coordinator {
            return Err("targets, near, far: the coordinator is no node".to_owned());
        }
    }
    let asked = [
        expect.running.is_some(),
        expect.starts_at_most.is_some(),
        expect.done.is_some(),
    ];
    if expect.workload.is_none() && asked.contains(&true) {
        return Err("running, starts_at_most, done: they belong to a workload, and none is named".to_owned());
    }
    if let Some(workload) = &expect.workload {
        check_workload(workload, workloads, duration)?;
        let others = [
            ("targets", !expect.targets.is_empty()),
            ("liveness", expect.liveness.is_some()),
            ("told", expect.told.is_some()),
            ("decision", expect.decision.is_some()),
            ("lapse", expect.lapse),
            ("finding", expect.finding.is_some()),
            ("near", !expect.near.is_empty()),
            ("far", !expect.far.is_empty()),
            ("never", expect.never),
            ("transitions_at_most", expect.transitions_at_most.is_some()),
        ];
        if let Some((field, _)) = others.into_iter().find(|(_, set)| *set) {
            return Err(format!("{field}: means nothing for a workload"));
        }
        let timed = usize::from(expect.by.is_some()) + usize::from(expect.at_end);
        return match (asked, timed) {
            ([true, false, false], 1) | ([false, true, false] | [false, false, true], 0) => Ok(()),
            _ => Err("workload: either running with one of by and at_end, or starts_at_most, or done".to_owned()),
        };
    }
    let asks = [expect.by.is_some(), expect.never, expect.at_end];
    let asked = asks.iter().filter(|&&asks| asks).count();
    let sides = !expect.near.is_empty() || !expect.far.is_empty();
    if sides && expect.finding.is_none() {
        return Err("near, far: they belong to a finding".to_owned());
    }
    if !expect.targets.is_empty() && expect.finding.is_some() {
        return Err("targets: a finding has near and far instead".to_owned());
    }
    let lasting = [expect.liveness.is_some(), expect.finding.is_some()];
    let passing = [expect.told.is_some(), expect.decision.is_some(), expect.lapse];
    let count = |about: &[bool]| about.iter().filter(|&&about| about).count();
    let counted = usize::from(expect.transitions_at_most.is_some());
    match (asked, count(&lasting), count(&passing), counted) {
        (1, 1, 0, 0) | (0, 0, 0, 1) => Ok(()),
        (1, 0, 1, 0) if !expect.at_end => Ok(()),
        _ => Err(
            "an expectation is one of liveness and finding with one of by, never and at_end; one of told, decision and lapse with by \
             or never; or transitions_at_most"
                .to_owned(),
        ),
    }
}
