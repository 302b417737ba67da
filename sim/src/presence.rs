//! Presence of the nodes that the coordinator may judge; `truth` defines the terms.

use std::collections::BTreeSet;

use crate::{machines::Machines, scene::Scene, truth::TOLERATED};

/// Updates the recorded presence of nodes if it may have changed.
pub(crate) fn look_who_is_there(scene: &mut Scene<'_>, machines: &Machines) {
    if !std::mem::take(&mut scene.witness.truth.stale) {
        return;
    }
    let reached = reached(scene, machines);
    for node in 0..scene.wires.hub() {
        let machine = machines.of(node);
        let here = machine.powered && machine.runs() && reached.contains(&node);
        scene.witness.truth.note(node, here, scene.stage.now);
    }
}

/// Whether a node cannot do any work: no power, no process, a stalled process, or no path to it.
fn is_gone(scene: &Scene<'_>, machines: &Machines, node: usize) -> bool {
    let machine = machines.of(node);
    let still = machine
        .still_since()
        .is_some_and(|since| scene.stage.now.since(since) > TOLERATED);
    !machine.powered || !machine.runs() || still || !reached(scene, machines).contains(&node)
}

/// Whether the coordinator can hear the node directly.
pub(crate) fn is_heard(scene: &Scene<'_>, machines: &Machines, node: usize) -> bool {
    let machine = machines.of(node);
    machine.powered && machine.runs() && !machine.is_frozen() && !scene.wires.is_cut(scene.wires.hub(), node)
}

/// Whether the node may be given up: it is gone, or was until so recently that its return need not be known.
pub(crate) fn may_be_given_up(scene: &Scene<'_>, machines: &Machines, node: usize) -> bool {
    is_gone(scene, machines, node)
        || scene
            .witness
            .truth
            .was_away(node, scene.stage.now, scene.wires.net.is_lossy())
}

/// Whether one of two nodes is assigned to probe the other.
fn are_paired(machines: &Machines, one: usize, other: usize) -> bool {
    machines.of(one).targets.contains(&other) || machines.of(other).targets.contains(&one)
}

/// Whether a node can relay for others: it runs, is a member, and has probe targets.
fn relays(machines: &Machines, node: usize) -> bool {
    let machine = machines.of(node);
    machine.powered && machine.runs() && !machine.is_frozen() && !machine.targets.is_empty()
}

/// Nodes with a path from and to the coordinator, possibly via other nodes.
pub(crate) fn reached(scene: &Scene<'_>, machines: &Machines) -> BTreeSet<usize> {
    let hub = scene.wires.hub();
    let mut reached: BTreeSet<usize> = (0..hub).filter(|&node| !scene.wires.is_cut(hub, node)).collect();
    let mut left: Vec<usize> = (0..hub).filter(|node| !reached.contains(node)).collect();
    let mut edge: Vec<usize> = match left.is_empty() {
        true => Vec::new(),
        false => reached.iter().copied().filter(|&node| relays(machines, node)).collect(),
    };
    while let Some(from) = edge.pop() {
        left.retain(|&node| {
            let next = !scene.wires.is_cut(from, node) && are_paired(machines, from, node);
            if next {
                reached.insert(node);
                edge.extend(relays(machines, node).then_some(node));
            }
            !next
        });
    }
    reached
}
