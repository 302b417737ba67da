//! TLS of the load generator and of the null server: a CA for the benchmark, and a certificate for each agent.

use std::{fs, path::Path, sync::Arc, time::Duration, time::SystemTime};

use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use wyneos::identity::{
    Authority, AuthorityPem, Credentials, Expected, Keys, Principal, Role, Trust, client_config, new_key, request_for,
    server_config,
};
use wyneos_core::id::{ClusterId, NodeId};
use wyneos_shell::files;

use crate::Failure;

/// Validity of the certificates: longer than any measurement.
const HOLDS: Duration = Duration::from_secs(24 * 3600);

/// Cluster id of the null server.
const NULL: ClusterId = wyneos_core::id::Uuid([7; 16]);

/// A CA in a directory.
pub(crate) struct Ca {
    authority: Authority,
    cluster: ClusterId,
    /// One key shared by all agents: generating ten thousand keys would only take time.
    key: PrivateKeyDer<'static>,
}

fn failed<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Failure {
    Failure::of(what)
}

/// Creates a CA, and writes it where servers read it.
pub(crate) fn write(folder: &Path) -> Result<(), Failure> {
    let (_, pem) = Authority::new(NULL, SystemTime::now()).map_err(failed("the CA"))?;
    let write = |name: &str, text: &str| files::write_durably(&folder.join(name), text.as_bytes(), 0o600);
    write("ca.pem", &pem.certificate).map_err(failed("the CA"))?;
    write("ca.key", &pem.key).map_err(failed("the CA"))
}

impl Ca {
    /// Reads the CA of a directory, for a cluster (`None`: that of the null server).
    pub(crate) fn read(folder: &Path, cluster: Option<ClusterId>) -> Result<Ca, Failure> {
        let cluster = cluster.unwrap_or(NULL);
        let read = |name: &str| fs::read_to_string(folder.join(name)).map_err(failed("the CA"));
        let pem = AuthorityPem {
            certificate: read("ca.pem")?,
            key: read("ca.key")?,
        };
        let authority = Authority::from_pem(cluster, &pem, SystemTime::now()).map_err(failed("the CA"))?;
        let key = new_key().map_err(failed("a key"))?;
        Ok(Ca {
            authority,
            cluster,
            key,
        })
    }

    fn credentials(&self, principal: Principal) -> Result<(Keys, Trust), Failure> {
        let request = request_for(&self.key).map_err(failed("a request"))?;
        let now = SystemTime::now();
        let holds = now - Duration::from_secs(60)..now + HOLDS;
        let hosts = ["127.0.0.1".to_owned()];
        let chain = self.authority.issue(&request, &principal, &hosts, holds);
        let roots = vec![self.authority.root().clone()];
        let credentials = Credentials {
            principal,
            chain: chain.map_err(failed("a certificate"))?,
            key: self.key.clone_key(),
            roots,
        };
        let keys = Keys::new(&credentials).map_err(failed("a key"))?;
        let trust = Trust::new(self.cluster, &credentials.roots).map_err(failed("the CA"))?;
        Ok((keys, trust))
    }

    /// Returns the client configuration for the agent of a node.
    pub(crate) fn agent(&self, node: NodeId) -> Result<Arc<ClientConfig>, Failure> {
        let (keys, trust) = self.credentials(Principal::agent(self.cluster, node))?;
        client_config(Some(&keys), Expected::Coordinator(trust)).map_err(failed("TLS"))
    }

    /// Returns the configuration for the null server.
    pub(crate) fn server(&self) -> Result<Arc<ServerConfig>, Failure> {
        let name = NULL.to_string();
        let principal = Principal::new(self.cluster, Role::Coordinator, &name).map_err(failed("a name"))?;
        let (keys, trust) = self.credentials(principal)?;
        server_config(&keys, &trust, false).map_err(failed("TLS"))
    }
}
