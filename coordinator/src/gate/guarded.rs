//! An answer that continues only while its caller is accepted.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body};

use super::{Caller, Gate};
use crate::answers::ending;

/// A stream that ends with its next message once its caller is revoked.
pub(super) struct Guarded {
    inner: Body,
    gate: Gate,
    caller: Caller,
    ended: bool,
}

impl Guarded {
    pub(super) fn new(inner: Body, gate: Gate, caller: Caller) -> Guarded {
        Guarded {
            inner,
            gate,
            caller,
            ended: false,
        }
    }
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        let is_data = frame
            .as_ref()
            .is_some_and(|frame| frame.as_ref().is_ok_and(Frame::is_data));
        let hears = self.caller.hears.get().is_some();
        let Err(status) = (if is_data && !hears {
            self.gate.still(&self.caller)
        } else {
            Ok(())
        }) else {
            return Poll::Ready(frame);
        };
        self.ended = true;
        self.gate.metrics.call_refused("credential");
        let (code, reason) = (status.code(), status.message());
        self.gate.note_refusal(&self.caller, "stream", code, reason);
        Poll::Ready(Some(Ok(ending(&status))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
