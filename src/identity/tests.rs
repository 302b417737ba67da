use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use wyneos_core::{
    access::UnknownRole,
    id::{ClusterId, Uuid},
};

use super::*;

const CLUSTER: ClusterId = Uuid([3; 16]);
const NODE: Uuid = Uuid([7; 16]);

struct Authority {
    root: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        Authority {
            root,
            issuer: Issuer::new(params, key),
        }
    }

    /// Issues credentials with these names, valid for `days` from day `from`.
    fn issue(&self, uris: &[String], from: i64, days: i64) -> Credentials {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let uri = |uri: &String| SanType::URI(uri.as_str().try_into().unwrap());
        params.subject_alt_names = uris.iter().map(uri).collect();
        let day = |day: i64| time::OffsetDateTime::now_utc() + time::Duration::days(day);
        (params.not_before, params.not_after) = (day(from), day(from + days));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Credentials {
            principal: uris
                .first()
                .and_then(|uri| uri.parse().ok())
                .unwrap_or(principal(Role::Viewer, "nobody")),
            chain: vec![certificate.der().clone(), self.root.clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            roots: vec![self.root.clone()],
        }
    }

    fn of(&self, principal: &Principal) -> Credentials {
        self.issue(&[principal.to_string()], -1, 2)
    }

    fn trust(&self) -> Trust {
        Trust::new(CLUSTER, std::slice::from_ref(&self.root)).unwrap()
    }

    fn coordinator(&self) -> Credentials {
        self.of(&principal(Role::Coordinator, &NODE.to_string()))
    }
}

fn principal(role: Role, name: &str) -> Principal {
    Principal::new(CLUSTER, role, name).unwrap()
}

fn keys(credentials: &Credentials) -> Keys {
    Keys::new(credentials).unwrap()
}

/// Performs a handshake; returns the client's principal as seen by the server, or the error of the end that detected
/// it.
pub(super) fn shake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Result<Option<Principal>, String> {
    let name = ServerName::try_from("anything.invalid").unwrap();
    let mut client = Connection::Client(ClientConnection::new(Arc::clone(client), name).unwrap());
    let mut server = Connection::Server(ServerConnection::new(Arc::clone(server)).unwrap());
    for _ in 0..8 {
        pass(&mut client, &mut server)?;
        pass(&mut server, &mut client)?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    let shown = server.peer_certificates().and_then(|chain| chain.first());
    Ok(shown.map(|certificate| Principal::of(certificate).unwrap()))
}

fn pass(from: &mut Connection, to: &mut Connection) -> Result<(), String> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        to.read_tls(&mut rest).unwrap();
        to.process_new_packets().map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[test]
fn names_are_what_they_say_and_nothing_else_is_one() {
    for role in Role::ALL {
        let name = if !role.is_persons() {
            NODE.to_string()
        } else {
            "ada.l".to_owned()
        };
        let told = principal(role, &name);
        assert_eq!(told.to_string().parse(), Ok(told.clone()));
        assert_eq!(told.node(), (role == Role::Agent).then_some(NODE));
    }
    let (cluster, node) = (CLUSTER, NODE);
    for (text, why) in [
        ("https://x".to_owned(), BadPrincipal::Form),
        (format!("spiffe://{cluster}/agent"), BadPrincipal::Form),
        (format!("spiffe://{cluster}/agent/{node}/x"), BadPrincipal::Form),
        (format!("spiffe://nowhere/agent/{node}"), BadPrincipal::Cluster),
        (
            format!("spiffe://{cluster}/root/{node}"),
            BadPrincipal::Role(UnknownRole),
        ),
        (format!("spiffe://{cluster}/agent/web-1"), BadPrincipal::Name),
        (format!("spiffe://{cluster}/admin/"), BadPrincipal::Name),
        (format!("spiffe://{cluster}/admin/a b"), BadPrincipal::Name),
        (
            format!("spiffe://{cluster}/admin/{}", "a".repeat(65)),
            BadPrincipal::Name,
        ),
        (
            format!("spiffe://{}/agent/{node}", cluster.to_string().to_uppercase() + "A"),
            BadPrincipal::Cluster,
        ),
    ] {
        assert_eq!(text.parse::<Principal>(), Err(why), "{text}");
    }
}

#[test]
fn a_token_comes_back_as_it_was_and_an_altered_one_does_not() {
    let token = JoinToken::new(CLUSTER, [5; 32], std::array::from_fn(|at| at as u8));
    let text = token.to_string();
    assert_eq!(text.parse::<JoinToken>(), Ok(token.clone()));
    assert_eq!(format!(" {text}\n").parse::<JoinToken>(), Ok(token.clone()));
    for at in "wyneos-join-1-".len()..text.len() {
        let mut altered = text.clone().into_bytes();
        altered[at] = if altered[at] == b'0' { b'1' } else { b'0' };
        let altered = String::from_utf8(altered).unwrap();
        assert_eq!(altered.parse::<JoinToken>(), Err(BadToken::Altered), "{altered}");
    }
    for other in [
        "",
        "wyneos-join-1-",
        &text[..text.len() - 1],
        &text.to_uppercase(),
        &format!("{text}00"),
    ] {
        assert_eq!(other.parse::<JoinToken>(), Err(BadToken::Form), "{other}");
    }
    // Another secret has another hash, and neither is shown.
    let other = JoinToken::new(CLUSTER, [5; 32], [9; 28]);
    assert_ne!(token.hash(), other.hash());
    let debug = format!("{token:?}");
    assert!(
        !debug.contains("secret") && !debug.contains("08090a") && !debug.contains("[8, 9"),
        "{debug}"
    );
}

#[test]
fn both_ends_know_who_the_other_is() {
    let authority = Authority::new();
    let trust = authority.trust();
    let server = server_config(&keys(&authority.coordinator()), &trust, false).unwrap();
    let agent = principal(Role::Agent, &NODE.to_string());
    let mine = keys(&authority.of(&agent));
    let client = client_config(Some(&mine), Expected::Coordinator(trust.clone())).unwrap();
    assert_eq!(shake(&client, &server), Ok(Some(agent.clone())));
    // A client without a certificate is unauthenticated.
    let client = client_config(None, Expected::Coordinator(trust.clone())).unwrap();
    assert_eq!(shake(&client, &server), Ok(None));
    // A joining host knows only the CA's fingerprint.
    let pinned = Expected::Pinned(CLUSTER, fingerprint(&authority.root));
    assert_eq!(shake(&client_config(None, pinned).unwrap(), &server), Ok(None));
    // Agents connect only to the agent of the intended node.
    let server = server_config(&mine, &trust, false).unwrap();
    let client = |node| client_config(Some(&mine), Expected::Node(trust.clone(), node)).unwrap();
    assert_eq!(shake(&client(NODE), &server), Ok(Some(agent)));
    assert!(shake(&client(Uuid([8; 16])), &server).is_err());
}

#[test]
fn nobody_talks_to_a_server_that_it_does_not_expect() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let trust = authority.trust();
    let other = Principal::new(Uuid([4; 16]), Role::Coordinator, &NODE.to_string()).unwrap();
    let coordinator = principal(Role::Coordinator, &NODE.to_string()).to_string();
    let viewer = principal(Role::Viewer, "ada").to_string();
    let servers = [
        ("an agent", authority.of(&principal(Role::Agent, &NODE.to_string()))),
        ("another cluster's", authority.of(&other)),
        ("another CA's", foreign.coordinator()),
        ("expired", authority.issue(std::slice::from_ref(&coordinator), -3, 2)),
        (
            "not yet valid",
            authority.issue(std::slice::from_ref(&coordinator), 1, 2),
        ),
        ("nameless", authority.issue(&[], -1, 2)),
        ("of two names", authority.issue(&[coordinator, viewer], -1, 2)),
    ];
    for (what, credentials) in servers {
        let server = server_config(&keys(&credentials), &trust, false).unwrap();
        let client = client_config(None, Expected::Coordinator(trust.clone())).unwrap();
        assert!(shake(&client, &server).is_err(), "{what}");
        let pinned = Expected::Pinned(CLUSTER, fingerprint(&authority.root));
        assert!(shake(&client_config(None, pinned).unwrap(), &server).is_err(), "{what}");
    }
}

#[test]
fn a_server_lets_nobody_in_whose_certificate_does_not_hold() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let trust = authority.trust();
    let server = server_config(&keys(&authority.coordinator()), &trust, false).unwrap();
    let name = principal(Role::Admin, "ada").to_string();
    let other = Principal::new(Uuid([4; 16]), Role::Admin, "ada").unwrap();
    let clients = [
        ("another cluster's", authority.of(&other)),
        ("another CA's", foreign.issue(std::slice::from_ref(&name), -1, 2)),
        ("expired", authority.issue(std::slice::from_ref(&name), -3, 2)),
        ("not yet valid", authority.issue(std::slice::from_ref(&name), 1, 2)),
        ("nameless", authority.issue(&[], -1, 2)),
        ("of two names", authority.issue(&[name.clone(), name], -1, 2)),
    ];
    for (what, credentials) in clients {
        let client = client_config(Some(&keys(&credentials)), Expected::Coordinator(trust.clone())).unwrap();
        assert!(shake(&client, &server).is_err(), "{what}");
    }
}

#[test]
fn certificates_and_cas_are_replaced_while_everything_runs() {
    let (old, new) = (Authority::new(), Authority::new());
    let trust = old.trust();
    let agent = principal(Role::Agent, &NODE.to_string());
    let (server_keys, client_keys) = (keys(&old.coordinator()), keys(&old.of(&agent)));
    let server = server_config(&server_keys, &trust, false).unwrap();
    let client = client_config(Some(&client_keys), Expected::Coordinator(trust.clone())).unwrap();
    assert!(shake(&client, &server).is_ok());
    // Both CAs are trusted for a time, in which all certificates are replaced by ones of the new CA.
    trust.replace(&[old.root.clone(), new.root.clone()]).unwrap();
    server_keys.replace(&new.coordinator()).unwrap();
    assert!(shake(&client, &server).is_ok());
    client_keys.replace(&new.of(&agent)).unwrap();
    assert!(shake(&client, &server).is_ok());
    trust.replace(std::slice::from_ref(&new.root)).unwrap();
    assert!(shake(&client, &server).is_ok());
    client_keys.replace(&old.of(&agent)).unwrap();
    assert!(shake(&client, &server).is_err());
    // Unusable credentials change nothing.
    assert!(trust.replace(&[]).is_err());
    let mut mixed = new.of(&agent);
    mixed.key = old.of(&agent).key;
    assert!(client_keys.replace(&mixed).is_err());
}

#[test]
fn credentials_come_from_files_that_are_their_owners_alone() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let params = CertificateParams::new(Vec::new()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut named = params.clone();
    let name = principal(Role::Viewer, "ada");
    named.subject_alt_names = vec![SanType::URI(name.to_string().as_str().try_into().unwrap())];
    let certificate = named.signed_by(&key, &authority.issuer).unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("chain"), certificate.pem()).unwrap();
    fs::write(path("key"), key.serialize_pem()).unwrap();
    let load = || Credentials::load(&path("chain"), &path("key"), &path("chain"));
    fs::set_permissions(path("key"), fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(load(), Err(CredentialError::Exposed { mode: 0o640, .. })));
    fs::set_permissions(path("key"), fs::Permissions::from_mode(0o600)).unwrap();
    let credentials = load().unwrap();
    assert_eq!(credentials.principal, name);
    let debug = format!("{credentials:?}");
    assert!(debug.contains("viewer/ada") && debug.len() < 100, "{debug}");
    // The contents of a malformed key are not shown.
    fs::write(path("key"), "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n").unwrap();
    let error = load().unwrap_err().to_string();
    assert!(error.starts_with("key:") && !error.contains("c2Vj"), "{error}");
    fs::write(path("chain"), "nothing").unwrap();
    assert!(
        load()
            .unwrap_err()
            .to_string()
            .starts_with("certificate: no certificate")
    );
    let unnamed = params.signed_by(&key, &authority.issuer).unwrap().pem();
    let error = Credentials::from_pem(unnamed.as_bytes(), key.serialize_pem().as_bytes(), unnamed.as_bytes());
    assert!(matches!(error, Err(CredentialError::Principal(BadPrincipal::Names(0)))));
}
