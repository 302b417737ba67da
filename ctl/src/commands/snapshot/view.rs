//! A snapshot for people: a header, and a few lines per section.

use std::collections::BTreeMap;

use wyneos::v1;
use wyneos_core::telemetry::Channel;

use super::super::{Names, mesh, predictions, why};
use crate::text::{self, Fields, Table, clean};

/// Number of hexadecimal digits of a digest that are shown.
const DIGEST: usize = 16;

/// Number of decisions and crossings that are shown.
const FEW: usize = 3;

fn digest(bytes: &[u8]) -> String {
    text::hex(bytes).chars().take(DIGEST).collect()
}

/// The complete view. Without `age`, the age is computed from the snapshot's time.
pub(in crate::commands) fn full(
    snapshot: &v1::Snapshot,
    seal: Option<&v1::Seal>,
    age: Option<&prost_types::Duration>,
) -> String {
    let age = match age {
        Some(age) => text::span_of(Some(age)),
        None => text::age(snapshot.time.as_ref()),
    };
    let mut fields = Fields::default();
    fields
        .add("Cluster", clean(&snapshot.cluster_id))
        .add("Epoch", snapshot.epoch.to_string())
        .add("Cycle", snapshot.cycle.to_string())
        .add("Age", format!("{age} ({})", text::timestamp(snapshot.time.as_ref())))
        .add("Seal", seal.map_or_else(|| "-".to_owned(), |seal| digest(&seal.digest)));
    if let Some(report) = &snapshot.coherence {
        fields.add("Score", format!("{:.1}", report.score));
    }
    let names = Names::new(&snapshot.nodes);
    let mut text = fields.text();
    text += &format!("\nNodes\n{}", nodes(&snapshot.nodes));
    if !snapshot.workloads.is_empty() {
        text += &format!("\nWork\n  {}\n", work(&snapshot.workloads));
    }
    text += &section("Telemetry", snapshot.telemetry.as_ref(), telemetry);
    text += &section("Predictive Engine", snapshot.predictive.as_ref(), |overview| {
        predictive(overview, &names)
    });
    text += &section("Mesh", snapshot.mesh.as_ref(), |topology| {
        format!(
            "  {}\n{}",
            mesh::summary(topology),
            mesh::findings(&topology.findings, &names)
        )
    });
    text += &section("Autonomy", snapshot.autonomy.as_ref(), |state| autonomy(state, &names));
    text += &section("Behaviour", snapshot.behaviour.as_ref(), |state| {
        behaviour(state, &names)
    });
    text += &section("Integrity", snapshot.integrity.as_ref(), integrity);
    text += &section("Coherence", snapshot.coherence.as_ref(), coherence);
    text
}

/// Desired number of instances, and the number of missing ones.
fn work(workloads: &[v1::Workload]) -> String {
    let sum = |of: fn(&v1::Workload) -> u32| workloads.iter().map(of).map(u64::from).sum::<u64>();
    let (desired, unwell) = (sum(|one| one.desired), sum(|one| one.unwell));
    let mut told = format!(
        "{} of {desired} instances of {}",
        desired.saturating_sub(unwell),
        text::count(workloads.len() as u64, "workload")
    );
    for (count, what) in [
        (sum(|one| one.failing), "failing"),
        (sum(|one| one.lost), "lost"),
        (sum(|one| one.unknown), "unknown"),
    ] {
        if count > 0 {
            told += &format!(", {count} {what}");
        }
    }
    told
}

fn section<T>(title: &str, section: Option<&T>, view: impl FnOnce(&T) -> String) -> String {
    section.map_or_else(String::new, |section| format!("\n{title}\n{}", view(section)))
}

/// Counts by value, in the order of `of`'s values.
fn tally(values: impl Iterator<Item = i32>, of: impl Fn(i32) -> String) -> String {
    let mut counts: BTreeMap<i32, u64> = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    let counts = counts
        .into_iter()
        .map(|(value, count)| format!("{count} {}", of(value)));
    counts.collect::<Vec<_>>().join(", ")
}

fn nodes(nodes: &[v1::NodeRow]) -> String {
    let all = text::count(nodes.len() as u64, "node");
    if nodes.is_empty() {
        return format!("  {all}\n");
    }
    let liveness = tally(nodes.iter().map(|node| node.liveness), text::painted_liveness);
    let eligibility = tally(nodes.iter().map(|node| node.eligibility), text::eligibility);
    let heard = nodes.iter().filter(|node| text::load(node) != text::NONE);
    let loads: Vec<u64> = heard.map(|node| u64::from(node.load_percent)).collect();
    let mean = match loads.len() as u64 {
        0 => text::NONE.to_owned(),
        number => format!("{}%", loads.iter().sum::<u64>() / number),
    };
    format!("  {all}: {liveness}; {eligibility}; mean load {mean}\n")
}

fn telemetry(overview: &v1::TelemetryOverview) -> String {
    let mut table = Table::new(["CHANNEL", "NODES", "MIN", "MEAN", "P50", "P95", "MAX"]);
    for channel in overview.channels.iter().filter(|channel| channel.count > 0) {
        let unit = Channel::from_name(&channel.channel).map_or_else(String::new, |known| known.unit().to_string());
        let show = |value| text::value(value, &unit);
        table.row([
            clean(&channel.channel),
            channel.count.to_string(),
            show(channel.min),
            show(channel.mean),
            show(channel.p50),
            show(channel.p95),
            show(channel.max),
        ]);
    }
    if table.is_empty() {
        return "  no readings\n".to_owned();
    }
    table.text(2)
}

fn predictive(overview: &v1::PredictiveOverview, names: &Names) -> String {
    let mut text = format!("  {}\n", predictions::summary(overview));
    for crossing in overview.crossings.iter().take(FEW) {
        text += &format!(
            "  {} {} reaches its threshold in {}\n",
            names.of(&crossing.node_id),
            clean(&crossing.channel),
            text::span_of(crossing.time_to_threshold.as_ref())
        );
    }
    text
}

fn autonomy(state: &v1::AutonomyState, names: &Names) -> String {
    let total = text::count(state.decisions_total, "decision");
    // The modes are not part of a snapshot: `wynectl autonomy` shows them.
    let mut text = format!("  {total}, {} open\n", state.open);
    for decision in state.recent.iter().take(FEW) {
        let about = match decision.node_id.as_str() {
            "" => String::new(),
            node => format!(", {}", names.of(node)),
        };
        let prefix = format!("  {}{about}: ", text::ago(decision.time.as_ref()));
        text += &text::hanging(&prefix, &clean(&decision.action), 4, Some(text::view_columns()));
    }
    text
}

fn behaviour(state: &v1::BehaviourState, names: &Names) -> String {
    let mut text = format!(
        "  {} issued, {} done, {} failed, {} expired, {} in progress\n",
        text::count(state.issued, "directive"),
        state.done,
        state.failed,
        state.expired,
        state.pending.len()
    );
    for pending in state.pending.iter().take(FEW) {
        text += &format!(
            "  {} {} of {}: {}\n",
            clean(&pending.order),
            pending.id,
            names.of(&pending.node_id),
            text::directive(pending.state)
        );
    }
    text
}

fn integrity(state: &v1::IntegrityState) -> String {
    let told = format!(
        "key {}, after epoch {} cycle {}; {}, {}",
        text::hex(&state.public_key),
        state.previous_epoch,
        state.previous_cycle,
        text::count(state.binaries.len() as u64, "agent binary digest"),
        text::count(state.configs.len() as u64, "agent configuration")
    );
    text::hanging("  ", &told, 4, Some(text::view_columns()))
}

fn coherence(report: &v1::CoherenceReport) -> String {
    let broken: Vec<v1::Invariant> = report
        .invariants
        .iter()
        .filter(|invariant| !invariant.holds)
        .cloned()
        .collect();
    let (all, holding) = (report.invariants.len(), report.invariants.len() - broken.len());
    format!("  {holding} of {all} invariants hold\n{}", why::invariants(&broken))
}
