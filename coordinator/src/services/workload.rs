//! WorkloadService: what should run.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use wyneos::{
    convert,
    v1::{self, workload_service_server::WorkloadService},
};
use wyneos_core::{
    coherence::NodeRow,
    placement::{Fleet, Node, Standing},
    workload::Resources,
};

use super::{Services, name_of};
use crate::{board::Published, status};

/// Nodes that a plan lists at most as those that would take none.
const REJECTIONS: usize = 1_000;

fn node(row: &NodeRow) -> Node {
    let (record, facts) = (&row.record, &row.record.facts);
    Node {
        index: row.index,
        id: facts.id,
        name: facts.name.as_str().into(),
        labels: Arc::new(record.labels()),
        attributes: Arc::new(facts.attributes.clone()),
        admission: record.admission,
        liveness: row.state.liveness,
        eligibility: record.eligibility,
        capacity: Resources {
            cpu_millis: facts.capacity.cpu_millis,
            memory_bytes: facts.capacity.memory_bytes,
        },
        promised: Resources::default(),
        load_percent: row.state.load_percent,
        trust_percent: 100,
    }
}

/// The nodes of a snapshot, as placement sees them.
fn fleet(published: &Published) -> Fleet {
    let mut rows: Vec<&Arc<NodeRow>> = published.snapshot.nodes.iter().collect();
    rows.sort_unstable_by_key(|row| row.index);
    Fleet::new(rows.into_iter().map(|row| node(row)).collect())
}

#[tonic::async_trait]
impl WorkloadService for Services {
    async fn plan_workload(
        &self,
        request: Request<v1::PlanWorkloadRequest>,
    ) -> Result<Response<v1::PlanWorkloadResponse>, Status> {
        let spec = request.into_inner().spec;
        let spec = spec.ok_or_else(|| status::bad_field("spec", "missing"))?;
        let spec = convert::spec_in(spec).map_err(|error| status::convert(error.within("spec")))?;
        let published = self.newest()?;
        let snapshot = &published.snapshot;
        let mut fleet = fleet(&published);
        let mut standing = Standing::default();
        // A daemon wants as many as there are nodes.
        let nodes = fleet.nodes().len();
        let count = spec.replicas().unwrap_or(nodes as u32);
        let outcome = fleet.place(&spec, &mut standing, count);
        let starts = outcome.placed.iter().filter_map(|placed| {
            let node = fleet.nodes().get(placed.node.get())?;
            Some(v1::PlannedStart {
                node_id: node.id.to_string(),
                node_name: name_of(snapshot, node.id),
                score: Some(convert::score_out(placed.score)),
            })
        });
        let mut rejections: Vec<v1::Rejection> = fleet
            .nodes()
            .iter()
            .filter(|node| !standing.instances.contains_key(&node.index) || outcome.pending > 0)
            .filter_map(|node| {
                Some(v1::Rejection {
                    node_id: node.id.to_string(),
                    node_name: node.name.to_string(),
                    reason: fleet.unfit(&spec, &standing, node)?.to_string(),
                })
            })
            .collect();
        rejections.sort_unstable_by(|one, other| one.node_id.cmp(&other.node_id));
        rejections.truncate(REJECTIONS);
        let pending = match spec.replicas() {
            Some(_) => outcome.pending,
            None => 0,
        };
        Ok(Response::new(v1::PlanWorkloadResponse {
            spec: Some(convert::spec_out(&spec)),
            starts: starts.collect(),
            pending,
            rejections,
            epoch: snapshot.epoch,
            cycle: snapshot.cycle,
        }))
    }
}
