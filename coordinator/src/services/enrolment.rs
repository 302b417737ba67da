//! EnrollmentService: certificates for agents.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tonic::{Code, Request, Response, Status};
use wyneos::{
    convert,
    identity::{BadRequest, Principal, key_of_request},
    v1::{self, enrollment_service_server::EnrollmentService},
};
use wyneos_core::{
    command::{Asked, Denial, Enrol, Refusal, Renew},
    id::NodeId,
    integrity::Digest,
};
use wyneos_shell::{clock::Clock, listener};

use super::{Services, caller_of};
use crate::{
    ca::{Ca, CaError},
    gate::Caller,
    status,
};

/// The status for an invalid certificate request.
pub(super) fn bad_request(error: &BadRequest) -> Status {
    status::bad_field("certificate_request", error.to_string())
}

/// The status for a failure of the CA. The cause is logged here; the caller learns only that it failed.
pub(super) fn ca_failed(error: &CaError) -> Status {
    match error {
        CaError::Names(error) => bad_request(error),
        CaError::Step(reason) => status::precondition("AUTHORITY", *reason),
        CaError::Clock(behind) => {
            tracing::error!("no certificate was issued: {behind}");
            status::unavailable("CLOCK", format!("the coordinator's clock: {behind}"))
        }
        error => {
            tracing::error!(%error, "the CA failed");
            Status::internal("the CA failed; the coordinator's log has the reason")
        }
    }
}

impl Services {
    /// The CA; an error without TLS.
    pub(super) fn ca(&self) -> Result<&Arc<Ca>, Status> {
        let none = || {
            let reason = "the coordinator runs without TLS: there is no CA, and no certificates are needed";
            status::precondition("NO_TLS", reason)
        };
        self.ca.as_ref().ok_or_else(none)
    }

    /// Counts an attempt to join from the caller's address.
    fn attempt(&self, caller: &Caller) -> Result<(), Status> {
        let Some(source) = caller.source else { return Ok(()) };
        self.limiter
            .take(listener::source(source.ip()), Instant::now())
            .map_err(|wait| {
                let a_minute = self.config.enrolments_per_minute;
                let message = format!(
                    "more than {a_minute} attempts per minute from {} (enrolments_per_minute)",
                    source.ip()
                );
                status::exhausted_for("ENROLMENTS", message, wait)
            })
    }

    /// Issues the certificate for a node that is entitled to one.
    async fn certify(&self, caller: &Caller, node: NodeId, request: &[u8]) -> Result<v1::IssuedCertificate, Status> {
        let ca = self.ca()?;
        let recorded = caller.intend(format!("node {node}")).await?;
        let principal = Principal::agent(ca.trust().cluster(), node);
        let issued = ca
            .issue(recorded, request, &principal, self.config.certificate_ttl.0)
            .await
            .map_err(|error| ca_failed(&error))?;
        self.metrics.certificates.inc();
        Ok(v1::IssuedCertificate {
            chain: issued.chain,
            roots: issued.roots,
        })
    }

    /// Issues an operator's certificate again, from the CA that signs now. It expires no later than before.
    async fn renewed_operator(&self, caller: &Caller, request: &[u8]) -> Result<v1::IssuedCertificate, Status> {
        let ca = self.ca()?;
        let shown = caller.shown.as_ref();
        let (principal, key) = shown.ok_or_else(|| status::unauthenticated("renewal requires a certificate"))?;
        caller.about(format!("operator {}", principal.name));
        let asked = key_of_request(&request.into()).map_err(|error| bad_request(&error))?;
        if asked != *key {
            return Err(status::denied(
                "KEY",
                "the request is for another key than the certificate's",
            ));
        }
        let access = self.access.load();
        let record = access.operators.get(&principal.name).ok_or_else(|| {
            let reason = "these credentials were created on the coordinator's host: create them again there";
            status::precondition("NOT_ON_RECORD", reason)
        })?;
        let left = record.expires.0.saturating_sub(Clock::default().wall().0);
        let left = Duration::from_millis(u64::try_from(left).unwrap_or_default());
        let recorded = caller.intend(format!("operator {}", principal.name)).await?;
        let issued = ca.issue(recorded, request, principal, left).await;
        let issued = issued.map_err(|error| ca_failed(&error))?;
        self.metrics.certificates.inc();
        Ok(v1::IssuedCertificate {
            chain: issued.chain,
            roots: issued.roots,
        })
    }

    async fn renewed(
        &self,
        caller: &Caller,
        (node, key): (NodeId, Digest),
        request: &[u8],
    ) -> Result<(v1::IssuedCertificate, i32), Status> {
        caller.about(format!("node {node}"));
        let asked = key_of_request(&request.into()).map_err(|error| bad_request(&error))?;
        if asked != key {
            let refusal = Refusal::Denied(Denial::Key);
            return Err(status::refusal(&refusal));
        }
        // A revoked caller may retry as often as its limit permits; its intents would leave no room for those of
        // others.
        self.refused.of(&key, Instant::now())?;
        // Read before the certificate is issued: with a step in between, it counts as older than it is.
        let ca_step = self.ca()?.step().await;
        let renewed = self.ask(caller, Renew { node, key, ca_step }).await;
        let renewed = renewed.inspect_err(|status| {
            if status.code() == Code::PermissionDenied {
                self.refused.remember(key, status, Instant::now());
            }
        })?;
        let certificate = self.certify(caller, node, request).await?;
        Ok((certificate, v1::Admission::from(renewed.admission).into()))
    }
}

#[tonic::async_trait]
impl EnrollmentService for Services {
    async fn enroll(&self, request: Request<v1::EnrollRequest>) -> Result<Response<v1::EnrollResponse>, Status> {
        let caller = caller_of(&request);
        self.attempt(&caller)?;
        let request = request.into_inner();
        let ca = self.ca()?;
        let enrolment = convert::enrolment_in(&request, ca.trust().cluster(), ca.step().await);
        let enrolment = enrolment.map_err(status::convert)?;
        let node = enrolment.node;
        let command = Enrol(Box::new(enrolment.clone()));
        // A caller without a token writes no intent.
        if let Err(denial) = self.access.load().token(&enrolment, Clock::default().wall()) {
            let refusal = Refusal::Denied(denial);
            caller.about(Asked::from(command).about());
            caller.adds(about(&refusal).unwrap_or_default());
            return Err(status::refusal(&refusal));
        }
        let joined = self.ask(&caller, command).await?;
        let certificate = self.certify(&caller, node, &request.certificate_request).await?;
        Ok(Response::new(v1::EnrollResponse {
            certificate: Some(certificate),
            admission: v1::Admission::from(joined.admission).into(),
        }))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let caller = caller_of(&request);
        self.ca()?;
        let request = request.into_inner();
        let key = caller.shown.as_ref().map(|(_, key)| *key).unwrap_or_default();
        self.renewals.take(key, Instant::now()).map_err(|wait| {
            let message = "more renewals per minute than any certificate needs";
            status::exhausted_for("RENEWALS", message, wait)
        })?;
        let Some(proven) = caller.proven else {
            let certificate = self.renewed_operator(&caller, &request.certificate_request).await?;
            return Ok(Response::new(v1::RenewResponse {
                certificate: Some(certificate),
                admission: v1::Admission::Unspecified.into(),
            }));
        };
        let (certificate, admission) = self.renewed(&caller, proven, &request.certificate_request).await?;
        Ok(Response::new(v1::RenewResponse {
            certificate: Some(certificate),
            admission,
        }))
    }

    async fn recover(&self, request: Request<v1::RecoverRequest>) -> Result<Response<v1::RecoverResponse>, Status> {
        let caller = caller_of(&request);
        self.attempt(&caller)?;
        let ca = self.ca()?;
        let request = request.into_inner();
        if request.certificate.len() > wyneos::identity::REQUEST_MAX {
            return Err(status::bad_field("certificate", "longer than any certificate"));
        }
        let once = ca
            .trust()
            .once(&request.certificate.as_slice().into())
            .map_err(|_| status::bad_field("certificate", "not issued by this cluster's CA"))?;
        let node = once.principal.node();
        let node = node.ok_or_else(|| status::bad_field("certificate", "not an agent's"))?;
        let late = SystemTime::now().duration_since(once.held.end).unwrap_or_default();
        if late > self.config.late_renewal.0 {
            let message = format!(
                "the certificate expired more than {} ago (late_renewal): join with a token",
                self.config.late_renewal
            );
            caller.about(format!("node {node}"));
            return Err(status::denied("TOO_LATE", message));
        }
        let proven = (node, once.key);
        let (certificate, admission) = self.renewed(&caller, proven, &request.certificate_request).await?;
        Ok(Response::new(v1::RecoverResponse {
            certificate: Some(certificate),
            admission,
        }))
    }
}

/// The fault of a token, for the audit only.
pub(super) fn about(refusal: &Refusal) -> Option<String> {
    match refusal {
        Refusal::Denied(Denial::Token(problem)) => Some(format!("join token: {}", problem.name())),
        _ => None,
    }
}

/// A time for the protocol.
pub(super) fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    convert::timestamp(wyneos_core::time::WallTime(since.as_millis() as i64))
}
