//! Who is there, of the nodes that the coordinator may judge; the words are those of `truth`.

use std::collections::BTreeSet;

use crate::{machines::Machines, scene::Scene, truth::TOLERATED};

/// Takes note of who is there, when that may have changed.
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

/// True when nobody could have work done there: no power, no process, one that stands still, or no way to it.
fn is_gone(scene: &Scene<'_>, machines: &Machines, node: usize) -> bool {
    let machine = machines.of(node);
    let still = machine
        .still_since()
        .is_some_and(|since| scene.stage.now.since(since) > TOLERATED);
    !machine.powered || !machine.runs() || still || !reached(scene, machines).contains(&node)
}

/// True when the coordinator can hear the node itself.
pub(crate) fn is_heard(scene: &Scene<'_>, machines: &Machines, node: usize) -> bool {
    let machine = machines.of(node);
    machine.powered && machine.runs() && !machine.is_frozen() && !scene.wires.is_cut(scene.wires.hub(), node)
}

/// True when the node may be given up: it is gone, or was until so lately that nobody need know better.
pub(crate) fn may_be_given_up(scene: &Scene<'_>, machines: &Machines, node: usize) -> bool {
    is_gone(scene, machines, node)
        || scene
            .witness
            .truth
            .was_away(node, scene.stage.now, scene.wires.net.is_lossy())
}

/// True when one of two nodes was asked to probe the other.
fn are_paired(machines: &Machines, one: usize, other: usize) -> bool {
    machines.of(one).targets.contains(&other) || machines.of(other).targets.contains(&one)
}

/// True when others may be reached over the node: it runs, takes part, and knows whom to probe.
fn relays(machines: &Machines, node: usize) -> bool {
    let machine = machines.of(node);
    machine.powered && machine.runs() && !machine.is_frozen() && !machine.targets.is_empty()
}

/// The nodes to which there is a way from the coordinator and back, over others if need be.
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
