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
mod rules;
#[cfg(test)]
mod rules_tests;
mod tls;
mod token;

#[cfg(test)]
mod tests;

#[cfg(feature = "authority")]
pub use authority::{
    Authority, AuthorityPem, BadAuthority, BadRequest, REQUEST_MAX, key_of_request, new_key, request_for,
};
pub use credentials::{CredentialError, Credentials};
#[cfg(feature = "authority")]
pub use credentials::{CredentialsPem, certificate_pem, key_pem};
pub use principal::{BadPrincipal, Principal, key_of, validity};
pub use rules::{Need, RULES, Rule, rule, sees_environment};
pub use tls::{Expected, Expired, Keys, TlsError, Trust, client_config, server_config};
pub use token::{BadToken, JoinToken, bearer, bearer_hash, fingerprint};
pub use wyneos_core::access::Role;
