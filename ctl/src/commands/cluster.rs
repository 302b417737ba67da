//! Lists of nodes, one node, and versions.

use wyneos::{client, v1};
use wyneos_core::node::NOT_CONTAINED;

use prost_types::Timestamp;

use super::{PAGE, next_page, nothing};
use wyneos_core::text::Quoted;

use crate::{
    context::Context,
    failure::Failure,
    text::{self, Colour, Fields, Table, clean, paint},
};

/// `wynectl nodes`.
pub(crate) async fn nodes(context: &Context, label: Option<String>) -> Result<(), Failure> {
    let what = "list the nodes";
    let mut client = client::cluster(context.connect().await?);
    let mut merged = v1::ListNodesResponse::default();
    let mut token = String::new();
    loop {
        let request = v1::ListNodesRequest {
            node_label: label.clone().unwrap_or_default(),
            page_size: PAGE,
            page_token: token.clone(),
        };
        let mut page = context.call(what, client.list_nodes(request)).await?;
        merged.nodes.append(&mut page.nodes);
        merged.read = page.read;
        if !next_page(what, &mut token, &mut page.next_page_token)? {
            break;
        }
    }
    if merged.nodes.is_empty() && !context.is_json() {
        nothing("nodes");
        return Ok(());
    }
    context.show(&merged, |merged| table(&merged.nodes))
}

pub(super) fn table(nodes: &[v1::NodeRow]) -> String {
    let liveness = paint(Colour::Plain, "LIVENESS");
    let mut table = Table::new([
        "NAME",
        "ID",
        &liveness,
        "SINCE",
        "CAUSE",
        "ADMISSION",
        "ELIGIBILITY",
        "LOAD",
        "VERSION",
    ]);
    let mut nodes: Vec<&v1::NodeRow> = nodes.iter().collect();
    nodes.sort_by_cached_key(|node| text::natural(&node.name));
    for node in nodes {
        table.row([
            clean(&node.name),
            text::short(&node.id),
            text::painted_liveness(node.liveness),
            text::age(node.liveness_since.as_ref()),
            text::cause(node.cause),
            text::admission(node.admission),
            text::eligibility(node.eligibility),
            text::load(node),
            clean(&node.agent_version),
        ]);
    }
    table.text(0)
}

/// `wynectl node`.
pub(crate) async fn node(context: &Context, node: String) -> Result<(), Failure> {
    let mut client = client::cluster(context.connect().await?);
    let what = format!("get node {}", Quoted(&node));
    let answer = context
        .call(&what, client.get_node(v1::GetNodeRequest { node }))
        .await?;
    context.show(&answer, view)
}

pub(super) fn view(answer: &v1::GetNodeResponse) -> String {
    let mut fields = Fields::default();
    if let Some(node) = &answer.node {
        row(&mut fields, node);
    }
    let heartbeats = match &answer.last_heartbeat {
        Some(time) => format!(
            "{} in this session{}",
            answer.heartbeats,
            last_heartbeat(time, answer.read.as_ref())
        ),
        None => "none since the coordinator started".to_owned(),
    };
    fields
        .add("Heartbeats", heartbeats)
        .add("Interval", text::span_of(answer.heartbeat_interval.as_ref()))
        .add("Clock skew", text::span_of(answer.clock_skew.as_ref()))
        .add("Acknowledged", format!("cycle {}", answer.acknowledged_cycle));
    relayed(&mut fields, answer.relayed.as_ref());
    fields.text()
}

/// Time of the last heartbeat: both times are of one snapshot, whose age is shown separately.
fn last_heartbeat(last: &Timestamp, read: Option<&v1::ReadState>) -> String {
    let Some((time, age)) = read.and_then(|read| Some((read.time.as_ref()?, read.age.as_ref()?))) else {
        return format!(", the last {}", text::ago(Some(last)));
    };
    let nanos = |time: &Timestamp| {
        time.seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(time.nanos.into())
    };
    let before = nanos(time).saturating_sub(nanos(last)).max(0);
    let before = prost_types::Duration {
        seconds: before / 1_000_000_000,
        nanos: (before % 1_000_000_000) as i32,
    };
    let [age, before] = [age, &before].map(|span| text::span_of(Some(span)));
    format!(" as of {age} ago, the last {before} before that")
}

/// The peer that relayed the node's last request for its standing while it had no session.
pub(super) fn relayed(fields: &mut Fields, relayed: Option<&v1::Relayed>) {
    if let Some(relayed) = relayed {
        let (ago, via) = (text::ago(relayed.time.as_ref()), clean(&relayed.via_name));
        fields.add("Relayed", format!("asked for its standing {ago} through {via}"));
    }
}

/// A node's admission, with its reason, principal and time.
fn admission(node: &v1::NodeRow) -> String {
    let admission = text::admission(node.admission);
    match &node.ruling {
        Some(ruling) => format!(
            "{admission}{}, by {}: {}",
            text::for_so_long(ruling.time.as_ref()),
            clean(&ruling.by),
            clean(&ruling.reason)
        ),
        None => admission,
    }
}

/// The remedy for a node that does not contain instances.
const CONTAIN: &str = "run its agent as root with CAP_SYS_ADMIN";

/// A node's containment, and the consequence of its absence.
fn containment(attributes: &v1::Attributes) -> String {
    match (attributes.containment.as_str(), attributes.containment_reason.as_str()) {
        ("", _) => "not reported by its agent: no singletons here".to_owned(),
        (NOT_CONTAINED, "") => format!("{NOT_CONTAINED}: no singletons here; {CONTAIN}"),
        (NOT_CONTAINED, reason) => format!("{NOT_CONTAINED}: no singletons here ({}); {CONTAIN}", clean(reason)),
        (known, _) => clean(known),
    }
}

/// The fields of a row.
pub(super) fn row(fields: &mut Fields, node: &v1::NodeRow) {
    let labels: Vec<String> = node
        .labels
        .iter()
        .map(|label| clean(&format!("{}={}", label.key, label.value)))
        .collect();
    fields
        .add("Name", clean(&node.name))
        .add("Id", clean(&node.id))
        .add(
            "Liveness",
            format!(
                "{}{} ({})",
                text::painted_liveness(node.liveness),
                text::for_so_long(node.liveness_since.as_ref()),
                text::cause(node.cause)
            ),
        )
        .add("Admission", admission(node))
        .add("Eligibility", text::eligibility(node.eligibility));
    if node.last_seen.is_some() {
        fields.add("Last seen", text::ago(node.last_seen.as_ref()));
    }
    fields
        .add("Load", text::load(node))
        .add("Agent", clean(&node.agent_version))
        .add("Address", clean(&node.probe_address))
        .add("Session", format!("{}, incarnation {}", node.session, node.incarnation))
        .add("Up", text::age(node.boot_time.as_ref()));
    if let Some(is) = &node.attributes {
        fields.add("Host", clean(&format!("{} {} {}", is.os, is.kernel, is.architecture)));
        fields.add("Cgroups", clean(&is.cgroups));
        fields.add("Containment", containment(is));
        users(fields, is.users.as_ref());
    }
    if let Some(capacity) = &node.capacity {
        fields.add(
            "Capacity",
            format!(
                "{} CPUs, {} memory, {} disk",
                capacity.cpu_millis as f64 / 1000.0,
                text::bytes(capacity.memory_bytes as f64),
                text::bytes(capacity.disk_bytes as f64)
            ),
        );
    }
    fields
        .add("Labels", labels.join(", "))
        .add("Binary", text::hex(&node.binary_digest))
        .add("Config", text::hex(&node.config_digest));
}

/// The users that programs may run as, and a warning if root is one of them.
fn users(fields: &mut Fields, users: Option<&v1::NodeUsers>) {
    let Some(users) = users else {
        fields.add(
            "Users",
            "not reported: an agent of an earlier version, which runs programs as any user, root included; upgrade it",
        );
        return;
    };
    let marked = |user: &v1::NodeUser| {
        let default = if user.name == users.default_user {
            " (default)"
        } else {
            ""
        };
        clean(&format!("{}{default}", user.name))
    };
    let unknown = users
        .unknown
        .iter()
        .map(|name| clean(&format!("{name} (unknown on this host)")));
    let names: Vec<String> = users.permitted.iter().map(marked).chain(unknown).collect();
    fields.add(
        "Users",
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        },
    );
    if users.permitted.iter().any(|user| user.uid == Some(0)) {
        fields.add(
            "Warning",
            "programs may run as root here: everyone who may apply a declaration controls this host, and limits do not constrain root",
        );
    }
}

/// `wynectl version`.
pub(crate) async fn version(context: &Context, only_client: bool) -> Result<(), Failure> {
    if !context.is_json() {
        context.text(&format!("wynectl      {}\n", wyneos::VERSION))?;
    }
    if only_client {
        return match context.is_json() {
            // No message of the protocol has only this field.
            true => context.text(&format!("{{\"clientVersion\": \"{}\"}}\n", wyneos::VERSION)),
            false => Ok(()),
        };
    }
    let mut client = client::cluster(context.connect().await?);
    let answer = context
        .call("get the cluster", client.get_cluster(v1::GetClusterRequest {}))
        .await?;
    context.show(&answer, |answer| {
        format!(
            "coordinator  {}, up {}, cluster {}\n",
            clean(&answer.coordinator_version),
            text::age(answer.started.as_ref()),
            clean(&answer.cluster_id)
        )
    })
}
