//! `wynectl why`: a node's state, and the decisions and evidence behind it.

use tonic::transport::Channel;
use wyneos::{client, v1};

use super::{Names, cluster, mesh, sections, workloads};
use wyneos_core::text::Quoted;

use crate::{
    context::Context,
    failure::Failure,
    text::{self, Fields, Table, clean},
};

/// Explains a node, or else a workload or an instance of that name.
pub(crate) async fn run(context: &Context, name: String) -> Result<(), Failure> {
    let channel = context.connect().await?;
    if let Some(workload) = name.strip_prefix("workload/") {
        return explain_workload(context, channel, workload.to_owned()).await;
    }
    let what = format!("explain node {}", Quoted(&name));
    let mut client = client::decisions(channel.clone());
    let request = v1::ExplainNodeRequest { node: name.clone() };
    let answer = match context.call(&what, client.explain_node(request)).await {
        Err(failure) if failure.is_not_found() => {
            // An unknown name is reported as an unknown node, the most frequent query.
            let hint = "`wynectl workloads` lists the workloads, `wynectl assignments` their instances";
            return explain_workload(context, channel, name)
                .await
                .map_err(|_| failure.hint(hint));
        }
        answer => answer?,
    };
    if context.is_json() {
        return context.json(&answer);
    }
    let broken = broken(context, channel.clone(), &answer.broken_invariants).await?;
    let named = match answer.findings.is_empty() {
        true => None,
        false => sections(context, channel, &[v1::Section::Nodes]).await?.snapshot,
    };
    let names = Names::new(&named.unwrap_or_default().nodes);
    context.text(&view(&answer, &broken, &names))
}

async fn explain_workload(context: &Context, channel: Channel, name: String) -> Result<(), Failure> {
    let what = format!("explain workload {}", Quoted(&name));
    let mut client = client::workloads(channel);
    let request = v1::ExplainWorkloadRequest { name: name.clone() };
    let answer = context.call(&what, client.explain_workload(request)).await?;
    context.show(&answer, |answer| workloads::explain(&name, answer))
}

/// Broken invariants from the coherence report, which may be one cycle newer than the answer.
async fn broken(context: &Context, channel: Channel, ids: &[String]) -> Result<Vec<v1::Invariant>, Failure> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let answer = sections(context, channel, &[v1::Section::Coherence]).await?;
    let report = answer
        .snapshot
        .and_then(|snapshot| snapshot.coherence)
        .unwrap_or_default();
    let known = |id: &String| report.invariants.iter().find(|invariant| invariant.id == *id).cloned();
    let unknown = |id: &String| v1::Invariant {
        id: id.clone(),
        ..v1::Invariant::default()
    };
    Ok(ids.iter().map(|id| known(id).unwrap_or_else(|| unknown(id))).collect())
}

pub(super) fn view(answer: &v1::ExplainNodeResponse, broken: &[v1::Invariant], names: &Names) -> String {
    let mut view = String::new();
    if let Some(node) = &answer.node {
        let mut fields = Fields::default();
        cluster::row(&mut fields, node);
        cluster::relayed(&mut fields, answer.relayed.as_ref());
        if !answer.session_failure.is_empty() {
            let age = text::age(answer.session_failure_time.as_ref());
            fields.add(
                "Failure",
                format!(
                    "a session ended {age} ago because of its content: {}",
                    clean(&answer.session_failure)
                ),
            );
        }
        view += &fields.text();
    }
    match &answer.liveness {
        Some(decision) => view += &format!("\nDecision behind its liveness\n{}", in_full(decision)),
        None => view += "\nThe decision behind its liveness is no longer retained.\n",
    }
    if !answer.recent.is_empty() {
        let mut table = Table::new(["DECISION", "AGE", "KIND", "RULE", "OUTCOME", "ACTION"]);
        for decision in &answer.recent {
            table.row([
                decision.id.to_string(),
                text::age(decision.time.as_ref()),
                clean(&decision.kind),
                clean(&decision.rule),
                text::outcome(decision.outcome),
                clean(&decision.action),
            ]);
        }
        view += &format!("\nRecent decisions\n{}", table.view(2));
    }
    view += &seen_by(&answer.seen_by);
    view += &mesh::findings(&answer.findings, names);
    view += &invariants(broken);
    view
}

/// Observations by the node's peers.
fn seen_by(peers: &[v1::SeenBy]) -> String {
    if peers.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["PEER", "SEES", "LOSS", "RTT", "LAST ANSWER"]);
    for peer in peers {
        let link = peer.link.clone().unwrap_or_default();
        table.row([
            clean(&peer.observer_name),
            text::link_state(link.state),
            format!("{}%", link.loss_percent),
            mesh::micros(link.rtt_micros),
            mesh::last_answer(&link),
        ]);
    }
    format!("\nIts peers\n{}", table.view(2))
}

/// A decision with its evidence and alternatives.
pub(super) fn in_full(decision: &v1::Decision) -> String {
    let most = Some(text::view_columns());
    // A node's liveness and a forecast are conclusions: no mode determines whether they are carried out.
    let how = match decision.kind.as_str() {
        "liveness" | "threshold" => String::new(),
        _ => format!(
            ", mode {}, {}",
            text::mode(decision.mode),
            text::outcome(decision.outcome)
        ),
    };
    let head = format!(
        "decision {}, {} ({}), rule {}{how}",
        decision.id,
        text::timestamp(decision.time.as_ref()),
        text::ago(decision.time.as_ref()),
        clean(&decision.rule),
    );
    let mut text = text::hanging("  ", &head, 4, most) + &text::hanging("  ", &clean(&decision.action), 4, most);
    let causes: Vec<String> = decision.caused_by.iter().filter_map(cause).collect();
    if !causes.is_empty() {
        let causes = format!("because of {}", causes.join(", "));
        text += &text::hanging("  ", &causes, 4, most);
    }
    if !decision.evidence.is_empty() {
        let mut table = Table::new(["TIME", "SOURCE", "FACT"]);
        for evidence in &decision.evidence {
            table.row([
                text::timestamp(evidence.time.as_ref()),
                clean(&evidence.source),
                clean(&evidence.fact),
            ]);
        }
        text += &format!("  Evidence\n{}", table.view(4));
    }
    if !decision.alternatives.is_empty() {
        let mut table = Table::new(["ALTERNATIVE", "REJECTED BECAUSE"]);
        for alternative in &decision.alternatives {
            table.row([clean(&alternative.action), clean(&alternative.rejected_because)]);
        }
        text += &format!("  Alternatives\n{}", table.view(4));
    }
    text
}

/// Number of the cause of a decision.
fn cause(because: &v1::Because) -> Option<String> {
    use v1::because::Of;
    Some(match because.of? {
        Of::DecisionId(id) => format!("decision {id}"),
        Of::EventSequence(number) => format!("event {number}"),
        Of::FindingId(id) => format!("finding {id}"),
    })
}

/// Broken invariants.
pub(super) fn invariants(broken: &[v1::Invariant]) -> String {
    if broken.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["INVARIANT", "SEVERITY", "BROKEN", "CONDITION", "VIOLATION"]);
    for invariant in broken {
        table.row([
            clean(&invariant.id),
            text::severity(invariant.severity),
            format!("{} of {}", invariant.broken, invariant.checked),
            clean(&invariant.meaning),
            clean(&invariant.detail),
        ]);
    }
    format!("\nBroken invariants\n{}", table.view(2))
}
