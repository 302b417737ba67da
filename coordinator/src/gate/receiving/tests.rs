use std::{net::IpAddr, task::Waker};

use http_body::Body as _;
use proptest::prelude::*;
use tonic::Code;
use tonic_types::StatusExt as _;
use wyneos::identity::rule;

use super::*;
use crate::{
    answers::{Quota, Who},
    gate::shares::tests::received,
    metrics::Metrics,
};

/// A body whose pieces arrive one by one, without an end.
struct Pieces(Vec<Vec<u8>>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.0.is_empty() {
            true => Poll::Pending,
            false => Poll::Ready(Some(Ok(Frame::data(self.0.remove(0).into())))),
        }
    }
}

fn framed(length: usize) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
    bytes.resize(PREFIX + length, 7);
    bytes
}

/// `bytes` divided at these positions.
fn cut(bytes: &[u8], mut places: Vec<usize>) -> Vec<Vec<u8>> {
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    let pieces = places.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec());
    pieces.filter(|piece| !piece.is_empty()).collect()
}

/// The result of a body: the number of bytes read, and the error that ended it.
fn read(body: &mut Receiving) -> (usize, Option<Status>) {
    let mut context = Context::from_waker(Waker::noop());
    let mut bytes = 0;
    loop {
        match Pin::new(&mut *body).poll_frame(&mut context) {
            Poll::Ready(Some(Ok(frame))) => bytes += frame.into_data().unwrap().len(),
            Poll::Ready(Some(Err(status))) => return (bytes, Some(status)),
            Poll::Ready(None) | Poll::Pending => return (bytes, None),
        }
    }
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().unwrap().reason.clone()
}

const UNARY: &str = "wyneos.v1.ClusterService/LabelNode";

proptest! {
    #[test]
    fn what_is_counted_is_what_was_held_of_one_message_at_once(
        lengths in proptest::collection::vec(0usize..5_000, 1..8),
        places in proptest::collection::vec(any::<proptest::sample::Index>(), 0..20),
    ) {
        let bytes: Vec<u8> = lengths.iter().flat_map(|length| framed(*length)).collect();
        let pieces = cut(&bytes, places.iter().map(|place| place.index(bytes.len())).collect());
        // Ends of messages: bytes since the last end are held when the next piece arrives.
        let mut ends = vec![0];
        ends.extend(lengths.iter().scan(0, |end, length| { *end += PREFIX + length; Some(*end) }));
        let (mut at, mut most) = (0, 0);
        for piece in &pieces {
            let held = at - ends.iter().rev().find(|end| **end <= at).unwrap();
            at += piece.len();
            most = most.max(held + piece.len());
        }
        let quota = Quota::new(1 << 20, 1 << 20);
        let received = received(&quota, 0);
        let session = rule(SESSION).unwrap();
        let mut body = Receiving::new(Body::new(Pieces(pieces)), &received, session);
        // Without a runtime: a session has no time limit.
        let (read, failed) = read(&mut body);
        prop_assert!(failed.is_none() && read == bytes.len());
        prop_assert_eq!(body.counted, most);
    }

    #[test]
    fn a_body_beyond_the_limit_ends_and_gives_everything_back(size in 1usize..300_000, room in 1usize..200_000) {
        let quota = Quota::new(room, room);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _guard = runtime.enter();
        let held = received(&quota, 0);
        let pieces = cut(&framed(size), (0..size).step_by(16_384).collect());
        let mut body = Receiving::new(Body::new(Pieces(pieces)), &held, rule(UNARY).unwrap());
        let (read, failed) = read(&mut body);
        match failed {
            Some(status) => {
                prop_assert!(size + PREFIX > room);
                prop_assert_eq!((status.code(), reason(&status)), (Code::ResourceExhausted, "REQUEST_BYTES".to_owned()));
                prop_assert!(read <= room);
            }
            None => prop_assert!(size + PREFIX <= room && read == size + PREFIX),
        }
        drop((body, held));
        prop_assert!(quota.take_many(Who::Source(Some(IpAddr::from([10, 0, 0, 1]))), room).is_ok());
    }
}

#[test]
fn a_message_that_is_too_long_is_refused_by_its_prefix_with_the_limit() {
    let quota = Quota::new(1 << 30, 1 << 30);
    for (rpc, most) in [
        (UNARY, limits::REQUEST),
        ("wyneos.v1.EnrollmentService/Enroll", limits::JOINING),
        ("grpc.health.v1.Health/Check", limits::SYMBOL),
    ] {
        let held = received(&quota, 0);
        let mut prefix = vec![0];
        prefix.extend(u32::try_from(most + 1).unwrap().to_be_bytes());
        let mut body = Receiving::new(Body::new(Pieces(vec![prefix])), &held, rule(rpc).unwrap());
        let status = read(&mut body).1.unwrap();
        assert_eq!(
            (status.code(), reason(&status)),
            (Code::OutOfRange, "REQUEST_SIZE".to_owned())
        );
        let message = status.message();
        assert!(
            message.contains(&most.to_string()) && message.contains(rpc),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_request_that_is_never_finished_ends_and_a_session_does_not() {
    let quota = Quota::new(1 << 20, 1 << 20);
    for (rpc, ends) in [(UNARY, true), (SESSION, false)] {
        let held = received(&quota, 0);
        let mut body = Receiving::new(Body::new(Pieces(vec![vec![0]])), &held, rule(rpc).unwrap());
        assert_eq!(body.until.is_some(), ends);
        // As if it had begun long ago.
        body.until = body.until.map(|until| until - COMPLETE + Duration::from_millis(50));
        assert!(read(&mut body).1.is_none());
        tokio::time::sleep(Duration::from_millis(60)).await;
        let failed = read(&mut body).1;
        assert_eq!(failed.as_ref().map(reason), ends.then(|| "REQUEST_TIME".to_owned()));
    }
}

#[test]
fn what_is_counted_is_told_by_the_metrics() {
    let metrics = Metrics::new().0;
    let quota = Quota::new(100, 100);
    let held = crate::gate::shares::tests::received_with(&quota, 40, &metrics);
    held.grow(50).unwrap();
    held.grow(11).unwrap_err();
    assert_eq!(metrics.request_bytes.get(), 90);
    drop(held);
    assert_eq!(metrics.request_bytes.get(), 0);
}

/// The rpcs with a stream of requests are those in the protos.
#[test]
fn streams_of_requests_have_no_time() {
    let pool = <prost_types::FileDescriptorSet as prost::Message>::decode(wyneos::FILE_DESCRIPTOR_SET).unwrap();
    let services = pool
        .file
        .iter()
        .flat_map(|file| file.service.iter().map(move |service| (file.package(), service)));
    for (package, service) in services {
        for method in &service.method {
            let rpc = format!("{package}.{}/{}", service.name(), method.name());
            let Some(rule) = rule(&rpc) else { continue };
            assert_eq!(method.client_streaming(), rule.rpc == SESSION, "{rpc}");
        }
    }
}
