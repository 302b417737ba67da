use std::{net::IpAddr, sync::Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use tokio_stream::StreamExt as _;
use wyneos::identity::{
    Authority, Credentials, Expected, Keys, Role, Trust, client_config, new_key, request_for, server_config,
};
use wyneos_core::id::Uuid;

use super::*;

const CLUSTER: Uuid = Uuid([3; 16]);
const SHORT: Duration = Duration::from_millis(300);

struct Refusals(Mutex<Vec<&'static str>>);

impl Watch for Refusals {
    fn refused(&self, _: SocketAddr, refused: &Refused) {
        self.0.lock().unwrap().push(refused.name());
    }
}

fn credentials(authority: &Authority, role: Role, name: &str) -> Credentials {
    let key = new_key().unwrap();
    let principal = Principal::new(CLUSTER, role, name).unwrap();
    let now = SystemTime::now();
    let holds = now - Duration::from_secs(5)..now + Duration::from_secs(60);
    Credentials {
        chain: authority
            .issue(&request_for(&key).unwrap(), &principal, &[], holds)
            .unwrap(),
        principal,
        key,
        roots: vec![authority.root().clone()],
    }
}

/// Starts a server with short time limits, and returns connectors with and without a certificate.
async fn server() -> (
    ReceiverStream<io::Result<Conn>>,
    SocketAddr,
    [TlsConnector; 2],
    Arc<Refusals>,
) {
    let (authority, _) = Authority::new(CLUSTER, SystemTime::now()).unwrap();
    let own = credentials(&authority, Role::Coordinator, &CLUSTER.to_string());
    let trust = Trust::new(CLUSTER, &own.roots).unwrap();
    let config = server_config(&Keys::new(&own).unwrap(), &trust, false).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Limits {
        handshake: SHORT,
        connections: 4,
        of_one_source: 3,
        nobodys: SHORT,
    };
    let refusals = Arc::new(Refusals(Mutex::default()));
    let conns = accept(listener, Some(config), limits, Arc::clone(&refusals) as Arc<dyn Watch>);
    let viewer = Keys::new(&credentials(&authority, Role::Viewer, "ada")).unwrap();
    let connector = |keys: Option<&Keys>| {
        let expected = Expected::Coordinator(trust.clone());
        TlsConnector::from(client_config(keys, expected).unwrap())
    };
    (conns, address, [connector(None), connector(Some(&viewer))], refusals)
}

async fn connect(connector: &TlsConnector, address: SocketAddr) -> tokio_rustls::client::TlsStream<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    connector.connect(name, stream).await.unwrap()
}

#[tokio::test]
async fn nobodys_connection_is_closed_unless_somebody_vouches_for_it() {
    let (mut conns, address, [nobody, viewer], _) = server().await;
    for (connector, vouched, closed) in [(&nobody, false, true), (&nobody, true, false), (&viewer, false, false)] {
        let client = connect(connector, address).await;
        let mut conn = conns.next().await.unwrap().unwrap();
        assert_eq!(conn.peer.shown.is_some(), std::ptr::eq(connector, &viewer));
        if vouched {
            conn.peer.vouch();
        }
        let began = Instant::now();
        let mut byte = [0];
        let read = timeout(SHORT * 3, conn.read(&mut byte)).await;
        assert_eq!(
            matches!(read, Ok(Err(_))),
            closed,
            "{read:?} after {:?}",
            began.elapsed()
        );
        drop(client);
    }
}

#[tokio::test]
async fn half_open_handshakes_end_and_one_source_has_so_many_and_no_more() {
    let (mut conns, address, [nobody, viewer], refusals) = server().await;
    let mut half_open = TcpStream::connect(address).await.unwrap();
    half_open.write_all(&[22, 3, 1]).await.unwrap();
    let mut byte = [0];
    assert!(matches!(half_open.read(&mut byte).await, Ok(0) | Err(_)));
    let mut held = Vec::new();
    for connector in [&nobody, &nobody, &viewer] {
        held.push((connect(connector, address).await, conns.next().await.unwrap().unwrap()));
    }
    let mut beyond = TcpStream::connect(address).await.unwrap();
    assert!(matches!(beyond.read(&mut byte).await, Ok(0) | Err(_)));
    assert_eq!(*refusals.0.lock().unwrap(), ["late", "source"]);
    // There is a free place, but half of all places are reserved for peers that present a certificate.
    held.pop();
    let mut third = connect(&nobody, address).await;
    assert!(matches!(third.read(&mut byte).await, Ok(0) | Err(_)));
    drop((connect(&viewer, address).await, conns.next().await.unwrap().unwrap()));
    assert_eq!(*refusals.0.lock().unwrap(), ["late", "source", "nobodys"]);
}

#[test]
fn a_source_is_one_however_its_address_is_written() {
    let of = |text: &str| source(text.parse().unwrap());
    assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    assert_ne!(of("::ffff:10.0.0.1"), of("::ffff:10.0.0.2"));
    assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
    assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
}

/// Starts a plaintext server with three places.
async fn plain() -> (ReceiverStream<io::Result<Conn>>, SocketAddr, Arc<Refusals>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Limits {
        handshake: SHORT,
        connections: 3,
        of_one_source: 10,
        nobodys: Duration::from_secs(60),
    };
    let refusals = Arc::new(Refusals(Mutex::default()));
    let conns = accept(listener, None, limits, Arc::clone(&refusals) as Arc<dyn Watch>);
    (conns, address, refusals)
}

#[tokio::test]
async fn the_oldest_stranger_gives_way_and_who_made_a_call_does_not() {
    let (mut conns, address, refusals) = plain().await;
    let mut held = Vec::new();
    for number in 0..3 {
        let client = TcpStream::connect(address).await.unwrap();
        let conn = conns.next().await.unwrap().unwrap();
        if number == 0 {
            conn.peer.vouch();
        }
        held.push((client, conn));
    }
    // All are too young to be displaced.
    let mut beyond = TcpStream::connect(address).await.unwrap();
    assert!(matches!(beyond.read(&mut [0]).await, Ok(0) | Err(_)));
    assert_eq!(*refusals.0.lock().unwrap(), ["connections"]);
    let began = Instant::now();
    let newest = loop {
        let client = TcpStream::connect(address).await.unwrap();
        if let Ok(conn) = timeout(SHORT, conns.next()).await {
            break (client, conn.unwrap().unwrap());
        }
        assert!(began.elapsed() < Duration::from_secs(30), "nobody gives way");
    };
    assert_eq!(refusals.0.lock().unwrap().last(), Some(&"displaced"));
    for (number, (_, conn)) in held.iter_mut().enumerate() {
        let closed = matches!(timeout(SHORT, conn.read(&mut [0])).await, Ok(Err(_)));
        assert_eq!(closed, number == 1, "connection {number}");
    }
    drop((newest, held));
}

#[test]
fn places_are_counted_whatever_comes_and_goes() {
    use proptest::prelude::*;
    let limits = Limits {
        handshake: SHORT,
        connections: 5,
        of_one_source: 3,
        nobodys: SHORT,
    };
    // The operation on each place: 0 take, 1 drop, 2 vouch, 3 complete a handshake without a certificate.
    let steps = proptest::collection::vec((0u8..4, 0u8..8), 1..60);
    proptest!(|(steps in steps)| {
        let slots = Slots::new(limits);
        let mut held: Vec<Slot> = Vec::new();
        for (step, which) in steps {
            let at = usize::from(which) % held.len().max(1);
            match step {
                0 => {
                    let taken = slots.take(SocketAddr::from(([10, 0, 0, which % 3], 1)));
                    let of_source = held.iter().filter(|slot| slot.0.address.ip() == IpAddr::from([10, 0, 0, which % 3])).count();
                    prop_assert_eq!(taken.is_ok(), held.len() < 5 && of_source < 3);
                    held.extend(taken.map(|(slot, _)| slot));
                }
                1 if !held.is_empty() => drop(held.swap_remove(at)),
                2 if !held.is_empty() => held[at].0.vouch(),
                3 if !held.is_empty() && !held[at].0.is_vouched() => drop(held[at].as_nobodys(&limits)),
                _ => {}
            }
        }
        held.clear();
        prop_assert!(slots.is_empty());
    });
}
