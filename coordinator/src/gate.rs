//! The gate: who calls, and whether they may. It stands before every rpc, and writes the audit.

use std::{
    fmt,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::SystemTime,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use http_body::{Frame, SizeHint};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use wyneos::{
    identity::{Need, Principal, Role, Rule, bearer_hash, rule},
    v1::AuditKind,
};
use wyneos_core::{access::Access, id::NodeId, integrity::Digest, node::Origin};
use wyneos_shell::{
    clock::Clock,
    listener::{Peer, Refused, Shown, Watch, source as source_of},
};

use crate::{
    answers::{Flight, Full, Quota, Who},
    audit::{self, Audit, Intent, REASON, TARGET},
    metrics::Metrics,
    status,
};

/// The header's scheme.
const BEARER: &str = "Bearer ";

/// Who makes a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    /// For people, and for the audit.
    pub(crate) name: Arc<str>,
    /// What it may do; `None` for nobody in particular.
    pub(crate) role: Option<Role>,
    /// Where it is.
    pub(crate) source: Option<SocketAddr>,
    /// An agent's node and key, as its certificate has them.
    pub(crate) proven: Option<(NodeId, Digest)>,
    /// Whom its certificate names, and its key.
    pub(crate) shown: Option<(Principal, Digest)>,
    /// Until when that certificate holds.
    ends: Option<SystemTime>,
    /// Of its bearer token.
    bearer: Option<Digest>,
    about: Arc<OnceLock<String>>,
    adds: Arc<OnceLock<String>>,
    /// `None` for a call that changes nothing.
    change: Option<Arc<Change>>,
}

/// A call that may change something, and its intent once that is durable.
struct Change {
    audit: Audit,
    rpc: &'static str,
    intent: OnceCell<Intent>,
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Change").field(&self.rpc).finish()
    }
}

/// Proof that what a call is about to change is in the audit. Whatever changes something asks for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recorded(u64);

impl Recorded {
    /// The intent's number.
    pub(crate) fn intent(self) -> u64 {
        self.0
    }
}

impl Caller {
    fn new(name: &str, role: Option<Role>, peer: Option<&Peer>) -> Caller {
        Caller {
            name: name.into(),
            role,
            source: peer.map(|peer| peer.address),
            proven: None,
            shown: None,
            ends: None,
            bearer: None,
            about: Arc::default(),
            adds: Arc::default(),
            change: None,
        }
    }

    /// True for a call that may change something.
    pub(crate) fn changes(&self) -> bool {
        self.change.is_some()
    }

    /// Writes into the audit what this call is about to change, unless it did before; returns once that is durable.
    ///
    /// # Errors
    /// It cannot be written: nothing may be changed.
    pub(crate) async fn intend(&self, target: impl Into<String>) -> Result<Recorded, Status> {
        self.about(target);
        let missing = || Status::internal("this rpc changes something, and its rule says that it does not");
        let change = self.change.as_ref().ok_or_else(missing)?;
        let target = self.about.get().map(|target| audit::short(target, TARGET));
        let record = wyneos::v1::AuditRecord {
            target: target.unwrap_or_default(),
            ..audit::record(&self.name, &self.source(), change.rpc)
        };
        let intent = change.intent.get_or_try_init(|| change.audit.intend(record)).await;
        match intent {
            Ok(intent) => Ok(Recorded(intent.number())),
            Err(error) => Err(status::unavailable("AUDIT", error.to_string())),
        }
    }

    /// The number of its intent; 0 when it has none.
    fn intent(&self) -> u64 {
        let intent = self.change.as_ref().and_then(|change| change.intent.get());
        intent.map_or(0, Intent::number)
    }

    /// Notes what the call is about, for the audit.
    pub(crate) fn about(&self, target: impl Into<String>) {
        // A call is about one thing; what was said first stands.
        let _ = self.about.set(target.into());
    }

    /// Notes what the audit should know, and the caller not.
    pub(crate) fn adds(&self, detail: String) {
        let _ = self.adds.set(detail);
    }

    /// Where a session comes from, and what that proves.
    pub(crate) fn origin(&self) -> Origin {
        Origin {
            address: self.source(),
            proven: self.proven,
        }
    }

    /// Whose share of what is limited the call takes: a name that was proven, or the address.
    pub(crate) fn who(&self) -> Who {
        match self.shown.is_some() || self.bearer.is_some() {
            true => Who::Named(Arc::clone(&self.name)),
            false => Who::Source(self.source.map(|source| source_of(source.ip()))),
        }
    }

    fn source(&self) -> String {
        self.source.map(|source| source.to_string()).unwrap_or_default()
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.who(), self.source) {
            (Who::Source(_), Some(source)) => write!(f, "{}", source.ip()),
            _ => f.write_str(&self.name),
        }
    }
}

/// What the gate decides by; clones share it.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) access: Arc<ArcSwap<Access>>,
    pub(crate) audit: Audit,
    pub(crate) metrics: Arc<Metrics>,
    /// Calls of nobody in particular that are under way.
    pub(crate) nobodys: Arc<Semaphore>,
    /// Calls that are under way, until the last byte of their answers was written; sessions apart.
    pub(crate) calls: Arc<Quota>,
}

/// Calls under way at most, of one identity and of all: each takes some kilobytes beside what its answer holds.
pub(crate) const CALLS_OF_ONE: usize = 2_048;
pub(crate) const CALLS: usize = 16_384;

/// Calls of nobody in particular that are under way at most: joining, health, reflection.
pub(crate) const NOBODYS: usize = 1_024;

/// An rpc that there is none of, in the audit.
const UNKNOWN: &str = "unknown rpc";

impl Gate {
    /// Who calls.
    fn identify<B>(&self, request: &Request<B>) -> Result<Caller, Status> {
        let peer = request.extensions().get::<Peer>();
        let caller = |name: &str, role| Caller::new(name, role, peer);
        let peer = peer.ok_or_else(|| status::unauthenticated("the connection is not known"))?;
        if !peer.tls {
            // Without TLS everybody may do everything: configuration sees to it who reaches the server. A call is all the proof
            // there is that a connection is used.
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
        let wrong =
            || status::unauthenticated("authorization: the bearer token is none of this cluster, or holds no more");
        let hash = bearer_hash(token.ok_or_else(wrong)?.trim());
        let access = self.access.load();
        let operator = access.bearer(&hash, Clock::default().wall()).ok_or_else(wrong)?;
        let name = format!("{}/{}", operator.role.name(), operator.name);
        let mut caller = caller(&name, Some(operator.role));
        caller.bearer = Some(hash);
        peer.vouch();
        Ok(caller)
    }

    fn by_certificate(&self, peer: &Peer, shown: &Shown) -> Result<Caller, Status> {
        let principal = &shown.principal;
        let name = format!("{}/{}", principal.role.name(), principal.name);
        let mut caller = Caller::new(&name, Some(principal.role), Some(peer));
        caller.shown = Some((principal.clone(), shown.key));
        caller.ends = Some(shown.ends);
        caller.proven = principal.node().map(|node| (node, shown.key));
        self.still(&caller)?;
        Ok(caller)
    }

    /// Whether a caller who was let in still is.
    fn still(&self, caller: &Caller) -> Result<(), Status> {
        let (access, now) = (self.access.load(), Clock::default().wall());
        let shut = |why: &dyn std::fmt::Display| Err(status::unauthenticated(format!("{}: {why}", caller.name)));
        // The handshake looked at it, which may be long ago.
        if caller.ends.is_some_and(|ends| SystemTime::now() >= ends) {
            return shut(&"the certificate has expired since it was shown");
        }
        match (&caller.shown, &caller.bearer) {
            (Some((principal, key)), _) if principal.role.is_persons() => {
                match access.check(&principal.name, principal.role, key, now) {
                    Ok(()) => Ok(()),
                    Err(why) => shut(&why),
                }
            }
            (None, Some(hash)) if access.bearer(hash, now).is_none() => shut(&"the bearer token holds no more"),
            _ => Ok(()),
        }
    }

    /// Who calls, and the rule by which the call may go on, or why it may not.
    fn admit<B>(&self, request: &Request<B>) -> (Caller, Result<&'static Rule, Status>) {
        let peer = request.extensions().get::<Peer>();
        let nobody = || Caller::new(audit::NOBODY, None, peer);
        let rpc = request.uri().path().trim_start_matches('/');
        let Some(rule) = rule(rpc) else {
            self.metrics.call_refused("no_rule");
            return (nobody(), Err(Status::unimplemented("there is no such rpc here")));
        };
        let caller = match self.identify(request) {
            Ok(caller) => caller,
            Err(status) => {
                self.metrics.call_refused("credential");
                return (nobody(), Err(status));
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
                    "{rpc} needs {needs}, and this call shows neither a certificate nor a bearer token"
                ))
            }
            Some(role) => {
                self.metrics.call_refused("role");
                status::denied(
                    "ROLE",
                    format!("{rpc} needs {needs}; {} has {}", caller.name, role.name()),
                )
            }
        };
        (caller, Err(status))
    }

    /// Writes that a caller was refused something.
    pub(crate) fn note_refusal(&self, caller: &Caller, action: &'static str, code: Code, reason: &str) {
        let record = self.record(caller, action, code, reason);
        self.audit.note(record);
    }

    fn record(&self, caller: &Caller, action: &str, code: Code, reason: &str) -> wyneos::v1::AuditRecord {
        let mut target = caller.about.get().cloned().unwrap_or_default();
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

/// What kind of refusal it is.
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
            code: code_of(refused) as u32,
            reason: audit::short(&reason, REASON),
            ..audit::record(audit::NOBODY, &source.to_string(), "handshake")
        };
        self.audit.note(record);
    }
}

/// An answer that goes on only while its caller is let in: a stream of somebody who is shut out ends with its next message.
struct Guarded {
    inner: Body,
    gate: Gate,
    caller: Caller,
    ended: bool,
    /// Of nobody in particular: given back with the answer's end.
    _permit: Option<OwnedSemaphorePermit>,
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(context));
        let is_data = frame
            .as_ref()
            .is_some_and(|frame| frame.as_ref().is_ok_and(Frame::is_data));
        let Err(status) = (if is_data { self.gate.still(&self.caller) } else { Ok(()) }) else {
            return Poll::Ready(frame);
        };
        self.ended = true;
        self.gate.metrics.call_refused("credential");
        let (code, reason) = (status.code(), status.message());
        self.gate.note_refusal(&self.caller, "stream", code, reason);
        let mut trailers = HeaderMap::new();
        // What does not fit a header is left out; the end is one all the same.
        let _ = status.add_header(&mut trailers);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The gate before a service.
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

/// The outcome of a call, as far as its beginning tells: an error without an answer is in the headers.
fn outcome(response: &Response<Body>) -> (Code, String) {
    match Status::from_header_map(response.headers()) {
        Some(status) => (status.code(), status.message().to_owned()),
        None => (Code::Ok, String::new()),
    }
}

impl Gate {
    /// Writes what came of a call into the audit, if it belongs there.
    async fn account(&self, caller: &Caller, rule: &Rule, code: Code, message: &str) {
        match code {
            Code::ResourceExhausted => self.metrics.call_refused("limit"),
            Code::PermissionDenied => self.metrics.call_refused("denied"),
            Code::Unauthenticated => self.metrics.call_refused("credential"),
            Code::InvalidArgument if caller.role.is_none() => self.metrics.call_refused("invalid"),
            _ => {}
        }
        // What many can be refused is gathered: a flood of it would leave no room for anything else. An intent has an outcome.
        let gathered = code != Code::Ok && !matches!(rule.need, Need::People(_)) && caller.intent() == 0;
        if rule.changes && !gathered {
            self.audit.write(self.record(caller, rule.rpc, code, message)).await;
        } else if rule.changes || matches!(code, Code::PermissionDenied | Code::Unauthenticated) {
            self.note_refusal(caller, rule.rpc, code, message);
        }
    }

    /// The answer as its caller may have it.
    fn guard(&self, caller: Caller, permit: Option<OwnedSemaphorePermit>, response: Response<Body>) -> Response<Body> {
        let person = caller.role.is_some_and(Role::is_persons) && (caller.shown.is_some() || caller.bearer.is_some());
        if !person && permit.is_none() {
            return response;
        }
        let gate = self.clone();
        response.map(|inner| {
            Body::new(Guarded {
                inner,
                gate,
                caller,
                ended: false,
                _permit: permit,
            })
        })
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
        let rule = match admitted {
            Ok(rule) => rule,
            Err(status) => {
                let path = request.uri().path().trim_start_matches('/');
                let action = rule(path).map_or(UNKNOWN, |rule| rule.rpc);
                caller.about(path);
                gate.note_refusal(&caller, action, status.code(), status.message());
                return refuse(status);
            }
        };
        let permit = match caller.role {
            Some(_) => None,
            None => match Arc::clone(&gate.nobodys).try_acquire_owned() {
                Ok(permit) => Some(permit),
                Err(_) => {
                    gate.metrics.call_refused("limit");
                    let message = "too many calls without a certificate are under way";
                    return refuse(status::exhausted("NOBODYS", message));
                }
            },
        };
        if let Some(flight) = request.extensions().get::<Arc<Flight>>() {
            match gate.calls.take(caller.who()) {
                Ok(place) => flight.keep(place),
                Err(full) => {
                    gate.metrics.call_refused("limit");
                    let message = match full {
                        Full::OfOne(most) => format!("{caller} has {most} calls under way, the limit of one identity"),
                        Full::OfAll(most) => format!("{most} calls are under way, the limit"),
                    };
                    return refuse(status::exhausted("CALLS", message));
                }
            }
        }
        if rule.changes {
            caller.change = Some(Arc::new(Change {
                audit: gate.audit.clone(),
                rpc: rule.rpc,
                intent: OnceCell::new(),
            }));
        }
        request.extensions_mut().insert(caller.clone());
        let call = self.inner.call(request);
        let (of_cut_off, whose) = (gate.clone(), caller.clone());
        let carried_out = async move {
            let response = call.await?;
            let (code, message) = outcome(&response);
            gate.account(&caller, rule, code, &message).await;
            Ok(match code {
                Code::Ok => gate.guard(caller, permit, response),
                _ => response,
            })
        };
        if !rule.changes {
            return Box::pin(carried_out);
        }
        // What changes something is carried out and accounted for, though its caller hangs up meanwhile.
        let carried_out = tokio::spawn(carried_out);
        Box::pin(async move {
            match carried_out.await {
                Ok(result) => result,
                Err(_) => {
                    let message = "the call was cut off; whether it was done is not known";
                    of_cut_off.account(&whose, rule, Code::Unknown, message).await;
                    Ok(Status::internal(message).into_http())
                }
            }
        })
    }
}
