//! CoherenceService: snapshots, as they are published and as they were.

use std::{pin::Pin, sync::Arc};

use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use wyneos::{
    canonical::{Canonical, Filter, WireGetResponse, WireWatchResponse},
    convert::{duration, timestamp},
    encoded::Encoded,
    served::coherence_service_server::CoherenceService,
    v1,
};

use super::{Services, label_selector, page_size, page_token, stopped, stops};
use crate::{
    board::{self, Published, Reader},
    status,
    store::SealedSnapshot,
};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn filter(sections: &[i32], node_label: &str) -> Result<Filter, Status> {
    for (at, section) in sections.iter().enumerate() {
        let known = v1::Section::try_from(*section).is_ok_and(|section| section != v1::Section::Unspecified);
        if !known {
            return Err(status::bad_field(
                format!("sections[{at}]"),
                format!("{section} is no section"),
            ));
        }
    }
    Ok(Filter {
        sections: sections.iter().copied().collect(),
        label: label_selector("node_label", node_label)?,
    })
}

/// A subscriber of WatchSnapshots.
struct Watcher {
    reader: Reader,
    newest: watch::Receiver<Option<Arc<Published>>>,
    stopping: watch::Receiver<bool>,
    filter: Filter,
    always_full: bool,
    /// What the subscriber has.
    has: Option<Arc<Canonical>>,
    /// Why its resume token was not honoured; told with the first answer.
    reset_reason: String,
    _permit: OwnedSemaphorePermit,
}

impl Watcher {
    /// Waits for a snapshot newer than what the subscriber has.
    async fn next(&mut self) -> Result<Encoded, Status> {
        loop {
            let published = self.newest.borrow_and_update().clone();
            if *self.stopping.borrow() {
                return Err(stopped());
            }
            let has = self.has.as_ref().map(|has| (has.epoch, has.cycle));
            let news = published.filter(|published| has < Some((published.snapshot.epoch, published.snapshot.cycle)));
            if let Some(published) = news {
                return Ok(self.answer(&published));
            }
            tokio::select! {
                changed = self.newest.changed() => changed.map_err(|_| stopped())?,
                () = stops(&mut self.stopping) => return Err(stopped()),
            }
        }
    }

    fn answer(&mut self, published: &Published) -> Encoded {
        let before = self.has.as_deref().filter(|_| !self.always_full);
        let answer = self.reader.board().answer(published, &self.filter, before);
        self.has = Some(Arc::clone(&published.canonical));
        self.reader.got(published.snapshot.cycle);
        if self.reset_reason.is_empty() {
            return answer;
        }
        // Only this reader is told, so only its answer is encoded again.
        let mut told = <WireWatchResponse as prost::Message>::decode(answer.0).unwrap_or_default();
        told.reset_reason = std::mem::take(&mut self.reset_reason);
        Encoded(prost::Message::encode_to_vec(&told).into())
    }
}

impl Services {
    /// The state that a resume token speaks of, or why there is none.
    async fn resume(&self, token: &str, filter: &Filter) -> Result<Result<Arc<Canonical>, String>, Status> {
        let published = self.newest()?;
        let parts: Vec<&str> = token.split('.').collect();
        let [cluster, epoch, cycle, mark] = parts[..] else {
            return Err(status::bad_field("resume_token", "not a token of this rpc"));
        };
        let (Ok(epoch), Ok(cycle)) = (epoch.parse::<u64>(), cycle.parse::<u64>()) else {
            return Err(status::bad_field("resume_token", "not a token of this rpc"));
        };
        if cluster != published.snapshot.cluster.to_string() {
            return Ok(Err(format!("the token is of another cluster, {cluster}")));
        }
        if mark != board::filter_mark(filter) {
            return Ok(Err(
                "the token is of a watch with other sections or another label".to_owned()
            ));
        }
        if let Some(recent) = self.board.recent(epoch, cycle) {
            return Ok(Ok(recent));
        }
        let kept = self.read(move |history| history.snapshot(cycle)).await?;
        let kept = kept.filter(|kept| kept.seal.epoch == epoch);
        match kept.map(|kept| Canonical::from_bytes(kept.bytes)) {
            Some(Ok(canonical)) => Ok(Ok(Arc::new(canonical))),
            Some(Err(error)) => Ok(Err(error.to_string())),
            None => Ok(Err(format!("epoch {epoch} cycle {cycle} is no longer kept"))),
        }
    }
}

#[tonic::async_trait]
impl CoherenceService for Services {
    type WatchSnapshotsStream = Answers<Encoded>;
    type ReadSnapshotsStream = Answers<v1::ReadSnapshotsResponse>;

    async fn get_snapshot(&self, request: Request<v1::GetSnapshotRequest>) -> Result<Response<Encoded>, Status> {
        let request = request.into_inner();
        let filter = filter(&request.sections, &request.node_label)?;
        let published = self.newest()?;
        let cycle = request.cycle;
        let answer = if cycle == 0 || cycle == published.snapshot.cycle {
            WireGetResponse {
                snapshot: Some(published.canonical.view(&filter)),
                seal: Some((&*published.seal).into()),
                age: published.read_state().age,
            }
        } else {
            let kept = self.read(move |history| history.snapshot(cycle)).await?;
            let missing = || {
                status::not_found(
                    "SNAPSHOT_NOT_KEPT",
                    format!("the snapshot of cycle {cycle} is not kept"),
                )
            };
            let kept = kept.ok_or_else(missing)?;
            let bytes = if filter.is_everything() {
                kept.bytes
            } else {
                let canonical =
                    Canonical::from_bytes(kept.bytes).map_err(|error| Status::internal(error.to_string()))?;
                canonical.view(&filter)
            };
            let age = Some(duration(std::time::Duration::ZERO));
            WireGetResponse {
                snapshot: Some(bytes),
                seal: Some((&*kept.seal).into()),
                age,
            }
        };
        Ok(Response::new(Encoded::new(&answer)))
    }

    async fn watch_snapshots(
        &self,
        request: Request<v1::WatchSnapshotsRequest>,
    ) -> Result<Response<Self::WatchSnapshotsStream>, Status> {
        let request = request.into_inner();
        let filter = filter(&request.sections, &request.node_label)?;
        let permit = self.subscribe()?;
        let (has, reset_reason) = match request.resume_token.as_str() {
            "" => (None, String::new()),
            token => match self.resume(token, &filter).await? {
                Ok(canonical) => (Some(canonical), String::new()),
                Err(reason) => (None, reason),
            },
        };
        let watcher = Watcher {
            reader: self.board.reader(),
            newest: self.board.subscribe(),
            stopping: self.stopping.clone(),
            filter,
            always_full: request.always_full,
            has,
            reset_reason,
            _permit: permit,
        };
        let answers = stream::unfold(Some(watcher), async |watcher| {
            let mut watcher = watcher?;
            match watcher.next().await {
                Ok(answer) => Some((Ok(answer), Some(watcher))),
                Err(status) => Some((Err(status), None)),
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn list_snapshots(
        &self,
        request: Request<v1::ListSnapshotsRequest>,
    ) -> Result<Response<v1::ListSnapshotsResponse>, Status> {
        let request = request.into_inner();
        let size = page_size(request.page_size)?;
        let before: u64 = page_token(&request.page_token)?.unwrap_or(u64::MAX);
        let mut entries = self.read(move |history| history.seals(before, size + 1)).await?;
        let more = entries.len() > size;
        entries.truncate(size);
        let next_page_token = entries
            .last()
            .filter(|_| more)
            .map(|last| last.seal.cycle.to_string())
            .unwrap_or_default();
        let entries = entries.iter().map(|entry| v1::SealedEntry {
            seal: Some((&entry.seal).into()),
            time: Some(timestamp(entry.time)),
            size_bytes: entry.size,
        });
        Ok(Response::new(v1::ListSnapshotsResponse {
            entries: entries.collect(),
            next_page_token,
            public_key: self.public_key.0.to_vec(),
            cluster_id: self.newest()?.snapshot.cluster.to_string(),
        }))
    }

    async fn read_snapshots(
        &self,
        request: Request<v1::ReadSnapshotsRequest>,
    ) -> Result<Response<Self::ReadSnapshotsStream>, Status> {
        let v1::ReadSnapshotsRequest { from_cycle, to_cycle } = request.into_inner();
        let last = match to_cycle {
            0 => self.newest()?.snapshot.cycle,
            last if last < from_cycle => {
                return Err(status::bad_field(
                    "to_cycle",
                    format!("{last} is below from_cycle, {from_cycle}"),
                ));
            }
            last => last,
        };
        let services = self.clone();
        let answers = stream::unfold(Some(from_cycle), move |from| {
            let services = services.clone();
            async move {
                let from = from.filter(|from| *from <= last)?;
                if *services.stopping.borrow() {
                    return Some((Err(stopped()), None));
                }
                match services.read(move |history| history.snapshot_from(from)).await {
                    Ok(Some(kept)) if kept.seal.cycle <= last => {
                        let next = Some(kept.seal.cycle + 1);
                        Some((Ok(read_response(kept)), next))
                    }
                    Ok(_) => None,
                    Err(status) => Some((Err(status), None)),
                }
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

fn read_response(kept: SealedSnapshot) -> v1::ReadSnapshotsResponse {
    v1::ReadSnapshotsResponse {
        snapshot: kept.bytes,
        seal: Some((&*kept.seal).into()),
    }
}
