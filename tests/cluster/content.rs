//! Sessions that end because of their content: the reason is reported, and reconnection is delayed.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming, transport::Server};
use wyneos::{
    client,
    v1::{
        self, Liveness, RefusalReason,
        agent_service_server::{AgentService, AgentServiceServer},
        session_request::Message as Up,
        session_response::Message as Down,
    },
};

use crate::{
    harness::{Cluster, Process, binary, wait_until},
    raw::{RawSession, hello},
};

/// A coordinator that accepts every session, and then sends more than an agent accepts.
#[derive(Clone, Default)]
struct Verbose(Arc<Mutex<Vec<(Instant, v1::Hello)>>>);

#[tonic::async_trait]
impl AgentService for Verbose {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<v1::SessionResponse, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (mut inbound, heard) = (request.into_inner(), self.clone());
        let (sender, answers) = mpsc::channel(4);
        tokio::spawn(async move {
            while let Ok(Some(request)) = inbound.message().await {
                let Some(Up::Hello(hello)) = request.message else {
                    continue;
                };
                heard.0.lock().unwrap().push((Instant::now(), hello));
                let second = Some(prost_types::Duration { seconds: 1, nanos: 0 });
                let welcome = v1::Welcome {
                    cluster_id: "00000000-0000-0000-0000-000000000001".to_owned(),
                    epoch: 1,
                    session: heard.0.lock().unwrap().len() as u64,
                    cycle_interval: second,
                    heartbeat_interval: second,
                    probe_plan: Some(v1::ProbePlan {
                        interval: second,
                        ..Default::default()
                    }),
                    admission: v1::Admission::Admitted.into(),
                    lease: second,
                    next_assignment: 1,
                    notes_sightings: false,
                };
                let stop = v1::StopInstance {
                    id: 1,
                    reason: "x".repeat(1_000_000),
                };
                let work = v1::NodeWork {
                    stop: vec![stop],
                    ..Default::default()
                };
                for message in [Down::Welcome(welcome), Down::Work(work)] {
                    let response = v1::SessionResponse {
                        message: Some(message),
                        heard_sequence: 0,
                    };
                    drop(sender.send(Ok(response)).await);
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_cannot_read_what_it_is_told_says_so_and_backs_off() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let verbose = Verbose::default();
    let service = AgentServiceServer::new(verbose.clone());
    tokio::spawn(
        Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let mut command = std::process::Command::new(binary("wyneos-agent"));
    let data_dir = directory.path().join("agent");
    command.args([
        "run",
        "--tls=false",
        "--listen",
        "127.0.0.1:0",
        "--name",
        "one",
        "--coordinators",
        &address,
    ]);
    command.arg("--data-dir").arg(&data_dir);
    let agent = Process::of(command, &directory.path().join("agent.log"));
    let hellos = wait_until("the agent comes a fifth time", async || {
        let hellos = verbose.0.lock().unwrap().clone();
        (hellos.len() >= 5).then_some(hellos)
    })
    .await;
    assert_eq!(hellos[0].1.last_failure, "");
    for (_, hello) in &hellos[1..] {
        assert!(hello.last_failure.contains("too large"), "{:?}", hello.last_failure);
    }
    // At least half of 1, 2, 4 and 8 seconds.
    let took = hellos[4].0 - hellos[0].0;
    assert!(took >= Duration::from_millis(7_500), "five sessions within {took:?}");
    let log = agent.log_text();
    assert!(
        log.contains("cannot be read here") && log.contains("too large"),
        "{log}"
    );
}

/// Returns the coordinator's explanation of a node's sessions, once readers know the node.
async fn explained(cluster: &Cluster, node: &str) -> v1::ExplainNodeResponse {
    let mut client = client::decisions(cluster.channel().await);
    wait_until(&format!("{node} is known"), async || {
        let request = v1::ExplainNodeRequest { node: node.to_owned() };
        client.explain_node(request).await.ok().map(tonic::Response::into_inner)
    })
    .await
}

#[tokio::test]
async fn the_coordinator_tells_what_a_session_ended_over() {
    let cluster = Cluster::start().await;
    let mut session = RawSession::welcomed(&cluster, hello(1, 1)).await;
    cluster.node_is("raw-1", Liveness::Online).await;
    let reason = "x".repeat(300 * 1024);
    session.say(Up::Goodbye(v1::Goodbye { reason })).await;
    let (refused, status) = session.refused().await;
    assert_eq!(refused.reason(), RefusalReason::Unreadable);
    assert_eq!(status.code(), tonic::Code::OutOfRange, "{status:?}");
    let told = wait_until("it is told", async || {
        let told = explained(&cluster, "raw-1").await.session_failure;
        (!told.is_empty()).then_some(told)
    })
    .await;
    assert!(told.contains("too large") && told.contains("its agent sent"), "{told}");
    // The agent's next hello reports what it could not read: one event for each different reason, however often it
    // repeats.
    for incarnation in 2..8 {
        let mut hello = hello(2, incarnation);
        hello.last_failure = "the coordinator sent what cannot be read here: 7 MB".to_owned();
        drop(RawSession::welcomed(&cluster, hello).await);
    }
    let told = explained(&cluster, "raw-2").await;
    assert!(told.session_failure.contains("7 MB"), "{}", told.session_failure);
    assert!(told.session_failure_time.is_some());
    let events = cluster.events().await;
    let about = |node: &str| {
        let is =
            |event: &&v1::Event| event.node_name == node && matches!(event.body, Some(v1::event::Body::Session(_)));
        events.iter().filter(is).count()
    };
    assert_eq!((about("raw-1"), about("raw-2")), (1, 1));
    let why = crate::secure::run("wynectl", &["--address", &cluster.address, "why", "raw-2"]);
    let why = crate::secure::text(&why);
    assert!(why.contains("because of its content") && why.contains("7 MB"), "{why}");
}
