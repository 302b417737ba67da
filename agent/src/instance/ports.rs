//! Ports of instances.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket},
    ops::RangeInclusive,
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use wyneos_core::workload::{FixedPort, Protocol};

/// A range of ports, as in `20000-29999`, with both ends included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Ports(pub(crate) RangeInclusive<u16>);

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Ports, String> {
        let wrong = || format!("{text:?} is not FIRST-LAST, as in 20000-29999");
        let (first, last) = text.split_once('-').ok_or_else(wrong)?;
        let (first, last) = (first.trim().parse::<u16>(), last.trim().parse::<u16>());
        match (first, last) {
            (Ok(first @ 1..), Ok(last)) if first <= last => Ok(Ports(first..=last)),
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Ports {
    type Error = String;

    fn try_from(text: String) -> Result<Ports, String> {
        text.parse()
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.start(), self.0.end())
    }
}

impl From<Ports> for String {
    fn from(ports: Ports) -> String {
        ports.to_string()
    }
}

/// Allocates the ports of a range in turn.
pub(super) struct Allocator {
    ports: Ports,
    /// Start of the next search.
    next: u16,
}

impl Allocator {
    /// Agents that share a host begin with different ports, according to the process's number.
    pub(super) fn new(ports: Ports) -> Allocator {
        let range = u32::from(*ports.0.end() - *ports.0.start()) + 1;
        let offset = std::process::id().wrapping_mul(7_919) % range;
        Allocator {
            next: ports.0.start() + offset as u16,
            ports,
        }
    }

    /// The next port that is neither fixed by a running instance nor allocated (`taken`) and at which no process on
    /// this host listens.
    pub(super) fn next(&mut self, taken: impl Fn(u16) -> bool) -> io::Result<u16> {
        for _ in self.ports.0.clone() {
            let port = self.next;
            self.next = if port >= *self.ports.0.end() {
                *self.ports.0.start()
            } else {
                port + 1
            };
            if !taken(port) && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
                return Ok(port);
            }
        }
        Err(io::Error::other(format!("none of its ports {} is free", self.ports)))
    }
}

/// Checks that a port fixed by a declaration is free at the address where others reach this host.
///
/// Something other than an instance of this node uses it.
pub(super) fn check_free(name: &str, port: FixedPort, address: &str) -> io::Result<()> {
    let Ok(address) = address.parse::<IpAddr>() else {
        return Ok(());
    };
    let bound = match port.protocol {
        Protocol::Tcp => TcpListener::bind((address, port.port)).map(drop),
        Protocol::Udp => UdpSocket::bind((address, port.port)).map(drop),
    };
    match bound {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(io::Error::new(
            error.kind(),
            format!("port {name:?}, {port}, is in use on this host by a process that is not an instance of this node"),
        )),
        // A port that an agent may not open may be permitted to a program.
        _ => Ok(()),
    }
}
