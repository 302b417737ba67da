//! Beacons: datagrams to and from peers, at the address of the probe server.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::ErrorKind,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    net::{UdpSocket, lookup_host},
    sync::mpsc,
    time::{sleep, timeout},
};
use wyneos::convert::{BEACON_BYTES, Beacon, beacon_in, beacon_is_proven, beacon_out};
use wyneos_core::{agent::Input, id::NodeId};

use crate::driver::ToAgent;

/// Maximum number of beacons that wait to be sent; a further one is dropped, as the network might.
const WAITING: usize = 256;

/// Interval between two lookups of a name, and time limit of one.
const LOOK_UP: Duration = Duration::from_secs(60);
const LOOKING_UP: Duration = Duration::from_millis(500);

/// Time for which beacons are gathered before they are read: an agent receives some twenty per second, and each alone
/// would wake it up. Longer: less work; later detection of changes in arrivals.
const GATHER: Duration = Duration::from_millis(200);

/// Maximum number of datagrams that are read at once; then other work proceeds, and datagrams that the socket has no
/// room for are lost.
const AT_ONCE: u32 = 256;

/// Delay after an error of the socket.
const BREATHER: Duration = Duration::from_millis(100);

/// A beacon and its destination, as host:port.
pub(crate) type Outgoing = mpsc::Sender<(Arc<str>, Beacon)>;

/// Maximum number of peers whose keys are kept; the plan has a few dozen.
const LINKS: usize = 256;

/// Keys that authenticate beacons: one per link, which an observer generates and sends with its probes, by mutual TLS.
pub(crate) struct Links {
    /// Secret of this process, from which this node's own keys are derived.
    secret: [u8; 32],
    /// Sequence number of the next beacon.
    sequence: AtomicU64,
    peers: Mutex<BTreeMap<NodeId, Link>>,
}

#[derive(Default)]
struct Link {
    /// The key that the peer sent with its probes of this node.
    key: Option<[u8; 32]>,
    /// Sequence number of its newest beacon.
    heard: u64,
}

impl Links {
    /// Creates the keys of the process that is the agent's start `incarnation`.
    pub(crate) fn new(secret: [u8; 32], incarnation: u64) -> Links {
        Links {
            secret,
            sequence: AtomicU64::new(incarnation << 40 | 1),
            peers: Mutex::default(),
        }
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<NodeId, Link>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key for the link to a node that this one probes.
    pub(crate) fn own(&self, peer: NodeId) -> [u8; 32] {
        blake3::keyed_hash(&self.secret, &peer.0).into()
    }

    /// Records a key that a peer sent.
    pub(crate) fn learn(&self, peer: NodeId, key: [u8; 32]) {
        let mut peers = self.peers();
        if peers.len() < LINKS || peers.contains_key(&peer) {
            peers.entry(peer).or_default().key = Some(key);
        }
    }

    /// Drops the keys of all nodes that are not members.
    pub(crate) fn keep(&self, members: &BTreeSet<NodeId>) {
        self.peers().retain(|peer, _| members.contains(peer));
    }

    /// The key for a beacon to a peer: the peer certainly knows one that it generated itself.
    fn outgoing(&self, peer: NodeId) -> [u8; 32] {
        let handed_over = self.peers().get(&peer).and_then(|link| link.key);
        handed_over.unwrap_or_else(|| self.own(peer))
    }

    /// Returns whether a beacon is authentic, and not a replay of an older one.
    fn proves(&self, beacon: &Beacon, bytes: &[u8]) -> bool {
        let mut peers = self.peers();
        let handed_over = peers.get(&beacon.sender).and_then(|link| link.key);
        let proven = |key: &[u8; 32]| beacon_is_proven(bytes, key);
        if !proven(&self.own(beacon.sender)) && !handed_over.as_ref().is_some_and(proven) {
            return false;
        }
        if peers.len() >= LINKS && !peers.contains_key(&beacon.sender) {
            return false;
        }
        let link = peers.entry(beacon.sender).or_default();
        let newer = beacon.sequence > link.heard;
        link.heard = link.heard.max(beacon.sequence);
        newer
    }
}

/// Starts sending queued beacons; ends when the sender is dropped.
pub(crate) fn sending(socket: Arc<UdpSocket>, links: Option<Arc<Links>>) -> Outgoing {
    let (sender, mut queue) = mpsc::channel::<(Arc<str>, Beacon)>(WAITING);
    tokio::spawn(async move {
        let mut known: HashMap<Arc<str>, (Instant, Option<SocketAddr>)> = HashMap::new();
        while let Some((address, mut beacon)) = queue.recv().await {
            let to = match address.parse() {
                Ok(to) => Some(to),
                Err(_) => resolve(&mut known, address).await,
            };
            if let Some(to) = to {
                // A beacon that cannot be sent is lost, as in the network.
                let key = links.as_ref().map(|links| links.outgoing(beacon.receiver));
                beacon.sequence = links
                    .as_ref()
                    .map_or(0, |links| links.sequence.fetch_add(1, Ordering::Relaxed));
                drop(socket.try_send_to(&beacon_out(beacon, key.as_ref()), to));
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

/// Passes received beacons to the logic.
pub(crate) async fn receive(
    socket: Arc<UdpSocket>,
    id: NodeId,
    driver: mpsc::Sender<ToAgent>,
    links: Option<Arc<Links>>,
) {
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
                // A host refused a datagram; not every system reports this.
                sleep(BREATHER).await;
                continue;
            }
        };
        // Anyone can send datagrams: one that is not a beacon for this node is ignored.
        let Ok(beacon) = beacon_in(&bytes[..length]) else {
            continue;
        };
        if beacon.receiver != id || length < BEACON_BYTES {
            continue;
        }
        if let Some(links) = &links
            && !links.proves(&beacon, &bytes[..length])
        {
            continue;
        }
        let input = Input::Beacon {
            cluster: beacon.cluster,
            sender: beacon.sender,
            address: from.to_string().into(),
            observes: beacon.observes,
        };
        // A logic that is too busy receives the next one.
        drop(driver.try_send(ToAgent::Fact(input)));
    }
}

#[cfg(test)]
mod tests;
