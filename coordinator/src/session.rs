//! One agent's session on the wire: the stream that answers it also reads it, so that it needs no separate task.

use std::{
    io::ErrorKind,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        watch,
    },
    time::{Sleep, sleep},
};
use tokio_stream::Stream;
use tokio_util::sync::PollSender;
use tonic::{Code, Status, Streaming};
use wyneos::{client, convert, encoded::Encoded, v1};
use wyneos_core::{
    coordinator::{FromAgent, Input, Message, RefusalReason, Refused},
    node::{ConnId, Origin},
    text::{SENTENCE, shortened},
};

use crate::{
    engine::{EngineSender, OUTBOUND, Outbound, ToEngine},
    gate::{Caller, Gate, SESSION},
    metrics::Metrics,
};

/// Time limit for a client's hello.
const HELLO: Duration = Duration::from_secs(10);

/// One in this many heartbeats is timed from its arrival to its application.
const TIMED: u64 = 64;

/// Assigns ids to transports, unique in a process.
#[derive(Debug, Default)]
pub(crate) struct Conns(AtomicU64);

impl Conns {
    fn next(&self) -> ConnId {
        ConnId(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// The two directions of a session.
pub(crate) struct SessionStream {
    conn: ConnId,
    inbound: Option<Streaming<v1::SessionRequest>>,
    outbound: mpsc::Receiver<Outbound>,
    sender: EngineSender,
    /// An input for which the engine had no room, and the means to wait for room.
    waiting: Option<ToEngine>,
    full: PollSender<ToEngine>,
    /// Time limit for the hello.
    patience: Option<Pin<Box<Sleep>>>,
    /// The newest seal. It is sent after a heartbeat: a session that is active for one needs no separate wake-up for
    /// the other.
    seals: watch::Receiver<Option<Encoded>>,
    /// Number of messages read when the seal was last checked.
    sealed_at: u64,
    /// The newest heartbeat, which a seal confirms.
    heard: u64,
    welcomed: bool,
    last: Option<Status>,
    /// Whether the agent's host ended the session; otherwise the connection failed.
    ended_by_peer: bool,
    metrics: Arc<Metrics>,
    taken: u64,
    gate: Gate,
    caller: Caller,
    origin: Origin,
}

impl SessionStream {
    /// Opens a session over `inbound`, and announces it to the engine.
    pub(crate) async fn open(
        conns: &Conns,
        inbound: Streaming<v1::SessionRequest>,
        engine: &EngineSender,
        seals: &watch::Receiver<Option<Encoded>>,
        metrics: &Arc<Metrics>,
        (gate, caller): (Gate, Caller),
    ) -> Result<SessionStream, Status> {
        let conn = conns.next();
        let (sender, outbound) = mpsc::channel(OUTBOUND);
        let opened = engine.send(ToEngine::Open(conn, sender)).await;
        opened.map_err(|_| Status::unavailable("the coordinator is shutting down; try again later"))?;
        Ok(SessionStream {
            conn,
            inbound: Some(inbound),
            outbound,
            sender: engine.clone(),
            waiting: None,
            full: PollSender::new(engine.clone()),
            patience: Some(Box::pin(sleep(HELLO))),
            seals: seals.clone(),
            sealed_at: 0,
            heard: 0,
            welcomed: false,
            last: None,
            ended_by_peer: false,
            metrics: Arc::clone(metrics),
            taken: 0,
            gate,
            origin: caller.origin(),
            caller,
        })
    }

    /// Passes on the agent's messages, as long as the engine has room for them.
    fn read(&mut self, context: &mut Context<'_>) -> Result<(), Status> {
        let gone = || Status::unavailable("the coordinator is shutting down; try again later");
        loop {
            if let Some(waiting) = self.waiting.take() {
                match self.sender.try_send(waiting) {
                    Ok(()) => {}
                    Err(TrySendError::Closed(_)) => return Err(gone()),
                    Err(TrySendError::Full(waiting)) => match self.full.poll_reserve(context) {
                        Poll::Ready(Ok(())) => self.full.send_item(waiting).map_err(|_| gone())?,
                        Poll::Ready(Err(_)) => return Err(gone()),
                        Poll::Pending => {
                            self.waiting = Some(waiting);
                            return Ok(());
                        }
                    },
                }
            }
            let Some(inbound) = &mut self.inbound else {
                return Ok(());
            };
            match Pin::new(inbound).poll_next(context) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Some(Ok(request))) => self.waiting = Some(self.understand(request)),
                Poll::Ready(Some(Err(status))) if client::is_unreadable(&status) => {
                    self.metrics.messages_invalid.inc();
                    let detail = status.message().to_owned();
                    tracing::debug!(conn = self.conn.0, detail, "unreadable message");
                    // The core answers and ends the session.
                    (self.inbound, self.patience) = (None, None);
                    let conn = self.conn;
                    self.waiting = Some(ToEngine::Fact(Input::Unreadable { conn, detail }));
                }
                Poll::Ready(Some(Err(status))) => {
                    self.ended_by_peer = !is_silence(&status);
                    return Err(status);
                }
                Poll::Ready(None) => {
                    self.ended_by_peer = true;
                    return Err(Status::ok("the agent ended the session"));
                }
            }
        }
    }

    /// The newest seal, if the agent does not have it and was just heard.
    fn newest_seal(&mut self) -> Option<Encoded> {
        let heard = std::mem::replace(&mut self.sealed_at, self.taken) != self.taken;
        if !heard || !self.welcomed || !self.seals.has_changed().unwrap_or(false) {
            return None;
        }
        let seal = self.seals.borrow_and_update().clone()?;
        Some(convert::confirming(&seal, self.heard))
    }

    fn understand(&mut self, request: v1::SessionRequest) -> ToEngine {
        let conn = self.conn;
        self.patience = None;
        self.taken += 1;
        let input = convert::session_input(conn, &self.origin, request);
        if let Ok(Input::FromAgent(_, FromAgent::Heartbeat(heartbeat))) = &input {
            self.heard = heartbeat.sequence;
        }
        match input {
            // Sessions that opened together each measure a different message.
            Ok(input) if (self.taken + conn.0).is_multiple_of(TIMED) => ToEngine::Timed(input, Instant::now()),
            Ok(input) => ToEngine::Fact(input),
            Err(error) => {
                self.metrics.messages_invalid.inc();
                tracing::debug!(conn = conn.0, %error, "invalid message");
                // The core answers and ends the session.
                self.inbound = None;
                ToEngine::Fact(Input::Invalid {
                    conn,
                    detail: error.to_string(),
                })
            }
        }
    }
}

/// Returns whether the transport was given up for lack of an answer, by HTTP/2's keep-alive or by TCP.
fn is_silence(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let timed_out = error.downcast_ref::<std::io::Error>().is_some_and(|error| {
            matches!(
                error.kind(),
                ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
            )
        });
        // hyper has no type for this error.
        if timed_out || error.to_string().contains("keep-alive timed out") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The status with which a refused session ends.
fn status(refused: &Refused) -> Status {
    let detail = shortened(&refused.detail, SENTENCE);
    match refused.reason {
        RefusalReason::Invalid => Status::invalid_argument(detail),
        RefusalReason::Stale => Status::failed_precondition(detail),
        RefusalReason::Revoked | RefusalReason::Disputed => Status::permission_denied(detail),
        RefusalReason::Replaced | RefusalReason::Readmitted => Status::aborted(detail),
        RefusalReason::Shutdown | RefusalReason::Overloaded => Status::unavailable(detail),
        RefusalReason::Timeout => Status::deadline_exceeded(detail),
        RefusalReason::Unreadable => Status::out_of_range(detail),
    }
}

impl Stream for SessionStream {
    type Item = Result<Encoded, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(status) = this.last.take() {
            this.inbound = None;
            this.outbound.close();
            return Poll::Ready((status.code() != tonic::Code::Ok).then_some(Err(status)));
        }
        if let Err(status) = this.read(context) {
            this.inbound = None;
            this.outbound.close();
            return Poll::Ready((status.code() != tonic::Code::Ok).then_some(Err(status)));
        }
        if let Some(patience) = &mut this.patience
            && patience.as_mut().poll(context).is_ready()
        {
            this.metrics.sessions_silent.inc();
            this.patience = None;
            this.inbound = None;
            let text = format!("no hello within {HELLO:?}: the session's first message must be one");
            return Poll::Ready(Some(Err(Status::deadline_exceeded(text))));
        }
        match this.outbound.poll_recv(context) {
            Poll::Ready(Some(Outbound::Message(encoded))) => {
                this.welcomed = true;
                Poll::Ready(Some(Ok(encoded)))
            }
            Poll::Ready(Some(Outbound::Refused(refused))) => {
                let refusal = status(&refused);
                let who = matches!(
                    refused.reason,
                    RefusalReason::Invalid | RefusalReason::Stale | RefusalReason::Unreadable
                );
                if refusal.code() == Code::PermissionDenied || (who && this.caller.proven.is_some()) {
                    this.metrics.call_refused("session");
                    let (code, why) = (refusal.code(), refusal.message());
                    this.gate.note_refusal(&this.caller, SESSION, code, why);
                }
                this.last = Some(refusal);
                let message = v1::SessionResponse::from(Message::Refused(*refused));
                Poll::Ready(Some(Ok(Encoded::new(&message))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match this.newest_seal() {
                Some(seal) => Poll::Ready(Some(Ok(seal))),
                None => Poll::Pending,
            },
        }
    }
}

impl Drop for SessionStream {
    fn drop(&mut self) {
        // The end of a connection is reported by a read, which may not have been requested.
        if self.last.is_none() {
            let mut context = Context::from_waker(Waker::noop());
            drop(self.read(&mut context));
        }
        let closed = ToEngine::Fact(Input::Closed {
            conn: self.conn,
            by_peer: self.ended_by_peer,
        });
        if let Err(TrySendError::Full(closed)) = self.sender.try_send(closed) {
            // The engine must receive it, however busy it is.
            let sender = self.sender.clone();
            tokio::spawn(async move { drop(sender.send(closed).await) });
        }
    }
}
