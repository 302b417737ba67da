//! EventService: events from any number on, each exactly once.

use std::{ops::ControlFlow, sync::Arc};

use futures_util::stream;
use prost::Message as _;
use tokio::sync::{broadcast, watch};
use tonic::{Request, Response, Status};
use wyneos::v1::{self, event_service_server::EventService};
use wyneos_core::{event::Event, id::NodeId};

use super::{PAGE_BYTES, Services, caller_of, page_size, stopped, stops};
use crate::{
    answers::{self, Answers, Message, Taken},
    reads::{Asker, Sort, Still},
    status,
    store::{Along, History, Of},
};

/// Number of events that a subscriber that is behind reads from the store at once; they are framed together.
const CATCH_UP: usize = 64;

/// A subscriber of WatchEvents.
struct Watcher {
    services: Services,
    asker: Asker,
    live: broadcast::Receiver<Arc<Event>>,
    stopping: watch::Receiver<bool>,
    /// Number of the next event to send.
    next: u64,
    /// Events read from the store, to be sent before live ones.
    kept: Option<Message>,
    /// Whether the store may contain events that were not read.
    behind: bool,
    _permit: Taken,
}

impl Watcher {
    async fn next(&mut self) -> Result<Message, Status> {
        loop {
            if let Some(events) = self.kept.take() {
                return Ok(events);
            }
            if self.behind {
                self.catch_up().await?;
                continue;
            }
            tokio::select! {
                event = self.live.recv() => match event {
                    // Sent already, from the store.
                    Ok(event) if event.sequence.0 < self.next => {}
                    Ok(event) if event.sequence.0 == self.next => return Ok(self.hand_out(&event)),
                    // Some events were missed and are read from the store.
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => self.behind = true,
                    Err(broadcast::error::RecvError::Closed) => return Err(stopped()),
                },
                () = stops(&mut self.stopping) => return Err(stopped()),
            }
        }
    }

    fn hand_out(&mut self, event: &Event) -> Message {
        self.next = event.sequence.0 + 1;
        self.services.message(&answer(event))
    }

    async fn catch_up(&mut self) -> Result<(), Status> {
        let from = self.next;
        let kept = self.services.kept(Sort::CatchUp, &self.asker, None, from, CATCH_UP);
        let kept = kept.await?;
        if from < kept.oldest {
            return Err(status::events_compacted(from, kept.oldest));
        }
        self.behind = kept.next.is_some();
        if let Some(last) = kept.events.last() {
            self.next = last.sequence + 1;
            let answer = |event| v1::WatchEventsResponse { event: Some(event) };
            let answers: Vec<v1::WatchEventsResponse> = kept.events.into_iter().map(answer).collect();
            self.kept = Some(Message::batch(&self.services.ledger, &answers));
        }
        Ok(())
    }
}

/// Events from the store.
#[derive(Default)]
struct Kept {
    events: Vec<v1::Event>,
    /// Number of the event after them; `None` if there is none.
    next: Option<u64>,
    /// Number from which on every event is retained.
    oldest: u64,
}

impl Services {
    /// Reads at most `most` events from number `from` on, of a node or of all, limited to the size of a page.
    async fn kept(
        &self,
        sort: Sort,
        asker: &Asker,
        node: Option<NodeId>,
        from: u64,
        most: usize,
    ) -> Result<Kept, Status> {
        let read = move |history: &dyn History, still: &Still| {
            let (mut kept, mut bytes) = (Kept::default(), 0);
            let of = node.map_or(Of::All, Of::Node);
            kept.oldest = history.visit(of, Along::From(from), &mut |one| {
                if kept.events.len() == most || bytes >= PAGE_BYTES || still.is_over() {
                    kept.next = Some(one.sequence);
                    return Ok(ControlFlow::Break(()));
                }
                let event = v1::Event::from(&one.decode()?);
                bytes += event.encoded_len();
                kept.events.push(event);
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(kept)
        };
        self.read(sort, asker, read).await
    }
}

fn answer(event: &Event) -> v1::WatchEventsResponse {
    v1::WatchEventsResponse {
        event: Some(event.into()),
    }
}

#[tonic::async_trait]
impl EventService for Services {
    type WatchEventsStream = Answers<v1::WatchEventsResponse>;

    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        let asker = Asker::of(&request);
        let request = request.into_inner();
        let (size, from) = (page_size(request.page_size)?, request.from_sequence);
        let node = match request.node.as_str() {
            "" => None,
            node => Some(self.row_or_history(&asker, node).await?),
        };
        let kept = self.kept(Sort::Page, &asker, node, from, size).await?;
        Ok(Response::new(v1::ListEventsResponse {
            next_sequence: kept.next.unwrap_or(0),
            events: kept.events,
            oldest_sequence: kept.oldest,
        }))
    }

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let permit = self.subscribe(&caller_of(&request))?;
        let asker = Asker::of(&request);
        // Subscribed first, so that no event is missed while the store is read.
        let live = self.events.subscribe();
        let newest = self.read(Sort::Look, &asker, |history, _| {
            let mut newest = 0;
            history.visit(Of::All, Along::Before(u64::MAX), &mut |kept| {
                newest = kept.sequence;
                Ok(ControlFlow::Break(()))
            })?;
            Ok(newest)
        });
        let newest = newest.await?;
        let from = request.into_inner().from_sequence;
        if from > newest + 1 {
            return Err(status::bad_field(
                "from_sequence",
                format!("{from} is ahead of the newest event, {newest}"),
            ));
        }
        let next = if from == 0 { newest + 1 } else { from };
        let mut watcher = Watcher {
            services: self.clone(),
            asker,
            live,
            stopping: self.stopping.clone(),
            next,
            kept: None,
            behind: false,
            _permit: permit,
        };
        // Called here, so that a number that is no longer retained is refused immediately.
        watcher.catch_up().await?;
        Ok(answers::stream(stream::unfold(Some(watcher), async |watcher| {
            let mut watcher = watcher?;
            match watcher.next().await {
                Ok(answer) => Some((Ok(answer), Some(watcher))),
                Err(status) => Some((Err(status), None)),
            }
        })))
    }
}
