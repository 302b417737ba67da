//! CoherenceService: published and historical snapshots.

use std::sync::Arc;

use futures_util::stream;
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use wyneos::{
    canonical::{Canonical, Filter, WireGetResponse, WireWatchResponse},
    convert::{duration, timestamp},
    encoded::Encoded,
    served::coherence_service_server::CoherenceService,
    v1,
};
use wyneos_core::id::{Cycle, Epoch};

use super::{Services, caller_of, label_selector, page_size, page_token, stopped, stops};
use crate::{
    answers::{self, Answers, Message, Pieces, Taken},
    board::{self, Published, Reader, Step},
    reads::{Asker, Sort, Still},
    status,
    store::{History, SealedSnapshot, StoreError},
};

/// Field numbers of the answers that contain a full state, and a delta.
const FULL: u32 = 1;
const DELTA: u32 = 2;

/// Maximum length of a resume token: a longer one was not issued by this coordinator.
const TOKEN: usize = 512;

fn filter(sections: &[i32], node_label: &str) -> Result<Filter, Status> {
    for (at, section) in sections.iter().enumerate() {
        let known = v1::Section::try_from(*section).is_ok_and(|section| section != v1::Section::Unspecified);
        if !known {
            return Err(status::bad_field(
                format!("sections[{at}]"),
                format!("{section} is not a section"),
            ));
        }
    }
    Ok(Filter {
        sections: sections.iter().copied().collect(),
        label: label_selector("node_label", node_label)?,
    })
}

/// A subscriber of WatchSnapshots. While its client does not read, it holds no state, but only the number of the last
/// one sent.
struct Watcher {
    services: Services,
    asker: Asker,
    reader: Reader,
    newest: watch::Receiver<Option<Arc<Published>>>,
    stopping: watch::Receiver<bool>,
    filter: Filter,
    always_full: bool,
    /// The state that the subscriber has.
    has: Step,
    /// The reason for which its resume token was not honoured; sent with the first answer.
    reset_reason: String,
    _permit: Taken,
}

impl Watcher {
    /// Waits for a snapshot newer than the subscriber's state.
    async fn next(&mut self) -> Result<Message, Status> {
        loop {
            let published = self.newest.borrow_and_update().clone();
            if *self.stopping.borrow() {
                return Err(stopped());
            }
            let news = published.filter(|published| self.has < Some(published.number()));
            if let Some(published) = news {
                return self.answer(published).await;
            }
            tokio::select! {
                changed = self.newest.changed() => changed.map_err(|_| stopped())?,
                () = stops(&mut self.stopping) => return Err(stopped()),
            }
        }
    }

    async fn answer(&mut self, published: Arc<Published>) -> Result<Message, Status> {
        let mut reset_reason = std::mem::take(&mut self.reset_reason);
        let mut step = None;
        if let Some(from) = self.has.filter(|_| !self.always_full) {
            step = self.services.step(&self.asker, &published, &self.filter, from).await?;
            if step.is_none() {
                reset_reason = no_longer_kept(from);
            }
        }
        let (field, pieces) = match step {
            Some(step) => (DELTA, step),
            None => (FULL, self.reader.board().full(&published, &self.filter)),
        };
        let rest = WireWatchResponse {
            seal: Some((&*published.seal).into()),
            resume_token: board::token(&published, &self.filter),
            reset_reason,
            ..WireWatchResponse::default()
        };
        self.has = Some(published.number());
        self.reader.got(published.snapshot.cycle.0);
        Ok(Message::around(field, pieces, &rest))
    }
}

fn no_longer_kept((epoch, cycle): (u64, u64)) -> String {
    format!("epoch {epoch} cycle {cycle} is no longer retained")
}

impl Services {
    /// The delta from an earlier state to the newest, reduced by `filter`; `None` if the earlier one is not retained.
    async fn step(
        &self,
        asker: &Asker,
        published: &Arc<Published>,
        filter: &Filter,
        from: (u64, u64),
    ) -> Result<Option<Arc<Pieces>>, Status> {
        if let Some(pieces) = self.board.shared(&(published.number(), filter.clone(), Some(from))) {
            return Ok(Some(pieces));
        }
        if let Some(recent) = self.board.recent(from.0, from.1) {
            return Ok(Some(self.board.step(published, filter, &recent)));
        }
        let (board, published, filter) = (Arc::clone(&self.board), Arc::clone(published), filter.clone());
        let load = move |history: &dyn History, _: &Still| {
            // Another reader may have waited for the same delta.
            if let Some(pieces) = board.shared(&(published.number(), filter.clone(), Some(from))) {
                return Ok(Some(pieces));
            }
            let kept = history
                .snapshot(from.1)?
                .filter(|kept| kept.seal.epoch == Epoch(from.0));
            let before = kept.and_then(|kept| Canonical::from_bytes(kept.bytes).ok());
            Ok(before.map(|before| board.step(&published, &filter, &before)))
        };
        self.read(Sort::Snapshot, asker, load).await
    }

    /// A sealed snapshot found by `find`, in pieces.
    async fn sealed(
        &self,
        asker: &Asker,
        find: impl FnOnce(&dyn History) -> Result<Option<SealedSnapshot>, StoreError> + Send + 'static,
        filter: Filter,
    ) -> Result<Option<(Arc<wyneos_core::integrity::Seal>, Arc<Pieces>)>, Status> {
        let board = Arc::clone(&self.board);
        let load = move |history: &dyn History, _: &Still| {
            let Some(SealedSnapshot { seal, bytes, .. }) = find(history)? else {
                return Ok(None);
            };
            let wish = ((seal.epoch.0, seal.cycle.0), filter, None);
            if wish.1.is_everything() {
                return Ok(Some((seal, board.share(wish, || bytes))));
            }
            let view = Canonical::from_bytes(bytes).map(|canonical| canonical.view(&wish.1));
            Ok(view.ok().map(|view| (seal, board.share(wish, || view))))
        };
        self.read(Sort::Snapshot, asker, load).await
    }

    /// The state that a resume token refers to, or the reason for which there is none.
    fn resume(&self, token: &str, filter: &Filter) -> Result<Result<(u64, u64), String>, Status> {
        let published = self.newest()?;
        if token.len() > TOKEN {
            return Err(status::bad_field("resume_token", "longer than any token of this rpc"));
        }
        let parts: Vec<&str> = token.split('.').collect();
        let [cluster, epoch, cycle, mark] = parts[..] else {
            return Err(status::bad_field("resume_token", "not a token of this rpc"));
        };
        let (Ok(epoch), Ok(cycle)) = (epoch.parse::<u64>(), cycle.parse::<u64>()) else {
            return Err(status::bad_field("resume_token", "not a token of this rpc"));
        };
        if cluster != published.snapshot.cluster.to_string() {
            return Ok(Err("the token belongs to another cluster".to_owned()));
        }
        if mark != board::filter_mark(filter) {
            return Ok(Err(
                "the token belongs to a watch with other sections or another label".to_owned()
            ));
        }
        if (epoch, cycle) > published.number() {
            return Ok(Err(no_longer_kept((epoch, cycle))));
        }
        // Whether it is retained is determined when the first answer is created.
        Ok(Ok((epoch, cycle)))
    }
}

#[tonic::async_trait]
impl CoherenceService for Services {
    type WatchSnapshotsStream = Answers<Encoded>;
    type ReadSnapshotsStream = Answers<v1::ReadSnapshotsResponse>;

    async fn get_snapshot(&self, request: Request<v1::GetSnapshotRequest>) -> Result<Response<Encoded>, Status> {
        let asker = Asker::of(&request);
        let request = request.into_inner();
        let filter = filter(&request.sections, &request.node_label)?;
        let published = self.newest()?;
        let cycle = request.cycle;
        let (pieces, seal, age) = if cycle == 0 || cycle == published.snapshot.cycle.0 {
            let pieces = self.board.full(&published, &filter);
            (pieces, Arc::clone(&published.seal), published.read_state().age)
        } else {
            let missing = || {
                status::not_found(
                    "SNAPSHOT_NOT_KEPT",
                    format!("the snapshot of cycle {cycle} is not retained"),
                )
            };
            let kept = self.sealed(&asker, move |history| history.snapshot(cycle), filter);
            let (seal, pieces) = kept.await?.ok_or_else(missing)?;
            (pieces, seal, Some(duration(std::time::Duration::ZERO)))
        };
        let rest = WireGetResponse {
            snapshot: None,
            seal: Some((&*seal).into()),
            age,
        };
        Ok(answers::answer(Message::around(FULL, pieces, &rest)))
    }

    async fn watch_snapshots(
        &self,
        request: Request<v1::WatchSnapshotsRequest>,
    ) -> Result<Response<Self::WatchSnapshotsStream>, Status> {
        let permit = self.subscribe(&caller_of(&request))?;
        let asker = Asker::of(&request);
        let request = request.into_inner();
        let filter = filter(&request.sections, &request.node_label)?;
        let (has, reset_reason) = match request.resume_token.as_str() {
            "" => (None, String::new()),
            token => match self.resume(token, &filter)? {
                Ok(number) => (Some(number), String::new()),
                Err(reason) => (None, reason),
            },
        };
        let watcher = Watcher {
            services: self.clone(),
            asker,
            reader: self.board.reader(),
            newest: self.board.subscribe(),
            stopping: self.stopping.clone(),
            filter,
            always_full: request.always_full,
            has,
            reset_reason,
            _permit: permit,
        };
        Ok(answers::stream(stream::unfold(Some(watcher), async |watcher| {
            let mut watcher = watcher?;
            match watcher.next().await {
                Ok(answer) => Some((Ok(answer), Some(watcher))),
                Err(status) => Some((Err(status), None)),
            }
        })))
    }

    async fn list_snapshots(
        &self,
        request: Request<v1::ListSnapshotsRequest>,
    ) -> Result<Response<v1::ListSnapshotsResponse>, Status> {
        let asker = Asker::of(&request);
        let request = request.into_inner();
        let size = page_size(request.page_size)?;
        let before: u64 = page_token(&request.page_token)?.unwrap_or(u64::MAX);
        let entries = self.read(Sort::Page, &asker, move |history, _| history.seals(before, size + 1));
        let mut entries = entries.await?;
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
            lived_millis: u64::try_from(entry.lived.as_millis()).unwrap_or(u64::MAX),
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
        let permit = self.subscribe(&caller_of(&request))?;
        let asker = Asker::of(&request);
        let v1::ReadSnapshotsRequest { from_cycle, to_cycle } = request.into_inner();
        let last = match to_cycle {
            0 => self.newest()?.snapshot.cycle,
            last if last < from_cycle => {
                return Err(status::bad_field(
                    "to_cycle",
                    format!("{last} is below from_cycle, {from_cycle}"),
                ));
            }
            last => Cycle(last),
        };
        let start = Some((self.clone(), asker, from_cycle, permit));
        Ok(answers::stream(stream::unfold(start, move |start| async move {
            let (services, asker, from, permit) = start.filter(|(_, _, from, _)| *from <= last.0)?;
            if *services.stopping.borrow() {
                return Some((Err(stopped()), None));
            }
            let next = move |history: &dyn History| {
                let kept = history.snapshot_from(from)?;
                Ok(kept.filter(|kept| kept.seal.cycle <= last))
            };
            match services.sealed(&asker, next, Filter::default()).await {
                Ok(Some((seal, pieces))) => {
                    let rest = v1::ReadSnapshotsResponse {
                        seal: Some((&*seal).into()),
                        ..v1::ReadSnapshotsResponse::default()
                    };
                    let message = Message::around(FULL, pieces, &rest);
                    Some((Ok(message), Some((services, asker, seal.cycle.0 + 1, permit))))
                }
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        })))
    }
}
