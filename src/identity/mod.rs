//! Identities: the peer at the other end of a connection, and the TLS that authenticates it.
//!
//! Every participant has a certificate of the cluster's CA with exactly one name, a SPIFFE id:
//! `spiffe://CLUSTER-ID/ROLE/NAME`. Permissions follow from the role; an agent's name is the id of its node, so it
//! cannot act for another node. Host names and addresses prove nothing here; coordinators' certificates include them
//! for clients that check only those.

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
