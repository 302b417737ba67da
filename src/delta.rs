//! Application of WatchSnapshots deltas to a local snapshot, so that a reader need not fetch it again every cycle.

use std::collections::HashSet;

use crate::v1;

/// Reason why a delta cannot be applied. The state is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The delta starts from another snapshot.
    #[error(
        "the delta is a step from epoch {} cycle {}, the state is epoch {} cycle {}; watch again for the full state",
        .from.0, .from.1, .state.0, .state.1
    )]
    From {
        /// (epoch, cycle) that the delta starts from.
        from: (u64, u64),
        /// (epoch, cycle) of the state.
        state: (u64, u64),
    },
    /// The delta belongs to another cluster.
    #[error("the delta is of cluster {delta:?}, the state is of {state:?}; watch again for the full state")]
    Cluster {
        /// Cluster of the delta.
        delta: String,
        /// Cluster of the state.
        state: String,
    },
    /// The delta is empty.
    #[error("the delta has no `changed`, which is always there; the coordinator is at fault")]
    Empty,
}

/// Advances `state` to the snapshot that `delta` leads to. If both come from the same WatchSnapshots call, the result
/// encodes like the answer of GetSnapshot with the same selection.
pub fn apply(state: &mut v1::Snapshot, delta: v1::SnapshotDelta) -> Result<(), ApplyError> {
    let v1::SnapshotDelta {
        from_epoch,
        from_cycle,
        changed,
        removed_nodes,
        removed_links,
        removed_workloads,
        removed_assignments,
    } = delta;
    if (from_epoch, from_cycle) != (state.epoch, state.cycle) {
        return Err(ApplyError::From {
            from: (from_epoch, from_cycle),
            state: (state.epoch, state.cycle),
        });
    }
    let changed = changed.ok_or(ApplyError::Empty)?;
    if changed.cluster_id != state.cluster_id {
        return Err(ApplyError::Cluster {
            delta: changed.cluster_id,
            state: state.cluster_id.clone(),
        });
    }
    state.epoch = changed.epoch;
    state.cycle = changed.cycle;
    state.time = changed.time;
    state.cycle_interval = changed.cycle_interval;
    if !changed.coordinator_version.is_empty() {
        state.coordinator_version = changed.coordinator_version;
    }
    merge(&mut state.nodes, changed.nodes, &removed_nodes, |row| &row.id);
    merge(&mut state.links, changed.links, &removed_links, |row| &row.observer_id);
    merge(&mut state.workloads, changed.workloads, &removed_workloads, |row| {
        &row.name
    });
    merge(
        &mut state.assignments,
        changed.assignments,
        &removed_assignments,
        |row| &row.id,
    );
    replace(&mut state.telemetry, changed.telemetry);
    replace(&mut state.predictive, changed.predictive);
    replace(&mut state.mesh, changed.mesh);
    replace(&mut state.autonomy, changed.autonomy);
    replace(&mut state.behaviour, changed.behaviour);
    replace(&mut state.integrity, changed.integrity);
    replace(&mut state.coherence, changed.coherence);
    Ok(())
}

/// Replaces a section unless it is absent, which means unchanged.
fn replace<T>(section: &mut Option<T>, changed: Option<T>) {
    if changed.is_some() {
        *section = changed;
    }
}

/// Merges `changed` into `rows`, which stay sorted by id. Most cycles add no row, and then none is moved.
fn merge<T>(rows: &mut Vec<T>, changed: Vec<T>, removed: &[String], id: impl Fn(&T) -> &str) {
    if !removed.is_empty() {
        let removed: HashSet<&str> = removed.iter().map(String::as_str).collect();
        rows.retain(|row| !removed.contains(id(row)));
    }
    let mut new = Vec::new();
    for row in changed {
        match rows.binary_search_by(|old| id(old).cmp(id(&row))) {
            Ok(at) => rows[at] = row,
            Err(_) => new.push(row),
        }
    }
    if !new.is_empty() {
        rows.append(&mut new);
        rows.sort_by(|one, other| id(one).cmp(id(other)));
    }
}

#[cfg(test)]
mod tests;
