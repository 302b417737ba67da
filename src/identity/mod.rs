//! Identities: who is at the other end of a connection, and the TLS that proves it.
//!
//! Everybody has a certificate of the cluster's CA, and every certificate bears one name, a SPIFFE id:
//! `spiffe://CLUSTER-ID/ROLE/NAME`. What somebody may do follows from the role; that an agent speaks for no other node follows from
//! the name, which is the node's id. Host names and addresses prove nothing here; certificates of coordinators bear them for
//! clients that look for nothing else.

#[cfg(feature = "authority")]
mod authority;
#[cfg(feature = "authority")]
#[cfg(test)]
mod authority_tests;
mod credentials;
mod principal;
mod tls;
mod token;

#[cfg(test)]
mod tests;

#[cfg(feature = "authority")]
pub use authority::{Authority, AuthorityPem, BadAuthority, BadRequest, REQUEST_MAX, new_request};
pub use credentials::{CredentialError, Credentials};
pub use principal::{BadPrincipal, Principal, Role};
pub use tls::{Expected, Keys, TlsError, Trust, client_config, server_config};
pub use token::{BadToken, JoinToken, fingerprint};
