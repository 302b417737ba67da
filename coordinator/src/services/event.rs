//! EventService: what happened, from any point on, each event once.

use std::sync::Arc;

use futures_util::stream;
use tokio::sync::{broadcast, watch};
use tonic::{Request, Response, Status};
use wyneos::v1::{self, event_service_server::EventService};
use wyneos_core::event::Event;

use super::{Services, caller_of, page, page_size, stopped, stops};
use crate::{
    answers::{self, Answers, Message, Taken},
    status,
};

/// Events read from the store at once by a subscriber that is behind; they are framed together.
const CATCH_UP: usize = 64;

/// A subscriber of WatchEvents.
struct Watcher {
    services: Services,
    live: broadcast::Receiver<Arc<Event>>,
    stopping: watch::Receiver<bool>,
    /// Number of the next event to hand out.
    next: u64,
    /// Read from the store, to be handed out before what is live.
    kept: Option<Message>,
    /// True while the store may have events that were not read.
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
                    // Handed out already, from the store.
                    Ok(event) if event.sequence < self.next => {}
                    Ok(event) if event.sequence == self.next => return Ok(self.hand_out(&event)),
                    // Some were missed: the store has them.
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => self.behind = true,
                    Err(broadcast::error::RecvError::Closed) => return Err(stopped()),
                },
                () = stops(&mut self.stopping) => return Err(stopped()),
            }
        }
    }

    fn hand_out(&mut self, event: &Event) -> Message {
        self.next = event.sequence + 1;
        self.services.message(&answer(event))
    }

    async fn catch_up(&mut self) -> Result<(), Status> {
        let from = self.next;
        let (events, oldest) = self
            .services
            .read(move |history| history.events(from, CATCH_UP))
            .await?;
        if from < oldest {
            return Err(status::events_compacted(from, oldest));
        }
        self.behind = events.len() == CATCH_UP;
        if let Some(last) = events.last() {
            self.next = last.sequence + 1;
            let answers: Vec<v1::WatchEventsResponse> = events.iter().map(answer).collect();
            self.kept = Some(Message::batch(&self.services.ledger, &answers));
        }
        Ok(())
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
        let request = request.into_inner();
        let (size, from) = (page_size(request.page_size)?, request.from_sequence);
        let node = match request.node.as_str() {
            "" => None,
            node => Some(self.row_or_history(node).await?),
        };
        let (events, oldest) = match node {
            None => self.read(move |history| history.events(from, size + 1)).await?,
            Some(node) => {
                self.read(move |history| {
                    let oldest = history.events(0, 1)?.1;
                    Ok((history.events_of_from(node, from, size + 1)?, oldest))
                })
                .await?
            }
        };
        let (page, _) = page(events.iter().map(v1::Event::from), size);
        Ok(Response::new(v1::ListEventsResponse {
            next_sequence: events.get(page.len()).map_or(0, |event| event.sequence),
            events: page,
            oldest_sequence: oldest,
        }))
    }

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let permit = self.subscribe(&caller_of(&request))?;
        // Listening comes first: what happens while the store is read is not missed.
        let live = self.events.subscribe();
        let newest = self
            .read(|history| history.events_before(u64::MAX, 1))
            .await?
            .first()
            .map_or(0, |event| event.sequence);
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
            live,
            stopping: self.stopping.clone(),
            next,
            kept: None,
            behind: false,
            _permit: permit,
        };
        // Here, so that a number that is no longer kept is refused at once.
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
