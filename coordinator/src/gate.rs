//! The gate: authenticates and authorises callers. It precedes every rpc, and writes the audit.

mod caller;
mod guarded;
mod receiving;
mod shares;
mod strays;

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use arc_swap::ArcSwap;
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt as _;
use tower::{Layer, Service};
use wyneos::{
    identity::{Need, Role, Rule, bearer_hash, rule},
    v1::AuditKind,
};
use wyneos_core::access::Access;
use wyneos_shell::{
    clock::Clock,
    listener::{Peer, Refused, Shown, Watch},
};

use crate::{
    answers::{Flight, OfSession},
    audit::{self, Audit, REASON, TARGET},
    metrics::Metrics,
    status,
};
use caller::Change;
pub(crate) use caller::{Caller, Recorded};
use guarded::Guarded;
use receiving::{REQUEST_SIZE, REQUEST_TIME, Receiving};
use shares::{NOBODYS, REQUEST_BYTES, Received};
pub(crate) use shares::{SESSION, Shares};
pub(crate) use strays::Calls;

/// Scheme of the header.
const BEARER: &str = "Bearer ";

/// The data with which the gate decides; clones share it.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) access: Arc<ArcSwap<Access>>,
    pub(crate) audit: Audit,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) shares: Arc<Shares>,
}

/// Object of a call that was refused before its request was read, in the audit.
const UNREAD: &str = "request not read";

/// Name of an rpc that does not exist, in the audit.
const UNKNOWN: &str = "unknown rpc";

impl Gate {
    /// Identifies the caller.
    ///
    /// The caller is not accepted; the caller in the error has no role, but the name that was proven, for the audit.
    fn identify<B>(&self, request: &Request<B>) -> Result<Caller, Box<(Caller, Status)>> {
        let peer = request.extensions().get::<Peer>();
        let caller = |name: &str, role| Caller::new(name, role, peer);
        let refused = |status| Box::new((caller(audit::NOBODY, None), status));
        let peer = peer.ok_or_else(|| refused(status::unauthenticated("the connection is not known")))?;
        if !peer.tls {
            // Without TLS all callers have all permissions: the configuration restricts who can reach the server. A
            // call is the only proof that a connection is used.
            peer.vouch();
            return Ok(caller(audit::NOBODY, Some(Role::Admin)));
        }
        if let Some(shown) = &peer.shown {
            return self.by_certificate(peer, shown);
        }
        let Some(header) = request.headers().get(AUTHORIZATION) else {
            return Ok(caller(audit::NOBODY, None));
        };
        let token = header.to_str().ok().and_then(|header| header.strip_prefix(BEARER));
        let wrong = || {
            let why = "authorization: the bearer token is not one of this cluster, or is no longer valid";
            refused(status::unauthenticated(why))
        };
        let hash = bearer_hash(token.ok_or_else(wrong)?.trim());
        let access = self.access.load();
        let operator = access.bearer(&hash, Clock::default().wall()).ok_or_else(wrong)?;
        let name = format!("{}/{}", operator.role.name(), operator.name);
        let mut caller = caller(&name, Some(operator.role));
        caller.bearer = Some(hash);
        peer.vouch();
        Ok(caller)
    }

    fn by_certificate(&self, peer: &Peer, shown: &Shown) -> Result<Caller, Box<(Caller, Status)>> {
        let principal = &shown.principal;
        let name = format!("{}/{}", principal.role.name(), principal.name);
        let mut caller = Caller::new(&name, Some(principal.role), Some(peer));
        caller.shown = Some((principal.clone(), shown.key));
        caller.ends = Some(shown.ends);
        caller.proven = principal.node().map(|node| (node, shown.key));
        self.still(&caller)
            .map_err(|status| Box::new((Caller::new(&name, None, Some(peer)), status)))?;
        Ok(caller)
    }

    /// Returns whether an accepted caller is still accepted.
    fn still(&self, caller: &Caller) -> Result<(), Status> {
        let (access, now) = (self.access.load(), Clock::default().wall());
        let shut = |why: &dyn std::fmt::Display| Err(status::unauthenticated(format!("{}: {why}", caller.name)));
        // The handshake checked it, possibly long ago.
        if caller.ends.is_some_and(|ends| SystemTime::now() >= ends) {
            return shut(&"the certificate has expired since it was presented");
        }
        match (&caller.shown, &caller.bearer) {
            (Some((principal, key)), _) if principal.role.is_persons() => {
                match access.check(&principal.name, principal.role, key, now) {
                    Ok(()) => Ok(()),
                    Err(why) => shut(&why),
                }
            }
            (None, Some(hash)) if access.bearer(hash, now).is_none() => shut(&"the bearer token is no longer valid"),
            _ => Ok(()),
        }
    }

    /// The caller, and the rule by which the call is permitted, or the reason for which it is not.
    fn admit<B>(&self, request: &Request<B>) -> (Caller, Result<&'static Rule, Status>) {
        let peer = request.extensions().get::<Peer>();
        let nobody = || Caller::new(audit::NOBODY, None, peer);
        let rpc = request.uri().path().trim_start_matches('/');
        let Some(rule) = rule(rpc) else {
            self.metrics.call_refused("no_rule");
            return (
                nobody(),
                Err(status::unimplemented("RPC_UNKNOWN", "there is no such rpc")),
            );
        };
        let caller = match self.identify(request) {
            Ok(caller) => caller,
            Err(refused) => {
                self.metrics.call_refused("credential");
                let (caller, status) = *refused;
                return (caller, Err(status));
            }
        };
        let plain = peer.is_some_and(|peer| !peer.tls);
        if plain || rule.need.is_met_by(caller.role) {
            return (caller, Ok(rule));
        }
        let needs = rule.need.describe();
        let status = match caller.role {
            None => {
                self.metrics.call_refused("unauthenticated");
                status::unauthenticated(format!(
                    "{rpc} requires {needs}, and this call presents neither a certificate nor a bearer token"
                ))
            }
            Some(role) => {
                self.metrics.call_refused("role");
                status::denied(
                    "ROLE",
                    format!("{rpc} requires {needs}; {} has {}", caller.name, role.name()),
                )
            }
        };
        (caller, Err(status))
    }

    /// Records a refusal of a caller.
    pub(crate) fn note_refusal(&self, caller: &Caller, action: &'static str, code: Code, reason: &str) {
        let record = self.record(caller, action, code, reason);
        self.audit.note(record);
    }

    fn record(&self, caller: &Caller, action: &str, code: Code, reason: &str) -> wyneos::v1::AuditRecord {
        let about = caller.about.get().filter(|about| !about.is_empty());
        let mut target = about.map_or(UNREAD, String::as_str).to_owned();
        if let Some(detail) = caller.adds.get() {
            target = format!("{target} ({detail})");
        }
        let intent = caller.intent();
        let kind = match intent {
            0 => AuditKind::Unspecified,
            _ => AuditKind::Outcome,
        };
        wyneos::v1::AuditRecord {
            kind: kind.into(),
            intent,
            target: audit::short(&target, TARGET),
            code: code as u32,
            reason: audit::short(reason, REASON),
            ..audit::record(&caller.name, &caller.source(), &audit::short(action, TARGET))
        }
    }
}

/// The status code of a refusal.
fn code_of(refused: &Refused) -> Code {
    match refused {
        Refused::Connections(_) | Refused::Source(_) | Refused::Displaced(_) | Refused::System(_) => {
            Code::ResourceExhausted
        }
        Refused::Nobodys(_) => Code::Unavailable,
        Refused::Late(_) => Code::DeadlineExceeded,
        Refused::Handshake(_) => Code::Unauthenticated,
    }
}

impl Watch for Gate {
    fn refused(&self, source: SocketAddr, refused: &Refused) {
        self.metrics.connection_refused(refused.name());
        tracing::debug!(%source, %refused, "connection refused");
        let reason = refused.to_string();
        let record = wyneos::v1::AuditRecord {
            target: "connection".to_owned(),
            code: code_of(refused) as u32,
            reason: audit::short(&reason, REASON),
            ..audit::record(audit::NOBODY, &source.to_string(), "handshake")
        };
        self.audit.note(record);
    }
}

/// The gate around a service.
#[derive(Clone)]
pub(crate) struct Gated<S> {
    gate: Gate,
    inner: S,
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        let gate = self.clone();
        Gated { gate, inner }
    }
}

/// The result of a call, as far as its beginning shows it: an error without an answer is in the headers.
struct Outcome {
    code: Code,
    message: String,
    /// The limit that its request reached as it arrived, as named in metrics.
    limit: Option<&'static str>,
}

impl Outcome {
    fn of(response: &Response<Body>) -> Outcome {
        let Some(status) = Status::from_header_map(response.headers()) else {
            return Outcome::new(Code::Ok, "");
        };
        let mut outcome = Outcome::new(status.code(), status.message());
        if outcome.code != Code::Ok
            && let Some(info) = status.get_details_error_info()
        {
            outcome.limit = match info.reason.as_str() {
                REQUEST_BYTES => Some("request_bytes"),
                REQUEST_SIZE => Some("request_size"),
                REQUEST_TIME => Some("request_time"),
                _ => None,
            };
        }
        outcome
    }

    fn new(code: Code, message: &str) -> Outcome {
        Outcome {
            code,
            message: message.to_owned(),
            limit: None,
        }
    }
}

/// Headers of a request that are read after the gate. Any number of others may arrive, and would be held for the
/// duration of the call.
const READ: [&str; 2] = ["content-type", "te"];

/// Bytes of one header in addition to its name and value.
const OF_A_HEADER: usize = 128;

/// Bytes of a request's headers in memory.
fn size_of(headers: &HeaderMap) -> usize {
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + OF_A_HEADER)
        .sum()
}

/// Refuses a compressed request, whose length would be known only after decompression.
fn plain(headers: &HeaderMap) -> Result<(), Status> {
    match headers.get("grpc-encoding") {
        Some(encoding) if encoding != "identity" => {
            let message = format!(
                "grpc-encoding: compressed requests are not supported, and this one is compressed with {encoding:?}"
            );
            Err(status::unimplemented("COMPRESSION", message))
        }
        _ => Ok(()),
    }
}

/// Drops the headers that are not read, with the memory of a large map.
fn strip(headers: &mut HeaderMap) {
    let read = headers.iter().filter(|(name, _)| READ.contains(&name.as_str()));
    *headers = read.map(|(name, value)| (name.clone(), value.clone())).collect();
}

/// tonic's message for an invalid message; a fault of its clients, and not of the coordinator.
const NOT_DECODED: &str = "failed to decode Protobuf message";

/// The answer to a request that could not be decoded, as a fault of its sender.
fn settle(outcome: &mut Outcome, response: Response<Body>) -> Response<Body> {
    if outcome.code != Code::Internal || !outcome.message.starts_with(NOT_DECODED) {
        return response;
    }
    let reason = outcome.message.strip_prefix(NOT_DECODED).unwrap_or_default();
    let reason = format!("not a message of this rpc{reason}");
    let status = status::bad_field("request", reason);
    *outcome = Outcome::new(status.code(), status.message());
    status.into_http()
}

impl Gate {
    /// Records the result of a call in the audit, if required.
    async fn account(&self, caller: &Caller, rule: &Rule, outcome: &Outcome) {
        let (code, message) = (outcome.code, outcome.message.as_str());
        match (outcome.limit, code) {
            (Some(limit), _) => self.metrics.call_refused(limit),
            (None, Code::ResourceExhausted) => self.metrics.call_refused("limit"),
            (None, Code::PermissionDenied) => self.metrics.call_refused("denied"),
            (None, Code::Unauthenticated) => self.metrics.call_refused("credential"),
            (None, Code::InvalidArgument) if caller.role.is_none() => self.metrics.call_refused("invalid"),
            _ => {}
        }
        // Frequent refusals are aggregated, since a flood of them would leave no room for anything else. An intent has
        // an outcome.
        let many = !matches!(rule.need, Need::People(_)) || outcome.limit.is_some();
        let changes = rule.changes && caller.plans.get().is_none();
        let gathered = code != Code::Ok && many && caller.intent() == 0;
        if changes && !gathered {
            self.audit.write(self.record(caller, rule.rpc, code, message)).await;
        } else if changes || matches!(code, Code::PermissionDenied | Code::Unauthenticated) {
            self.note_refusal(caller, rule.rpc, code, message);
        }
    }

    /// The answer with the checks of its caller.
    fn guard(&self, caller: Caller, response: Response<Body>) -> Response<Body> {
        let person = caller.role.is_some_and(Role::is_persons) && (caller.shown.is_some() || caller.bearer.is_some());
        if !person {
            return response;
        }
        let gate = self.clone();
        response.map(|inner| Body::new(Guarded::new(inner, gate, caller)))
    }

    /// Counts a call that presents no credential or is refused. If its source has made too many, its connection is
    /// closed: each would cost an answer, and legitimate callers would wait behind it.
    fn slow_down(&self, caller: &Caller, request: &Request<Body>) -> Result<(), Status> {
        let Err(wait) = self.shares.unproven(caller) else {
            return Ok(());
        };
        self.metrics.call_refused("rate");
        if let Some(peer) = request.extensions().get::<Peer>() {
            self.metrics.connection_refused("calls");
            peer.turn_away();
        }
        self.hold_refusal(caller, request);
        let message = format!(
            "{caller} made too many calls that were refused or not authenticated; retry in {} s",
            wait.as_secs().max(1)
        );
        Err(status::exhausted("RATE", message))
    }

    /// Takes a place for the answer to a refused call, until it was written. Without a free place, the caller does not
    /// read, and the connection is closed.
    fn hold_refusal(&self, caller: &Caller, request: &Request<Body>) {
        let extensions = request.extensions();
        let of_session = || extensions.get::<OfSession>().map(|session| &session.0);
        let Some(flight) = extensions.get::<Arc<Flight>>().or_else(of_session) else {
            return;
        };
        match self.shares.refused(caller) {
            Some(place) => flight.keep(place),
            None => {
                if let Some(peer) = extensions.get::<Peer>() {
                    self.metrics.connection_refused("unread");
                    peer.close();
                }
            }
        }
    }

    /// Takes the call's part of its caller's share: a place until its answer was written, and room for its request.
    fn make_room(&self, caller: &Caller, rule: &Rule, request: &Request<Body>) -> Result<Arc<Received>, Status> {
        let share = self.shares.of(caller, rule);
        if let Some(flight) = request.extensions().get::<Arc<Flight>>() {
            flight.keep(share.place(caller)?);
            if caller.role.is_none() {
                flight.end_by(Instant::now() + NOBODYS);
            }
        }
        let who = match rule.rpc {
            SESSION => caller.who_of_session(),
            _ => caller.who(),
        };
        share.receive(who, size_of(request.headers()), &self.metrics)
    }
}

impl<S> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let gate = self.gate.clone();
        let refuse = |status: Status| -> Self::Future { Box::pin(async move { Ok(status.into_http()) }) };
        let (mut caller, admitted) = gate.admit(&request);
        if (caller.role.is_none() || admitted.is_err())
            && let Err(status) = gate.slow_down(&caller, &request)
        {
            return refuse(status);
        }
        let rule = match admitted {
            Ok(rule) => rule,
            Err(status) => {
                let path = request.uri().path().trim_start_matches('/');
                let known = rule(path).map(|rule| rule.rpc);
                let action = known.unwrap_or(UNKNOWN);
                if known.is_none() {
                    caller.about(path);
                }
                gate.note_refusal(&caller, action, status.code(), status.message());
                gate.hold_refusal(&caller, &request);
                return refuse(status);
            }
        };
        let plain = plain(request.headers());
        strip(request.headers_mut());
        let received = match plain.and_then(|()| gate.make_room(&caller, rule, &request)) {
            Ok(received) => received,
            Err(status) => {
                let limit = Outcome::of(&status.clone().into_http()).limit;
                gate.metrics.call_refused(limit.unwrap_or("limit"));
                gate.hold_refusal(&caller, &request);
                return refuse(status);
            }
        };
        let mut request = request.map(|body| Body::new(Receiving::new(body, &received, rule)));
        if rule.changes {
            caller.change = Some(Change::new(&gate.audit, rule.rpc));
        }
        request.extensions_mut().insert(caller.clone());
        let call = self.inner.call(request);
        let (of_cut_off, whose) = (gate.clone(), caller.clone());
        let carried_out = async move {
            let response = call.await?;
            // Nothing of the request is held any more, except by an rpc that continues to read.
            drop(received);
            let mut outcome = Outcome::of(&response);
            let response = settle(&mut outcome, response);
            gate.account(&caller, rule, &outcome).await;
            Ok(match outcome.code {
                Code::Ok => gate.guard(caller, response),
                _ => response,
            })
        };
        if !rule.changes {
            return Box::pin(carried_out);
        }
        // A change is carried out and recorded even if its caller disconnects.
        let carried_out = tokio::spawn(carried_out);
        Box::pin(async move {
            match carried_out.await {
                Ok(result) => result,
                Err(_) => {
                    let message = "the call was cut off; whether it was carried out is unknown";
                    let outcome = Outcome::new(Code::Unknown, message);
                    of_cut_off.account(&whose, rule, &outcome).await;
                    Ok(Status::internal(message).into_http())
                }
            }
        })
    }
}
