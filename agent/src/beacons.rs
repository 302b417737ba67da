//! Beacons: datagrams to and from peers, at the address where probes are answered.

use std::{
    collections::HashMap,
    io::ErrorKind,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    net::{UdpSocket, lookup_host},
    sync::mpsc,
    time::{sleep, timeout},
};
use wyneos::convert::{BEACON_BYTES, Beacon, beacon_in, beacon_out};
use wyneos_core::{agent::Input, id::NodeId};

use crate::driver::ToAgent;

/// Beacons that wait to be sent at most; a further one is dropped, as the network might.
const WAITING: usize = 256;

/// A name is looked up again after this time, and may take this long.
const LOOK_UP: Duration = Duration::from_secs(60);
const LOOKING_UP: Duration = Duration::from_millis(500);

/// Beacons gather for so long before they are read: an agent has some twenty a second, and each alone would wake it up. Longer:
/// less work; later news of whose beacons come.
const GATHER: Duration = Duration::from_millis(200);

/// Datagrams that are read at once at most; then others have their turn, and what the socket has no room for is lost.
const AT_ONCE: u32 = 256;

/// After an error of the socket.
const BREATHER: Duration = Duration::from_millis(100);

/// What is sent where, as host:port.
pub(crate) type Outgoing = mpsc::Sender<(Arc<str>, Beacon)>;

/// Sends what is asked for; ends with its asker.
pub(crate) fn sending(socket: Arc<UdpSocket>) -> Outgoing {
    let (sender, mut queue) = mpsc::channel::<(Arc<str>, Beacon)>(WAITING);
    tokio::spawn(async move {
        let mut known: HashMap<Arc<str>, (Instant, Option<SocketAddr>)> = HashMap::new();
        while let Some((address, beacon)) = queue.recv().await {
            let to = match address.parse() {
                Ok(to) => Some(to),
                Err(_) => resolve(&mut known, address).await,
            };
            if let Some(to) = to {
                // What cannot be sent is lost, as on the way.
                drop(socket.try_send_to(&beacon_out(beacon), to));
            }
        }
    });
    sender
}

async fn resolve(
    known: &mut HashMap<Arc<str>, (Instant, Option<SocketAddr>)>,
    address: Arc<str>,
) -> Option<SocketAddr> {
    let now = Instant::now();
    known.retain(|_, (at, _)| now.duration_since(*at) < LOOK_UP);
    if let Some((_, found)) = known.get(&address) {
        return *found;
    }
    let found = timeout(LOOKING_UP, lookup_host(&*address)).await;
    let found = found.ok().and_then(Result::ok).and_then(|mut found| found.next());
    known.insert(address, (now, found));
    found
}

/// Hands the logic what arrives.
pub(crate) async fn receive(socket: Arc<UdpSocket>, id: NodeId, driver: mpsc::Sender<ToAgent>) {
    let mut bytes = [0; BEACON_BYTES + 1];
    let mut read = 0;
    loop {
        if read == AT_ONCE {
            read = 0;
            sleep(GATHER).await;
        }
        read += 1;
        let (length, from) = match socket.try_recv_from(&mut bytes) {
            Ok(came) => came,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                read = 0;
                if socket.readable().await.is_ok() {
                    sleep(GATHER).await;
                }
                continue;
            }
            Err(_) => {
                // A host that refused what was sent; not every system says so.
                sleep(BREATHER).await;
                continue;
            }
        };
        // Anybody can send datagrams: what is no beacon for this node is passed over.
        let Ok(beacon) = beacon_in(&bytes[..length]) else {
            continue;
        };
        if beacon.receiver != id || length < BEACON_BYTES {
            continue;
        }
        let input = Input::Beacon {
            cluster: beacon.cluster,
            sender: beacon.sender,
            address: from.to_string().into(),
            observes: beacon.observes,
        };
        // A logic that is too busy for it learns of the next one.
        drop(driver.try_send(ToAgent::Fact(input)));
    }
}
