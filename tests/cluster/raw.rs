//! A manual agent, which sends what a test specifies.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use wyneos::v1::{
    self, agent_service_client::AgentServiceClient, session_request::Message as Up, session_response::Message as Down,
};

use crate::harness::Cluster;

pub struct RawSession {
    pub up: mpsc::Sender<v1::SessionRequest>,
    pub down: Streaming<v1::SessionResponse>,
}

pub fn hello(number: u8, incarnation: u64) -> v1::Hello {
    v1::Hello {
        node_id: format!("{number:02x}000000-0000-0000-0000-000000000000"),
        name: format!("raw-{number}"),
        incarnation,
        agent_version: "0.1.0".to_owned(),
        boot_time: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
        capacity: Some(v1::Capacity {
            cpu_millis: 1000,
            memory_bytes: 1 << 30,
            disk_bytes: 0,
        }),
        attributes: Some(v1::Attributes {
            cpus: 1,
            memory_bytes: 1 << 30,
            cgroups: "none".to_owned(),
            containment: wyneos_core::node::PID_NAMESPACE.to_owned(),
            users: None,
            ..Default::default()
        }),
        channels: vec!["cpu.used".to_owned()],
        binary_digest: vec![1; 32],
        config_digest: vec![2; 32],
        ..Default::default()
    }
}

pub fn heartbeat(sequence: u64) -> v1::Heartbeat {
    v1::Heartbeat {
        sequence,
        load: 0.5,
        values: vec![0.5],
        ..Default::default()
    }
}

impl RawSession {
    pub async fn open(cluster: &Cluster) -> RawSession {
        let (up, queue) = mpsc::channel(1_000);
        let down = AgentServiceClient::new(cluster.channel().await)
            .session(ReceiverStream::new(queue))
            .await
            .unwrap();
        RawSession {
            up,
            down: down.into_inner(),
        }
    }

    pub async fn say(&self, message: Up) {
        self.up
            .send(v1::SessionRequest { message: Some(message) })
            .await
            .unwrap();
    }

    /// Opens a session that is accepted.
    pub async fn welcomed(cluster: &Cluster, hello: v1::Hello) -> RawSession {
        let mut session = RawSession::open(cluster).await;
        session.say(Up::Hello(hello)).await;
        let answer = session.down.message().await.unwrap().unwrap().message;
        assert!(matches!(answer, Some(Down::Welcome(_))), "{answer:?}");
        session
    }

    /// Waits for the refusal, and the status that follows it.
    pub async fn refused(&mut self) -> (v1::Refused, tonic::Status) {
        let refused = loop {
            match self
                .down
                .message()
                .await
                .unwrap()
                .expect("a refusal before the end")
                .message
            {
                Some(Down::Refused(refused)) => break refused,
                _ => continue,
            }
        };
        (refused, self.down.message().await.unwrap_err())
    }
}
