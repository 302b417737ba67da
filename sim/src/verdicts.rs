//! Invariants of the coordinator's verdicts, given its possible knowledge.

use std::time::Duration;

use wyneos_core::{
    coordinator::Rules,
    node::{Cause, Liveness},
    time::Time,
};

use crate::{known::SETTLED, machines::Machines, names::name, scene::Scene};

/// Maximum age of a cluster-wide evaluation in uses other than verdicts.
pub(crate) const RECKONED: Duration = Duration::from_millis(200);

/// Time after a stall during which a process may report it and is then not counted as an observer.
const CALM: Duration = Duration::from_secs(60);

/// Time without any answer after which an observer is more likely to be isolated itself.
const TOGETHER: Duration = Duration::from_millis(1_500);

/// Minimum simulated time in which the coordinator's clock advances by `span`, whatever its rate.
fn at_least(scene: &Scene<'_>, span: Duration) -> Duration {
    let span = span.mul_f64(1.0 / (1.0 + scene.stage.scenario.cluster.clock_drift));
    span.saturating_sub(Duration::from_millis(1))
}

/// Whether more than half of all members have been silent for longer than a heartbeat may be late, plus `margin`, so
/// that it cannot be known whether they failed or the coordinator is isolated.
pub(crate) fn is_ambiguous(scene: &Scene<'_>, margin: Duration) -> bool {
    let cluster = &scene.stage.scenario.cluster;
    let limit = (slowest_heartbeat(scene) * 3 / 2).mul_f64(1.0 + 2.0 * cluster.clock_drift) + margin;
    let (mut members, mut silent) = (0, 0);
    for (&node, believed) in &scene.witness.known.believed {
        let settled = scene.stage.now.since(believed.since) >= margin;
        let is_member = match believed.liveness {
            Liveness::Online | Liveness::Suspect | Liveness::Unreachable => true,
            Liveness::Offline | Liveness::Left => !settled,
            Liveness::Unseen => false,
        };
        if scene.witness.pending_nodes.contains(&node) || !is_member {
            continue;
        }
        members += 1;
        // A node that its peers hear is not silent.
        let in_doubt = believed.liveness == Liveness::Suspect && settled;
        silent += usize::from(in_doubt && scene.witness.known.stillness(node, scene.stage.now) >= limit);
    }
    2 * silent > members + usize::from(members <= 2)
}

/// The longest heartbeat interval of any node.
fn slowest_heartbeat(scene: &Scene<'_>) -> Duration {
    let set = scene.stage.scenario.commands.iter().filter_map(|order| order.interval);
    set.fold(scene.stage.scenario.cluster.heartbeat, Duration::max)
}

/// Whether half of all nodes, and at least three, were declared offline for silence within the last five minutes.
fn is_breaker_open(scene: &Scene<'_>) -> bool {
    let rules = Rules::default();
    let (mut members, mut fell) = (0, 0);
    for (node, believed) in &scene.witness.known.believed {
        if scene.witness.pending_nodes.contains(node) {
            continue;
        }
        match believed.liveness {
            Liveness::Online | Liveness::Suspect | Liveness::Unreachable => members += 1,
            Liveness::Offline if believed.cause == Cause::HostSilent => {
                let lately = scene.stage.now.since(believed.since) < at_least(scene, rules.breaker_window);
                fell += usize::from(lately);
            }
            _ => {}
        }
    }
    fell >= rules.breaker_min && 2 * fell >= members + fell
}

/// Whether an observer's report counts and has certainly reached the coordinator.
fn is_sure_witness(scene: &Scene<'_>, machines: &Machines, observer: usize, subject: usize) -> bool {
    let hub = scene.wires.hub();
    let machine = machines.of(observer);
    let calm = machine.starving.is_none()
        && !machine.is_frozen()
        && machine.thawed.is_none_or(|at| scene.stage.now.since(at) >= CALM);
    let online = scene.witness.known.of(observer).is_some_and(|believed| {
        believed.liveness == Liveness::Online && scene.stage.now.since(believed.since) >= SETTLED
    });
    let welcomed = scene.witness.known.welcomed.get(&observer);
    let joined = !scene.wires.is_cut(observer, hub);
    observer != subject
        && calm
        && online
        && joined
        && machine.powered
        && machine.runs()
        && machine.targets.contains(&subject)
        && machine.lies.is_none()
        && welcomed.is_some_and(|at| scene.stage.now.since(*at) >= SETTLED)
        && !scene.witness.known.untrusted.contains_key(&observer)
        && scene.witness.known.silence(observer, scene.stage.now) < slowest_heartbeat(scene) * 3 / 2
        && !machine.streams.values().any(|stream| scene.wires.is_stuck(*stream))
}

/// Checks that a node was declared offline only after a sufficient silence, that no reliable observer contradicts it,
/// and that silence was conclusive.
pub(crate) fn check_silence(scene: &mut Scene<'_>, machines: &Machines, node: usize, cause: Cause, is_behind: bool) {
    let rules = Rules::default();
    let now = scene.stage.now;
    let needed = match cause {
        Cause::AgentGone => rules.gone_window,
        Cause::HostSilent => rules.window,
        _ => scene.stage.scenario.cluster.suspect_grace,
    };
    let silence = scene.witness.known.silence(node, now);
    if silence < at_least(scene, needed) {
        scene.stage.fail(format!(
            "{} is declared offline ({cause:?}) {silence:?} after its session said something, which is less than {needed:?}",
            name(node)
        ));
    }
    if cause != Cause::AgentGone {
        if is_ambiguous(scene, Duration::ZERO) {
            scene
                .stage
                .fail(format!("{} is declared offline though most are silent", name(node)));
        }
        if is_breaker_open(scene) {
            scene
                .stage
                .fail(format!("{} is declared offline though the breaker is open", name(node)));
        }
        if is_behind {
            scene.stage.fail(format!(
                "{} is declared offline while the store stands still",
                name(node)
            ));
        }
    }
    check_answers(scene, machines, node, needed);
}

/// Checks that no reliable observer received an answer of the node within the window.
fn check_answers(scene: &mut Scene<'_>, machines: &Machines, node: usize, window: Duration) {
    let now = scene.stage.now;
    let settled = now.since(scene.witness.known.resumed) >= SETTLED;
    if scene.wires.net.is_lossy() || !settled {
        return;
    }
    let window = at_least(scene, window).min(Rules::default().window);
    let answers = scene.witness.known.answers.get(&node).into_iter().flatten();
    let lately = answers.filter(|heard| now.since(heard.told_of(now)) < window && now.since(heard.since) >= SETTLED);
    let hears_others = |observer| {
        let last = scene.witness.known.answered.get(observer);
        last.is_some_and(|at| now.since(*at) < TOGETHER)
    };
    let witness = lately
        .filter(|heard| hears_others(&heard.observer) && is_sure_witness(scene, machines, heard.observer, node))
        .map(|heard| (heard.observer, now.since(heard.told_of(now))))
        .next();
    if let Some((observer, before)) = witness {
        scene.stage.fail(format!(
            "{} is declared offline, and answered {} {before:?} before",
            name(node),
            name(observer)
        ));
    }
}

/// Whether a node considers itself a member.
fn takes_itself_for_a_member(scene: &Scene<'_>, machines: &Machines, node: usize) -> bool {
    machines.of(node).is_member(scene.stage.now)
}

/// Checks that a node declared offline at `at`, and not heard since, no longer considers itself a member.
pub(crate) fn check_lease(scene: &mut Scene<'_>, machines: &Machines, node: usize, at: Time) {
    let last = scene.witness.transitions.iter().rfind(|(_, of, _)| *of == node);
    if last.is_some_and(|(last, ..)| *last == at) && takes_itself_for_a_member(scene, machines, node) {
        scene.stage.fail(format!(
            "{} takes itself for a member after it was given up",
            name(node)
        ));
    }
}
