//! Streams without an end: what to do when one breaks.

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

/// Keeps a stream alive: waits ever longer between attempts, and starts anew once something was heard.
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

    /// Opens the stream; `None` when it is to be tried again. The first attempt must succeed: an operator who mistyped
    /// the address wants to know.
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

    /// A message came. That the stream opened is not enough: it may end at once, every time.
    pub(crate) fn heard(&mut self) {
        self.pause = FIRST_PAUSE;
    }

    /// Waits when `status` may pass; fails when it will not.
    pub(crate) async fn lost(&mut self, status: &Status) -> Result<(), Failure> {
        // The rest are refusals, and would be repeated.
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

    /// The server ended the stream without an error.
    pub(crate) async fn ended(&mut self) {
        self.wait("the server ended the stream").await;
    }

    async fn wait(&mut self, why: &str) {
        let pause = Span(self.pause);
        text::stderr(&format!("{}: {}; again in {pause}", self.what, text::clean(why)));
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}
