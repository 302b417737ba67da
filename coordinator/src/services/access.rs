//! AccessService: join tokens, operators, the CA, the audit.

use std::{collections::BTreeMap, ops::Bound, sync::Arc, time::Duration};

use futures_util::stream;
use rand::{TryRng as _, rngs::SysRng};
use tokio::sync::{broadcast::error::RecvError, watch};
use tonic::{Request, Response, Status};
use wyneos::{
    convert,
    identity::{JoinToken, Principal, bearer, bearer_hash, key_of_request},
    v1::{self, access_service_server::AccessService},
};
use wyneos_core::{
    access::{Credential, ShutOut, TokenRecord},
    command::{
        Asked, AuthorityActivates, AuthorityRetired, Command, CreateOperator, CreateToken, DeleteToken, Noted,
        RevokeOperator,
    },
    node::Admission,
};
use wyneos_shell::clock::Clock;

use super::{
    PAGE_MAX, Services, caller_of,
    enrolment::{bad_request, ca_failed, timestamp},
    page, page_size, stopped, stops,
};
use crate::{
    answers::{self, Answers, Message, Taken},
    ca::{Ca, Step},
    gate::Caller,
    reads::{Asker, Sort},
    status,
};

/// Default lifetime of a join token, and of an operator.
const TOKEN_TTL: Duration = Duration::from_secs(3600);
const OPERATOR_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// Maximum lifetime of an operator: a year.
const OPERATOR_TTL_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// Number of entries that a watcher reads from the disk at once; they are framed together.
const CATCH_UP: usize = 64;

fn ttl(asked: Option<prost_types::Duration>, default: Duration) -> Result<Duration, Status> {
    match asked {
        None => Ok(default),
        Some(span) => convert::duration_in("ttl", &span).map_err(status::convert),
    }
}

/// The requested page size, for lists that callers of earlier versions read in one piece.
fn whole_page(asked: u32) -> Result<usize, Status> {
    page_size(if asked == 0 { PAGE_MAX } else { asked })
}

/// The records after the key that a page token contains; all for an empty token.
fn behind<'a, T>(records: &'a BTreeMap<String, T>, token: &str) -> impl Iterator<Item = (&'a String, &'a T)> {
    let from = match token {
        "" => Bound::Unbounded,
        last => Bound::Excluded(last),
    };
    records.range::<str, _>((from, Bound::Unbounded))
}

/// Operators on record and names that are revoked without a record, merged in order. No name is in both.
fn merged<'a>(
    records: impl Iterator<Item = v1::Operator> + 'a,
    names: impl Iterator<Item = (&'a String, &'a ShutOut)> + 'a,
) -> impl Iterator<Item = v1::Operator> + 'a {
    let (mut records, mut names) = (records.peekable(), names.map(convert::shut_out).peekable());
    std::iter::from_fn(move || match (records.peek(), names.peek()) {
        (Some(record), Some(name)) if name.name < record.name => names.next(),
        (Some(_), _) => records.next(),
        (None, _) => names.next(),
    })
}

fn random<const N: usize>() -> Result<[u8; N], Status> {
    let mut bytes = [0; N];
    let filled = SysRng.try_fill_bytes(&mut bytes);
    filled.map_err(|_| Status::internal("the system has no random numbers"))?;
    Ok(bytes)
}

/// The trusted CAs, and the number of the newest step of their replacement.
async fn authorities(ca: &Ca) -> (Vec<v1::AuthorityDetails>, u64) {
    let (shown, step) = ca.shown().await;
    let details = shown.iter().map(|one| v1::AuthorityDetails {
        fingerprint: one.fingerprint.iter().map(|byte| format!("{byte:02x}")).collect(),
        expires: Some(timestamp(one.expires)),
        signs: one.signs,
    });
    (details.collect(), step)
}

/// A subscriber of the audit.
struct Watcher {
    services: Services,
    asker: Asker,
    live: tokio::sync::broadcast::Receiver<Arc<v1::AuditEntry>>,
    stopping: watch::Receiver<bool>,
    next: u64,
    behind: bool,
    _permit: Taken,
}

impl Watcher {
    async fn next(&mut self) -> Result<Message, Status> {
        loop {
            if self.behind {
                let entries = self
                    .services
                    .read_audit(Sort::CatchUp, &self.asker, self.next, CATCH_UP)
                    .await?;
                self.behind = entries.len() == CATCH_UP;
                if let Some(answer) = self.hand_out(entries) {
                    return Ok(answer);
                }
                continue;
            }
            tokio::select! {
                entry = self.live.recv() => match entry {
                    Ok(entry) => if let Some(answer) = self.hand_out(vec![(*entry).clone()]) {
                        return Ok(answer);
                    },
                    Err(RecvError::Lagged(_)) => self.behind = true,
                    Err(RecvError::Closed) => return Err(stopped()),
                },
                () = stops(&mut self.stopping) => return Err(stopped()),
            }
        }
    }

    /// Frames the `entries` that were not sent yet.
    fn hand_out(&mut self, entries: Vec<v1::AuditEntry>) -> Option<Message> {
        let sequence = |entry: &v1::AuditEntry| entry.record.as_ref().map_or(0, |record| record.sequence);
        let news: Vec<v1::WatchAuditResponse> = entries
            .into_iter()
            .filter(|entry| sequence(entry) >= self.next)
            .map(|entry| v1::WatchAuditResponse { entry: Some(entry) })
            .collect();
        let last = news.last()?.entry.as_ref()?;
        self.next = sequence(last) + 1;
        Some(Message::batch(&self.services.ledger, &news))
    }
}

impl Services {
    /// Reads at most `most` entries from number `from` on, on a blocking thread; each is bounded in bytes.
    async fn read_audit(
        &self,
        sort: Sort,
        asker: &Asker,
        from: u64,
        most: usize,
    ) -> Result<Vec<v1::AuditEntry>, Status> {
        let audit = self.audit.clone();
        let read = self.reads.run(sort, asker, move |_| audit.read(from, most)).await;
        read.ok_or_else(|| Status::internal("reading the audit was cut off"))?
            .map_err(|error| status::store(&error))
    }

    /// Number of admitted nodes whose newest certificate is from before the CA's step `step`. A snapshot from before
    /// the step counts too many, never too few.
    fn nodes_behind(&self, step: u64) -> Result<u32, Status> {
        let published = self.newest()?;
        let behind = published.snapshot.nodes.iter().filter(|row| {
            let identity = row.record.identity;
            row.record.admission == Admission::Admitted && identity.is_some_and(|identity| identity.ca_step < step)
        });
        Ok(behind.count() as u32)
    }

    /// Refuses to invalidate certificates that nodes still use, and to proceed if their number is not known.
    fn nobody_is_cut_off(&self, step: u64) -> Result<(), Status> {
        match self.nodes_behind(step)? {
            0 => Ok(()),
            behind => {
                let message = format!(
                    "{behind} admitted nodes have certificates from before the last step and would be cut off: wait until they renewed \
                     them (certificate_ttl), revoke those that are gone, or force it"
                );
                Err(status::precondition("NODES_BEHIND", message))
            }
        }
    }

    /// Makes the engine record a step of the CA's replacement. The step itself is determined by the CA's own state.
    async fn note_step<C: Command<Reply = Noted>>(&self, caller: &Caller, step: C) -> Result<Noted, Status> {
        self.ask_recorded::<C>(caller, step.into(), None).await
    }

    /// Refuses to end the caller's own access, unless forced.
    fn spare_self(caller: &Caller, name: &str, force: bool, doing: &str) -> Result<(), Status> {
        if force || caller.operator() != Some(name) {
            return Ok(());
        }
        caller.about(format!("operator {name}"));
        let message = format!(
            "{name} is the operator who makes this call: {doing} ends this access immediately. Ask another admin, or repeat it with \
             --force; `wyneos-coordinator admin` on the coordinator's host creates a new admin"
        );
        Err(status::precondition("SELF", message))
    }
}

#[tonic::async_trait]
impl AccessService for Services {
    type WatchAuditStream = Answers<v1::WatchAuditResponse>;

    async fn create_join_token(
        &self,
        request: Request<v1::CreateJoinTokenRequest>,
    ) -> Result<Response<v1::CreateJoinTokenResponse>, Status> {
        let caller = caller_of(&request);
        let request = request.into_inner();
        let ca = self.ca()?;
        let ttl = ttl(request.ttl, TOKEN_TTL)?;
        let token = JoinToken::new(ca.trust().cluster(), ca.fingerprint().await, random()?);
        let mut record = convert::token_in(request).map_err(status::convert)?;
        (record.id, record.hash, record.authority) = (token.name(), token.hash(), Some(token.fingerprint));
        let token_record = Box::new(record);
        let command = CreateToken {
            token: token_record,
            ttl,
        };
        let kept = self.ask(&caller, command).await?;
        Ok(Response::new(v1::CreateJoinTokenResponse {
            token: token.to_string(),
            details: Some((&*kept).into()),
        }))
    }

    async fn list_join_tokens(
        &self,
        request: Request<v1::ListJoinTokensRequest>,
    ) -> Result<Response<v1::ListJoinTokensResponse>, Status> {
        let request = request.into_inner();
        let size = whole_page(request.page_size)?;
        let (access, now) = (self.access.load(), Clock::default().wall());
        // A token identifies its CA, and became invalid when that was retired.
        let trusted: Option<Vec<[u8; 32]>> = match &self.ca {
            Some(ca) => Some(ca.shown().await.0.iter().map(|one| one.fingerprint).collect()),
            None => None,
        };
        let holds = |token: &&TokenRecord| match (&trusted, token.authority) {
            (Some(trusted), Some(authority)) => trusted.contains(&authority),
            _ => true,
        };
        let tokens = behind(&access.tokens, &request.page_token).map(|(_, token)| token);
        let tokens = tokens.filter(|token| now < token.expires).filter(holds);
        let (tokens, more) = page(tokens.map(v1::JoinToken::from), size);
        let last = tokens.last().filter(|_| more);
        Ok(Response::new(v1::ListJoinTokensResponse {
            next_page_token: last.map(|token| token.id.clone()).unwrap_or_default(),
            tokens,
        }))
    }

    async fn delete_join_token(
        &self,
        request: Request<v1::DeleteJoinTokenRequest>,
    ) -> Result<Response<v1::DeleteJoinTokenResponse>, Status> {
        self.command::<DeleteToken, _>(request).await
    }

    async fn create_operator(
        &self,
        request: Request<v1::CreateOperatorRequest>,
    ) -> Result<Response<v1::CreateOperatorResponse>, Status> {
        let caller = caller_of(&request);
        let request = request.into_inner();
        let ca = self.ca()?;
        let name = convert::operator_name(request.name.clone()).map_err(status::convert)?;
        Self::spare_self(&caller, &name, request.force, "a new credential in its place")?;
        let role = convert::operator_role(request.role()).map_err(status::convert)?;
        let ttl = ttl(request.ttl, OPERATOR_TTL)?;
        let (credential, bearer_token) = match request.certificate_request.as_slice() {
            [] => {
                let token = bearer(random()?);
                (Credential::Bearer(bearer_hash(&token)), token)
            }
            csr => {
                let key = key_of_request(&csr.into()).map_err(|error| bad_request(&error))?;
                (Credential::Key(key), String::new())
            }
        };
        let command = CreateOperator {
            name: name.clone(),
            role,
            credential,
            ttl,
        };
        // Created first: an operator on record has credentials.
        let issued = match credential {
            Credential::Bearer(_) => None,
            Credential::Key(_) => {
                let principal = Principal::new(ca.trust().cluster(), role, &name)
                    .map_err(|error| status::bad_field("name", error.to_string()))?;
                if ttl > OPERATOR_TTL_MAX {
                    return Err(status::bad_field("ttl", "more than 366 days"));
                }
                let recorded = caller.intend(Asked::from(command.clone()).about()).await?;
                let issued = ca.issue(recorded, &request.certificate_request, &principal, ttl).await;
                Some(issued.map_err(|error| ca_failed(&error))?)
            }
        };
        let access = self.access.load();
        let off_record = !access.operators.contains_key(&name) && !access.shut_out.contains_key(&name);
        let operator = self.ask(&caller, command).await?;
        if caller.operator() == Some(name.as_str()) {
            caller.hears_the_outcome();
        }
        let mut response = v1::CreateOperatorResponse {
            bearer_token,
            details: Some((&*operator).into()),
            off_record,
            ..v1::CreateOperatorResponse::default()
        };
        if let Some(issued) = issued {
            self.metrics.certificates.inc();
            (response.chain, response.roots) = (issued.chain, issued.roots);
        }
        Ok(Response::new(response))
    }

    async fn list_operators(
        &self,
        request: Request<v1::ListOperatorsRequest>,
    ) -> Result<Response<v1::ListOperatorsResponse>, Status> {
        let request = request.into_inner();
        let size = whole_page(request.page_size)?;
        let access = self.access.load();
        let records = behind(&access.operators, &request.page_token).map(|(_, record)| record);
        let names = behind(&access.shut_out, &request.page_token);
        let (operators, more) = page(merged(records.map(v1::Operator::from), names), size);
        let last = operators.last().filter(|_| more);
        Ok(Response::new(v1::ListOperatorsResponse {
            next_page_token: last.map(|operator| operator.name.clone()).unwrap_or_default(),
            operators,
        }))
    }

    async fn revoke_operator(
        &self,
        request: Request<v1::RevokeOperatorRequest>,
    ) -> Result<Response<v1::RevokeOperatorResponse>, Status> {
        let caller = caller_of(&request);
        let request = request.into_inner();
        let is_own = caller.operator() == Some(request.name.as_str());
        Self::spare_self(&caller, &request.name, request.force, "revoking it")?;
        let command = RevokeOperator::try_from(request).map_err(status::convert)?;
        let answer = self.answer(&caller, command).await?;
        if is_own {
            caller.hears_the_outcome();
        }
        Ok(answer)
    }

    async fn list_audit(
        &self,
        request: Request<v1::ListAuditRequest>,
    ) -> Result<Response<v1::ListAuditResponse>, Status> {
        let asker = Asker::of(&request);
        let request = request.into_inner();
        let size = page_size(request.page_size)?;
        let entries = self.read_audit(Sort::Audit, &asker, request.from_sequence, size + 1);
        let mut entries = entries.await?;
        let taken = page(entries.iter().cloned(), size).0.len();
        let next = entries.get(taken).and_then(|entry| entry.record.as_ref());
        let next_sequence = next.map_or(0, |record| record.sequence);
        entries.truncate(taken);
        Ok(Response::new(v1::ListAuditResponse {
            entries,
            next_sequence,
            public_key: self.public_key.0.to_vec(),
            cluster_id: self.newest()?.snapshot.cluster.to_string(),
        }))
    }

    async fn watch_audit(
        &self,
        request: Request<v1::WatchAuditRequest>,
    ) -> Result<Response<Self::WatchAuditStream>, Status> {
        let permit = self.subscribe(&caller_of(&request))?;
        let asker = Asker::of(&request);
        let from = request.into_inner().from_sequence;
        // Subscribed first, so that no entry is missed while the disk is read.
        let live = self.audit.subscribe();
        let watcher = Watcher {
            services: self.clone(),
            asker,
            live,
            stopping: self.stopping.clone(),
            next: from,
            behind: from > 0,
            _permit: permit,
        };
        Ok(answers::stream(stream::unfold(Some(watcher), async |watcher| {
            let mut watcher = watcher?;
            match watcher.next().await {
                Ok(answer) => Some((Ok(answer), Some(watcher))),
                Err(status) => Some((Err(status), None)),
            }
        })))
    }

    async fn get_authorities(
        &self,
        _: Request<v1::GetAuthoritiesRequest>,
    ) -> Result<Response<v1::GetAuthoritiesResponse>, Status> {
        let ca = self.ca()?;
        let (authorities, step) = authorities(ca).await;
        let behind = self.nodes_behind(step).ok();
        Ok(Response::new(v1::GetAuthoritiesResponse {
            authorities,
            external: ca.is_external(),
            nodes_behind: behind.unwrap_or_default(),
            nodes_behind_unknown: behind.is_none(),
        }))
    }

    async fn rotate_authority(
        &self,
        request: Request<v1::RotateAuthorityRequest>,
    ) -> Result<Response<v1::RotateAuthorityResponse>, Status> {
        let caller = caller_of(&request);
        let request = request.into_inner();
        let ca = self.ca()?;
        let step = match request.step() {
            v1::RotationStep::Prepare => Step::Prepare,
            v1::RotationStep::Activate => Step::Activate,
            v1::RotationStep::Retire => Step::Retire,
            v1::RotationStep::Unspecified => return Err(status::bad_field("step", "not set")),
        };
        caller.about(format!("CA: {}", step.name()));
        if step != Step::Prepare && !request.force {
            self.nobody_is_cut_off(ca.step().await)?;
        }
        let recorded = caller.intend(String::new()).await?;
        // Recorded before: a name revoked from here on may have a certificate from the CA that signs next.
        if step == Step::Activate {
            self.note_step(&caller, AuthorityActivates).await?;
        }
        ca.rotate(recorded, step).await.map_err(|error| ca_failed(&error))?;
        // Recorded after: until then, certificates of the old CA are trusted. Without the record, names remain revoked
        // for longer.
        if step == Step::Retire
            && let Err(error) = self.note_step(&caller, AuthorityRetired).await
        {
            tracing::warn!(
                error = error.message(),
                "cannot record that the old CA was retired: names that were revoked before remain revoked"
            );
        }
        let (authorities, _) = authorities(ca).await;
        Ok(Response::new(v1::RotateAuthorityResponse { authorities }))
    }
}
