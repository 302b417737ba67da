use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::Failure;
use crate::exit::Exit;

fn told(status: &Status) -> (Exit, String, Vec<String>) {
    match Failure::status("cordon n1", status, "here:1") {
        Failure::Told { exit, message, hints } => (exit, message, hints),
        Failure::Closed => panic!("closed"),
    }
}

#[test]
fn a_refusal_says_what_to_do() {
    let mut details = ErrorDetails::with_error_info("NODE_UNKNOWN", "wyneos", HashMap::new());
    details.set_retry_info(Some(Duration::from_secs(1)));
    let status = Status::with_error_details(Code::NotFound, "no such node", details);
    let (exit, message, hints) = told(&status);
    assert_eq!(exit, Exit::NotFound);
    assert_eq!(message, "cordon n1: no such node");
    assert_eq!(hints.len(), 3, "{hints:?}");
}

#[test]
fn violations_that_the_message_has_not_are_told() {
    let mut details = ErrorDetails::new();
    details.add_bad_request_violation("set[0].key", "too long");
    details.add_bad_request_violation("set[1].key", "empty");
    let status = Status::with_error_details(Code::InvalidArgument, "set[0].key: too long", details);
    let (exit, _, hints) = told(&status);
    assert_eq!((exit, hints), (Exit::Failed, vec!["set[1].key: empty".to_owned()]));
}

#[test]
fn unavailable_from_the_server_is_not_unreachable() {
    assert_eq!(told(&Status::unavailable("not ready")).0, Exit::Failed);
    let broken = Status::from_error(Box::new(std::io::Error::other("reset")));
    assert_eq!(told(&broken).0, Exit::Unreachable);
    // The transport's status for a stream without an end.
    assert_eq!(told(&Status::unknown("missing grpc-status")).0, Exit::Unreachable);
}

#[test]
fn a_ca_that_is_not_known_is_named_as_the_cause() {
    use rustls::{AlertDescription, CertificateError, Error};
    let io = |error: Error| Status::from_error(Box::new(std::io::Error::other(error)));
    for error in [CertificateError::BadSignature, CertificateError::UnknownIssuer] {
        let (exit, _, hints) = told(&io(Error::InvalidCertificate(error)));
        assert_eq!(exit, Exit::Unreachable);
        assert!(hints[0].contains("CA was replaced"), "{hints:?}");
        assert!(hints[1].contains("wynectl operator create"), "{hints:?}");
        assert!(
            !hints.iter().any(|hint| hint.contains("is a coordinator running")),
            "{hints:?}"
        );
    }
    let (_, _, hints) = told(&io(Error::AlertReceived(AlertDescription::UnknownCA)));
    assert!(hints[0].contains("does not accept these credentials"), "{hints:?}");
    // A server listens and ends the connection: most likely TLS is missing.
    let (_, _, hints) = told(&Status::from_error(Box::new(std::io::Error::other("reset"))));
    assert!(hints[0].contains("does it use TLS"), "{hints:?}");
    let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    let (_, _, hints) = told(&Status::from_error(Box::new(refused)));
    assert!(hints[0].contains("is a coordinator running"), "{hints:?}");
}
