//! Streams without an end: reconnecting after a failure.

use std::{future::Future, time::Duration};

use tonic::{Code, Response, Status, Streaming};
use wyneos_core::text::Span;

use crate::{
    context::Context,
    failure::{Failure, is_transport},
    text,
};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Keeps a stream alive: the delay between attempts increases, and is reset once a message was received.
pub(crate) struct Follower<'a> {
    context: &'a Context,
    what: &'a str,
    pause: Duration,
    established: bool,
}

impl<'a> Follower<'a> {
    /// A follower of the stream that `what` opens.
    pub(crate) fn new(context: &'a Context, what: &'a str) -> Follower<'a> {
        Follower {
            context,
            what,
            pause: FIRST_PAUSE,
            established: false,
        }
    }

    /// Opens the stream; `None` if it is to be retried. The first attempt must succeed, so that a mistyped address is
    /// reported.
    pub(crate) async fn open<T>(
        &mut self,
        call: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
    ) -> Result<Option<Streaming<T>>, Failure> {
        let (context, what) = (self.context, self.what);
        match tokio::time::timeout(context.timeout, call).await {
            Ok(Ok(stream)) => {
                if self.pause > FIRST_PAUSE {
                    text::stderr("connected again");
                }
                self.established = true;
                Ok(Some(stream.into_inner()))
            }
            Ok(Err(status)) => self.lost(&status).await.map(|()| None),
            Err(_) if self.established => {
                self.wait("no answer in time").await;
                Ok(None)
            }
            Err(_) => Err(Failure::timeout(what, context.timeout, &context.address)),
        }
    }

    /// Records that a message arrived. An opened stream alone does not count, because it may end immediately every
    /// time.
    pub(crate) fn heard(&mut self) {
        self.pause = FIRST_PAUSE;
    }

    /// Waits if `status` is transient; fails otherwise.
    pub(crate) async fn lost(&mut self, status: &Status) -> Result<(), Failure> {
        // All others are refusals, which would be repeated.
        let passes = is_transport(status)
            || matches!(
                status.code(),
                Code::Unavailable
                    | Code::ResourceExhausted
                    | Code::DeadlineExceeded
                    | Code::Cancelled
                    | Code::Aborted
                    | Code::Internal
            );
        if !self.established || !passes {
            return Err(self.context.failed(self.what, status));
        }
        self.wait(status.message()).await;
        Ok(())
    }

    /// Waits after the server ended the stream without an error.
    pub(crate) async fn ended(&mut self) {
        self.wait("the server ended the stream").await;
    }

    async fn wait(&mut self, why: &str) {
        let pause = Span(self.pause);
        text::stderr(&format!("{}: {}; retrying in {pause}", self.what, text::clean(why)));
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}
