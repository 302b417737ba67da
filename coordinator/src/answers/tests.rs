use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures_util::stream as streams;
use http::Request;
use http_body::Body as _;
use proptest::prelude::*;
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt as _;
use tower::{Layer as _, Service as _, service_fn};
use wyneos::canonical::WireWatchResponse;

use super::{pacing::PacedBody, *};
use crate::{board::Board, metrics::Metrics};

const MIB: usize = 1 << 20;

fn ledger(budget: usize) -> Arc<Ledger> {
    Ledger::new(budget, Metrics::new().0)
}

/// The output of a body without waiting, until it waits or ends.
enum Got {
    Data(Bytes),
    End(Status),
    Waits,
}

fn poll(body: &mut Body) -> Got {
    let mut context = Context::from_waker(Waker::noop());
    match Pin::new(body).poll_frame(&mut context) {
        Poll::Pending => Got::Waits,
        Poll::Ready(None) => Got::End(Status::ok("no status")),
        Poll::Ready(Some(frame)) => match frame.unwrap().into_data() {
            Ok(data) => Got::Data(data),
            Err(frame) => Got::End(Status::from_header_map(frame.trailers_ref().unwrap()).unwrap()),
        },
    }
}

/// The body of a service's answer after all layers.
fn served(ledger: &Arc<Ledger>, messages: Vec<Message>) -> (Body, Arc<Flight>) {
    let flight = ledger.open(None);
    let messages = std::sync::Mutex::new(Some(messages));
    let inner = service_fn(move |_: Request<Body>| {
        let messages = messages.lock().unwrap().take().unwrap_or_default();
        let response = stream::<WireWatchResponse>(streams::iter(messages.into_iter().map(Ok)));
        let mut http = http::Response::new(Body::empty());
        *http.extensions_mut() = response.extensions().clone();
        std::future::ready(Ok::<_, Status>(http))
    });
    let mut request = Request::new(Body::empty());
    request.extensions_mut().insert(Arc::clone(&flight));
    let mut answering = Box::pin(Answering.layer(inner).call(request));
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(response) = answering.as_mut().poll(&mut context) else {
        panic!("it waits");
    };
    let inner = response.unwrap().into_body();
    (Body::new(PacedBody::new(inner, Arc::clone(&flight))), flight)
}

/// Everything that a reader receives that drops each frame immediately.
fn read(mut body: Body) -> (Vec<u8>, Status) {
    let mut bytes = Vec::new();
    loop {
        match poll(&mut body) {
            Got::Data(data) => bytes.extend(data),
            Got::End(status) => return (bytes, status),
            Got::Waits => panic!("it waits behind {} bytes", bytes.len()),
        }
    }
}

fn framed(message: &impl prost::Message) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(message.encoded_len()).unwrap().to_be_bytes());
    message.encode(&mut bytes).unwrap();
    bytes
}

/// Sizes around the relevant ones.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        0usize..3,
        PIECE - 2..PIECE + 3,
        3 * PIECE - 2..3 * PIECE + 3,
        0..200_000usize
    ]
}

proptest! {
    #[test]
    fn a_message_in_pieces_is_the_message(size in size(), token in "[a-z]{0,40}") {
        let ledger = ledger(64 * MIB);
        let view = Bytes::from(vec![7; size]);
        let rest = WireWatchResponse { resume_token: token, ..Default::default() };
        let whole = WireWatchResponse { full: Some(view.clone()), ..rest.clone() };
        let message = Message::around(1, Pieces::new(&ledger, view), &rest);
        let plain = Message::new(&ledger, &whole);
        let (body, _) = served(&ledger, vec![message, plain]);
        let (bytes, status) = read(body);
        prop_assert_eq!(status.code(), Code::Ok);
        prop_assert_eq!(bytes, [framed(&whole), framed(&whole)].concat());
        prop_assert_eq!(ledger.bytes(), 0);
    }

    #[test]
    fn whatever_readers_do_the_ledger_stays_below_its_limit(
        // 0: another reader of a new state; 1: of the newest; 2: one continues to read; 3: one leaves.
        steps in proptest::collection::vec((0u8..4, any::<proptest::sample::Index>(), 1usize..2 * MIB), 1..80),
    ) {
        let ledger = ledger(4 * MIB);
        let mut newest = Pieces::new(&ledger, vec![0; MIB]);
        let mut readers: Vec<(Body, Vec<Bytes>)> = Vec::new();
        for (step, which, size) in steps {
            match step {
                0 => newest = Pieces::new(&ledger, vec![0; size]),
                1 | 2 if !readers.is_empty() && step == 2 => {
                    let at = which.index(readers.len());
                    readers[at].1.clear();
                    if let Got::Data(data) = poll(&mut readers[at].0) {
                        readers[at].1.push(data);
                    }
                }
                3 if !readers.is_empty() => drop(readers.swap_remove(which.index(readers.len()))),
                _ => {}
            }
            if step < 2 && readers.len() < 16 {
                let message = Message::around(1, Arc::clone(&newest), &WireWatchResponse::default());
                let (mut body, _) = served(&ledger, vec![message]);
                // The connection takes its bytes, and writes nothing.
                let mut unwritten = Vec::new();
                while let Got::Data(data) = poll(&mut body) {
                    unwritten.push(data);
                }
                prop_assert!(unwritten.iter().map(Bytes::len).sum::<usize>() < WINDOW + PIECE);
                readers.push((body, unwritten));
            }
            // The newest state, which is held here, the bytes in flight, and those that may be added before the next
            // check.
            let most = 4 * MIB + 4 * MIB / 64 + newest.len() + readers.len() * (WINDOW + PIECE);
            prop_assert!(ledger.bytes() <= most, "{} of {most}", ledger.bytes());
        }
        drop(newest);
        readers.clear();
        prop_assert_eq!(ledger.bytes(), 0);
    }

    #[test]
    fn places_are_for_one_and_for_all(steps in proptest::collection::vec((0u8..3, any::<bool>()), 1..60)) {
        let quota = Quota::new(2, 4);
        let mut held: Vec<(u8, Taken)> = Vec::new();
        for (who, takes) in steps {
            let of_one = held.iter().filter(|(one, _)| *one == who).count();
            if !takes {
                if let Some(at) = held.iter().position(|(one, _)| *one == who) {
                    held.swap_remove(at);
                }
                continue;
            }
            let name: Arc<str> = format!("viewer/{who}").into();
            match quota.take(Who::Named(name)) {
                Ok(taken) => held.push((who, taken)),
                Err(full) if of_one == 2 => prop_assert_eq!(full, Full::OfOne(2)),
                Err(full) => prop_assert!(full == Full::OfAll(4) && held.len() == 4),
            }
            prop_assert!(held.len() <= 4);
        }
    }
}

#[test]
fn a_reader_that_takes_nothing_holds_a_few_pieces_and_goes_on_when_they_are_written() {
    let ledger = ledger(64 * MIB);
    let pieces = Pieces::new(&ledger, vec![1; MIB]);
    let message = Message::around(1, pieces, &WireWatchResponse::default());
    let len = framed(&WireWatchResponse::default()).len() + 4 + MIB;
    let (mut body, flight) = served(&ledger, vec![message]);
    let (mut unwritten, mut all) = (Vec::new(), 0);
    loop {
        match poll(&mut body) {
            Got::Data(data) => unwritten.push(data),
            Got::Waits => {
                let bytes: usize = unwritten.iter().map(Bytes::len).sum();
                assert!((WINDOW..WINDOW + PIECE).contains(&bytes), "{bytes}");
                assert_eq!(flight.stalled().1, bytes);
                all += unwritten.remove(0).len();
            }
            Got::End(status) => {
                assert_eq!(status.code(), Code::Ok);
                break;
            }
        }
    }
    all += unwritten.iter().map(Bytes::len).sum::<usize>();
    assert_eq!(all, len);
}

#[test]
fn the_oldest_ends_with_a_reason_and_the_newest_goes_on() {
    let ledger = ledger(3 * MIB);
    let mut bodies = Vec::new();
    for _ in 0..5 {
        let pieces = Pieces::new(&ledger, vec![1; MIB]);
        let message = Message::around(1, pieces, &WireWatchResponse::default());
        let (mut body, _) = served(&ledger, vec![message]);
        let Got::Data(first) = poll(&mut body) else {
            panic!("nothing came");
        };
        bodies.push((body, first));
    }
    assert!(ledger.bytes() <= 3 * MIB, "{}", ledger.bytes());
    let ends: Vec<Status> = bodies
        .into_iter()
        .map(|(body, first)| {
            drop(first);
            read(body).1
        })
        .collect();
    let codes: Vec<Code> = ends.iter().map(Status::code).collect();
    assert_eq!(codes[0], Code::ResourceExhausted, "{codes:?}");
    assert_eq!(codes[4], Code::Ok, "{codes:?}");
    assert!(codes.is_sorted_by_key(|code| *code == Code::Ok), "{codes:?}");
    assert!(ends[0].message().contains("answer_memory_mib"), "{:?}", ends[0]);
    assert!(ends[0].get_error_details().retry_info().is_some());
}

#[test]
fn the_newest_state_is_served_however_large_it_is() {
    let ledger = ledger(MIB);
    ledger.published(8 * MIB);
    let pieces = Pieces::new(&ledger, vec![1; 8 * MIB]);
    let message = Message::around(1, pieces, &WireWatchResponse::default());
    let (body, _) = served(&ledger, vec![message]);
    assert_eq!(read(body).1.code(), Code::Ok);
}

#[test]
fn a_view_that_is_the_newest_is_nobodys_fault() {
    let ledger = ledger(MIB);
    let board = Board::new(&ledger);
    let (_, quiet) = served(&ledger, Vec::new());
    quiet.hold_view(Arc::clone(&board.watch_work().borrow()));
    assert_eq!(quiet.age(), None);
    board.show_work(Arc::default());
    assert!(quiet.age().is_some());
    let _much = Pieces::new(&ledger, vec![0; 2 * MIB]);
    assert!(quiet.view().is_none());
}

#[tokio::test]
async fn an_answer_that_may_last_for_a_time_only_ends_whether_it_is_read_or_not() {
    let time = std::time::Duration::from_millis(50);
    let ledger = ledger(MIB);
    for reads in [true, false] {
        let pieces = Pieces::new(&ledger, vec![1; MIB / 2]);
        let message = Message::around(1, pieces, &WireWatchResponse::default());
        let (mut body, flight) = served(&ledger, vec![message]);
        flight.end_by(tokio::time::Instant::now() + time);
        let mut unwritten = Vec::new();
        if !reads {
            while let Got::Data(data) = poll(&mut body) {
                unwritten.push(data);
            }
        }
        tokio::time::sleep(time * 2).await;
        let Got::End(status) = poll(&mut body) else {
            panic!("it goes on");
        };
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(matches!(poll(&mut body), Got::End(_)));
    }
}
