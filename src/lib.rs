//! The public protocol of WyneOS and its client SDK: generated types and clients ([`v1`]), and code shared by both
//! sides of the wire.

pub mod audit;
pub mod backup;
pub mod canonical;
pub mod client;
pub mod convert;
pub mod delta;
pub mod encoded;
pub mod export;
pub mod identity;

/// Package `wyneos.v1`: messages, clients and servers, as defined in proto/wyneos/v1.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1 {
    tonic::include_proto!("wyneos.v1");
}

/// Servers that answer with [`encoded::Encoded`] messages.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod served {
    include!(concat!(env!("OUT_DIR"), "/served/wyneos.v1.rs"));
}

/// The descriptor set of package `wyneos.v1` including comments, for reflection and JSON.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/wyneos.v1.bin"));

/// Version of this release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
