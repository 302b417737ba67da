//! Transports to coordinators: opening, writing, and closing.

use std::time::Duration;

use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};
use wyneos::v1;
use wyneos_core::{
    agent::{FromAgent, Input},
    node::ConnId,
};

use super::Driver;
use crate::session;

/// Time limit for a transport that is being closed to send its queued messages.
const PARTING: Duration = Duration::from_secs(2);

/// A connection to a coordinator, or an attempt to connect.
pub(super) struct Transport {
    outbound: mpsc::Sender<v1::SessionRequest>,
    task: JoinHandle<()>,
}

/// Waits for closing transports to send their queued messages.
pub(super) async fn part(parting: Vec<JoinHandle<()>>) {
    for task in parting {
        // Cut off by its own time limit.
        drop(timeout(PARTING, task).await);
    }
}

impl Driver {
    pub(super) fn connect(&mut self, conn: ConnId, address: String) {
        let (outbound, queue) = mpsc::channel(session::OUTBOUND);
        let task = tokio::spawn(session::run(
            conn,
            address,
            queue,
            self.sender.clone(),
            self.tls.clone(),
        ));
        self.state.transports.insert(conn, Transport { outbound, task });
    }

    pub(super) fn send(&mut self, conn: ConnId, report: FromAgent) {
        let Some(transport) = self.state.transports.get(&conn) else {
            return;
        };
        if let FromAgent::Heartbeat(_) = &report {
            self.metrics.heartbeats.inc();
        }
        if transport.outbound.try_send(report.into()).is_err() {
            // The coordinator does not read, or is gone: the logic is informed as of any other end.
            transport.task.abort();
            self.state.transports.remove(&conn);
            let reason = "the coordinator does not read".to_owned();
            self.core.handle(self.clock.now(), Input::Closed { conn, reason });
        }
    }

    /// Closes a transport after its queued messages: without its queue the stream ends, and the coordinator ends its
    /// side.
    pub(super) fn close(&mut self, conn: ConnId) {
        let Some(Transport { outbound, mut task }) = self.state.transports.remove(&conn) else {
            return;
        };
        drop(outbound);
        self.state.parting.retain(|task| !task.is_finished());
        self.state.parting.push(tokio::spawn(async move {
            tokio::select! {
                _ = &mut task => {}
                () = sleep(PARTING) => task.abort(),
            }
        }));
    }
}
