//! `wynectl mesh`: reachability of nodes.

use std::{cmp::Reverse, time::Duration};

use tonic::transport::Channel;
use wyneos::{client, v1};
use wyneos_core::mesh::FindingKind;

use super::{Names, sections};
use wyneos_core::text::Quoted;

use crate::{
    args::{MeshArgs, MeshCommand},
    context::Context,
    failure::Failure,
    text::{self, Colour, Fields, Table, clean, paint},
};

/// Shows the mesh, or answers a query about it.
pub(crate) async fn run(context: &Context, args: MeshArgs) -> Result<(), Failure> {
    let channel = context.connect().await?;
    if let Some(MeshCommand::Rtt { from, to }) = args.command {
        return rtt(context, channel, from, to).await;
    }
    let worst = args.worst;
    let answer = sections(context, channel, &[v1::Section::Nodes, v1::Section::Mesh]).await?;
    context.show(&answer, |answer| {
        view(&answer.snapshot.clone().unwrap_or_default(), worst)
    })
}

/// Shows the round-trip time between two nodes.
async fn rtt(context: &Context, channel: Channel, from: String, to: String) -> Result<(), Failure> {
    let what = format!(
        "estimate the round-trip time between {} and {}",
        Quoted(&from),
        Quoted(&to)
    );
    let mut client = client::cluster(channel);
    let request = v1::EstimateRttRequest { from, to };
    let answer = context.call(&what, client.estimate_rtt(request)).await?;
    context.show(&answer, |answer| {
        let span = |span: &Option<prost_types::Duration>| {
            let span = span.and_then(|span| Duration::try_from(span).ok());
            span.map_or("-".to_owned(), |span| format!("{:.3} ms", span.as_secs_f64() * 1e3))
        };
        let mut fields = Fields::default();
        fields.add("Estimate", span(&answer.estimate));
        let measured = match answer.measured {
            None => "- (neither probes the other)".to_owned(),
            measured => span(&measured),
        };
        fields.add("Measured", measured);
        fields.add(
            "Error",
            format!(
                "median {:.0}%, 90th percentile {:.0}%, over {} that have both",
                answer.error_median * 100.0,
                answer.error_p90 * 100.0,
                text::count(answer.pairs, "pair")
            ),
        );
        fields.text()
    })
}

pub(super) fn view(snapshot: &v1::Snapshot, worst: usize) -> String {
    let names = Names::new(&snapshot.nodes);
    let Some(mesh) = &snapshot.mesh else {
        return "the coordinator sent no mesh\n".to_owned();
    };
    let mut view = format!("{}\n", summary(mesh));
    view += &findings(&mesh.findings, &names);
    view += &components(mesh, &names);
    view += &worst_links(snapshot, &names, worst);
    if !mesh.unobserved.is_empty() {
        let mut table = Table::new(["OBSERVER", "SUBJECT"]);
        for link in &mesh.unobserved {
            table.row([names.of(&link.observer_id), names.of(&link.subject_id)]);
        }
        let (shown, all) = (mesh.unobserved.len(), mesh.unobserved_links);
        view += &format!("\nUnreported links ({shown} of {all}):\n{}", table.text(2));
    }
    view
}

/// The mesh in one line.
pub(super) fn summary(mesh: &v1::MeshTopology) -> String {
    format!(
        "{}, {} of {} live ({} lossy), {} down, {} unobserved, {}",
        text::count(mesh.nodes, "node"),
        mesh.live_links,
        text::count(mesh.planned_links, "link"),
        mesh.lossy_links,
        mesh.down_links,
        mesh.unobserved_links,
        text::count(mesh.components_total, "component")
    )
}

/// Open findings of the mesh.
pub(super) fn findings(findings: &[v1::Finding], names: &Names) -> String {
    if findings.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["FINDING", "SINCE", "NEAR", "FAR", "MEANING"]);
    for finding in findings {
        let side = |ids: &[String]| {
            if ids.is_empty() {
                "-".to_owned()
            } else {
                names.list(ids)
            }
        };
        let known = v1::FindingKind::try_from(finding.kind).ok();
        let meaning = known
            .and_then(|kind| FindingKind::try_from(kind).ok())
            .map_or("", FindingKind::meaning);
        let meaning = match finding.detail.as_str() {
            "" => meaning.to_owned(),
            detail => format!("{meaning} ({})", clean(detail)),
        };
        table.row([
            paint(Colour::Red, &text::finding_kind(finding.kind)),
            text::ago(finding.since.as_ref()),
            side(&finding.near),
            side(&finding.far),
            meaning,
        ]);
    }
    format!("\nFindings\n{}", table.view(2))
}

fn components(mesh: &v1::MeshTopology, names: &Names) -> String {
    // The only component contains every node, and its members are omitted.
    if mesh.components_total < 2 {
        return String::new();
    }
    let mut table = Table::new(["COMPONENT", "NODES", "MEMBERS"]);
    for (number, component) in (1..).zip(&mesh.components) {
        table.row([
            format!("{number}"),
            component.node_ids.len().to_string(),
            names.list(&component.node_ids),
        ]);
    }
    format!("\nThe mesh is partitioned:\n{}", table.text(2))
}

/// Severity of a link's state.
fn badness(state: i32) -> u8 {
    match v1::LinkState::try_from(state) {
        Ok(v1::LinkState::Down) => 3,
        Ok(v1::LinkState::Lossy | v1::LinkState::Slow) => 2,
        Ok(v1::LinkState::Up) => 0,
        _ => 1,
    }
}

fn worst_links(snapshot: &v1::Snapshot, names: &Names, worst: usize) -> String {
    let mut links: Vec<(&str, &v1::Link)> = snapshot
        .links
        .iter()
        .flat_map(|row| row.links.iter().map(|link| (row.observer_id.as_str(), link)))
        .collect();
    links.sort_by_key(|(_, link)| Reverse((badness(link.state), link.loss_percent, link.rtt_p95_micros)));
    let all = links.len();
    links.truncate(worst);
    if links.is_empty() {
        return String::new();
    }
    let state = paint(Colour::Plain, "STATE");
    let mut table = Table::new([
        "OBSERVER",
        "SUBJECT",
        &state,
        "LOSS",
        "RTT",
        "P95",
        "LAST ANSWER",
        "LAST PROBE",
    ]);
    for (observer, link) in &links {
        let colour = [Colour::Green, Colour::Yellow, Colour::Yellow, Colour::Red];
        let colour = colour.get(usize::from(badness(link.state))).copied();
        table.row([
            names.of(observer),
            names.of(&link.subject_id),
            paint(colour.unwrap_or(Colour::Plain), &text::link_state(link.state)),
            format!("{}%", link.loss_percent),
            micros(link.rtt_micros),
            micros(link.rtt_p95_micros),
            last_answer(link),
            failure(link, &snapshot.nodes),
        ]);
    }
    format!("\nWorst links ({} of {all}):\n{}", links.len(), table.text(2))
}

/// Time of a link's last answer. It is not reported for a link that is up, because the next probe is answered, too.
pub(super) fn last_answer(link: &v1::Link) -> String {
    match (link.state(), link.last_success.as_ref()) {
        (v1::LinkState::Up, _) => "just now".to_owned(),
        (_, None) => "never".to_owned(),
        (_, last) => text::ago(last),
    }
}

/// Result of a link's last probe, and its destination; empty for an answer.
fn failure(link: &v1::Link, nodes: &[v1::NodeRow]) -> String {
    let what = match link.failure() {
        v1::LinkFailure::Unspecified => return String::new(),
        v1::LinkFailure::Late => "no answer in time from",
        v1::LinkFailure::Refused => "connection refused at",
        v1::LinkFailure::Unreachable => "no route to",
        v1::LinkFailure::Mistaken => "another node at",
        v1::LinkFailure::Other => "failed at",
    };
    let subject = nodes.iter().find(|node| node.id == link.subject_id);
    format!(
        "{what} {}",
        subject.map_or_else(String::new, |node| clean(&node.probe_address))
    )
}

pub(super) fn micros(micros: u32) -> String {
    match micros {
        0 => "-".to_owned(),
        1..1_000 => format!("{micros}µs"),
        _ => format!("{:.1}ms", f64::from(micros) / 1000.0),
    }
}
