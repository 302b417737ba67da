use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{CertificateParams, DnType, IsCa, KeyPair, SanType};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, ServerName, UnixTime};
use wyneos_core::id::Uuid;
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use super::*;

const CLUSTER: Uuid = Uuid([3; 16]);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn agent() -> Principal {
    Principal::agent(CLUSTER, Uuid([7; 16]))
}

fn authority() -> (Authority, AuthorityPem) {
    Authority::new(CLUSTER, SystemTime::now()).unwrap()
}

fn holds() -> std::ops::Range<SystemTime> {
    SystemTime::now() - DAY..SystemTime::now() + DAY
}

/// A request that asks for names or usages.
fn asking(change: impl FnOnce(&mut CertificateParams)) -> CertificateSigningRequestDer<'static> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    params.serialize_request(&key).unwrap().der().clone()
}

#[test]
fn the_ca_decides_every_name_and_both_ends_trust_its_certificates() {
    let (authority, _) = authority();
    let trust = Trust::new(CLUSTER, std::slice::from_ref(authority.root())).unwrap();
    let credentials = |principal: &Principal, hosts: &[String]| {
        let key = new_key().unwrap();
        let request = request_for(&key).unwrap();
        let chain = authority.issue(&request, principal, hosts, holds()).unwrap();
        assert_eq!(Principal::of(&chain[0]), Ok(principal.clone()));
        Credentials {
            principal: principal.clone(),
            chain,
            key,
            roots: vec![authority.root().clone()],
        }
    };
    let coordinator = Principal::new(CLUSTER, Role::Coordinator, &Uuid([1; 16]).to_string()).unwrap();
    let hosts = [
        "coordinator.example".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    let server = credentials(&coordinator, &hosts);
    let client = Keys::new(&credentials(&agent(), &[])).unwrap();
    let server_config = server_config(&Keys::new(&server).unwrap(), &trust, false).unwrap();
    let client_config = client_config(Some(&client), Expected::Coordinator(trust)).unwrap();
    assert_eq!(super::tests::shake(&client_config, &server_config), Ok(Some(agent())));

    // A client without support for these names recognizes those of hosts.
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.root().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let usual = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .unwrap();
    let finds = |host: &str| {
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let (leaf, chain) = (&server.chain[0], &server.chain[1..]);
        rustls::client::danger::ServerCertVerifier::verify_server_cert(
            &*usual,
            leaf,
            chain,
            &name,
            &[],
            UnixTime::now(),
        )
    };
    for host in &hosts {
        assert!(finds(host).is_ok(), "{host}");
    }
    assert!(finds("elsewhere.example").is_err());
}

#[test]
fn a_ca_is_kept_and_comes_back() {
    let (authority, pem) = authority();
    let again = Authority::from_pem(CLUSTER, &pem, SystemTime::now()).unwrap();
    assert_eq!(again.root(), authority.root());
    let request = request_for(&new_key().unwrap()).unwrap();
    let chain = again.issue(&request, &agent(), &[], holds()).unwrap();
    assert_eq!(chain[1], *authority.root());
    assert!(!format!("{pem:?}{authority:?}").contains("PRIVATE"));
    let later = SystemTime::now() + DAY * 365 * 11;
    let outdated = Authority::from_pem(CLUSTER, &pem, later);
    assert!(matches!(outdated, Err(BadAuthority::Outdated(..))));
}

#[test]
fn what_is_no_ca_is_none() {
    let (ca, pem) = authority();
    let (_, other) = authority();
    let load = |certificate: &str, key: &str| {
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        Authority::from_pem(CLUSTER, &AuthorityPem { certificate, key }, SystemTime::now()).unwrap_err()
    };
    assert!(matches!(load(&pem.certificate, &other.key), BadAuthority::OtherKey));
    assert!(matches!(load("", &pem.key), BadAuthority::Unreadable("certificate")));
    assert!(matches!(
        load(&pem.certificate, "nothing"),
        BadAuthority::Unreadable("key")
    ));
    // An agent's certificate is no CA.
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::default();
    let leaf = params.self_signed(&key).unwrap();
    assert!(matches!(
        load(&leaf.pem(), &key.serialize_pem()),
        BadAuthority::NoAuthority
    ));
    drop(ca);
}

#[test]
fn a_request_that_asks_for_anything_or_was_altered_gets_nothing() {
    let (authority, _) = authority();
    let issue = |request: &CertificateSigningRequestDer<'_>| authority.issue(request, &agent(), &[], holds());
    let names = [
        asking(|params| {
            let admin = format!("spiffe://{CLUSTER}/admin/ada");
            params.subject_alt_names = vec![SanType::URI(admin.as_str().try_into().unwrap())];
        }),
        asking(|params| params.distinguished_name.push(DnType::CommonName, "admin")),
        asking(|params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained)),
        asking(|params| params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign]),
    ];
    for request in &names {
        assert!(matches!(issue(request), Err(BadRequest::Names)));
    }
    let request = request_for(&new_key().unwrap()).unwrap();
    let key_of = |chain: Vec<CertificateDer<'static>>| {
        let (_, certificate) = X509Certificate::from_der(&chain[0]).unwrap();
        certificate.public_key().raw.to_vec()
    };
    let own = key_of(issue(&request).unwrap());
    let mut refused = 0;
    for at in 0..request.len() {
        let mut altered = request.to_vec();
        altered[at] ^= 1;
        match issue(&altered.into()) {
            // A change in bits that the signature does not cover and that have no effect.
            Ok(chain) => assert_eq!(key_of(chain), own),
            Err(_) => refused += 1,
        }
    }
    assert!(refused >= request.len() - 4, "{refused} of {}", request.len());
    for unreadable in [vec![], vec![0x30; 9_000], request[..request.len() - 1].to_vec()] {
        assert!(matches!(issue(&unreadable.into()), Err(BadRequest::Unreadable)));
    }
    for host in ["", "a b", "-x.example", "x..y", "*.example", "http://x"] {
        let hosts = [host.to_owned()];
        assert!(matches!(
            authority.issue(&request, &agent(), &hosts, holds()),
            Err(BadRequest::Host(_))
        ));
    }
}
