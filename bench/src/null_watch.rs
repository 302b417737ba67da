//! The null server of subscriptions: streams recorded bytes without interpreting them.

use std::{fs, path::Path, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message;
use tokio::{sync::watch, time::interval};
use tokio_stream::{Stream, StreamExt as _, wrappers::WatchStream};
use tonic::{Request, Response, Status};
use wyneos::{
    canonical::WireWatchResponse,
    encoded::Encoded,
    served::coherence_service_server::{CoherenceService, CoherenceServiceServer},
    v1,
};

use crate::{Failure, null};

/// The recorded answers.
#[derive(Clone, PartialEq, Message)]
struct Recording {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    answers: Vec<Bytes>,
}

/// Writes `answers` to `file`, from which the null server streams them.
pub(crate) fn record(answers: &[WireWatchResponse], file: &Path) -> Result<(), Failure> {
    let answers = answers.iter().map(|answer| answer.encode_to_vec().into()).collect();
    let bytes = Recording { answers }.encode_to_vec();
    fs::write(file, bytes).map_err(Failure::of(file.display()))
}

/// Serves the answers recorded in `file`: the first one to a new subscriber at once, and a further one after every
/// `cycle`.
pub(crate) fn subscriptions(file: &Path, cycle: Duration) -> Result<(), Failure> {
    let bytes = fs::read(file).map_err(Failure::of(file.display()))?;
    let recording = Recording::decode(bytes.as_slice()).map_err(Failure::of(file.display()))?;
    null::serve(None, move || {
        let (tick, ticks) = watch::channel(0usize);
        tokio::spawn(async move {
            let mut pulse = interval(cycle);
            loop {
                pulse.tick().await;
                tick.send_modify(|tick| *tick += 1);
            }
        });
        let answers = recording.answers.into_iter().map(Encoded).collect();
        let server = Watched { answers, ticks };
        Ok(null::builder().add_service(CoherenceServiceServer::new(server)))
    })
}

struct Watched {
    answers: Arc<[Encoded]>,
    ticks: watch::Receiver<usize>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn not_here<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("the null server only streams"))
}

#[tonic::async_trait]
impl CoherenceService for Watched {
    type WatchSnapshotsStream = Answers<Encoded>;
    type ReadSnapshotsStream = Answers<v1::ReadSnapshotsResponse>;

    async fn watch_snapshots(
        &self,
        request: Request<v1::WatchSnapshotsRequest>,
    ) -> Result<Response<Self::WatchSnapshotsStream>, Status> {
        let always_full = request.into_inner().always_full;
        let answers = Arc::clone(&self.answers);
        let mut first = true;
        let stream = WatchStream::new(self.ticks.clone()).map(move |tick| {
            let full = std::mem::replace(&mut first, false) || always_full;
            let later = answers.len().saturating_sub(1).max(1);
            let at = if full { 0 } else { 1 + tick % later };
            let answer = answers.get(at).or(answers.first()).cloned();
            answer.ok_or_else(|| Status::internal("nothing was recorded"))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn get_snapshot(&self, _: Request<v1::GetSnapshotRequest>) -> Result<Response<Encoded>, Status> {
        not_here()
    }

    async fn list_snapshots(
        &self,
        _: Request<v1::ListSnapshotsRequest>,
    ) -> Result<Response<v1::ListSnapshotsResponse>, Status> {
        not_here()
    }

    async fn read_snapshots(
        &self,
        _: Request<v1::ReadSnapshotsRequest>,
    ) -> Result<Response<Self::ReadSnapshotsStream>, Status> {
        not_here()
    }
}
