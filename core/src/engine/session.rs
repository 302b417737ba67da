//! Sessions: hello, heartbeats, goodbye and termination.

use std::{sync::Arc, time::Duration};

use super::{Coordinator, Effect, Heartbeat, Message, RefusalReason, Refused, Welcome};
use crate::{
    access::Identity,
    autonomy::{Ending, Evidence, Fact, Source},
    ctx::{
        outbox::Then,
        repeats::{Repeating, Told},
    },
    event::EventBody,
    id::{Cycle, Epoch, ProcessId, SessionNo},
    integrity::ZERO_DIGEST,
    node::{Admission, Cause, Claim, ConnId, Hello, Liveness, Node, NodeIndex, NodeRecord, Origin, Session},
    systems::{admission, guardian::vitals},
    text::{SENTENCE, shortened},
    transit::Transit,
};

/// Retry delay of an agent that was refused because of a limit.
const OVERLOADED_RETRY: Duration = Duration::from_secs(5);

/// Time that a connected process has to prove that it is alive when another process claims its node, and the retry
/// delay of the claimant once both were heard.
const CLAIM: Duration = Duration::from_secs(1);
const CLAIM_AGAIN: Duration = Duration::from_secs(10);

fn refused(reason: RefusalReason, detail: impl AsRef<str>, retry_after: Option<Duration>) -> Refused {
    Refused {
        reason,
        detail: shortened(detail.as_ref(), SENTENCE),
        retry_after,
    }
}

impl Coordinator {
    pub(super) fn hello(&mut self, conn: ConnId, hello: Hello, origin: Origin) {
        let refusal = self.admit(conn, &hello, &origin);
        let reason = refusal.as_ref().map(|refusal| refusal.reason);
        if let (None | Some(RefusalReason::Overloaded), Some(index)) = (reason, self.ctx.registry.find(hello.facts.id))
        {
            // The node is alive, whether it can be welcomed now or not.
            let node = &self.ctx.registry[index];
            if let (true, Some(heard)) = (node.record.incarnation == hello.incarnation, node.last_seen) {
                self.guardian.note_gap(&mut self.ctx, index, heard);
            }
            self.ctx.hear(index);
        }
        if let Some(refusal) = refusal {
            self.ctx.refuse(conn, refusal);
            return;
        }
        let index = self.register(&hello);
        if !hello.last_failure.is_empty() {
            self.ended_over(index, &hello.last_failure);
        }
        self.recognise(index, origin.proven, hello.machine, &origin.address);
        if let Some(old) = self.ctx.registry[index].session.take() {
            self.ctx.registry.detach(old.conn);
            let detail = "a newer session of this node took its place";
            self.ctx
                .refuse(old.conn, refused(RefusalReason::Replaced, detail, None));
        }
        self.sessions += 1;
        let number = SessionNo(self.ctx.term.epoch.number(self.sessions));
        self.ctx.registry.attach(conn, index);
        let interval = self.ctx.heartbeat_interval(index);
        let lease = self.ctx.lease(index);
        let node = &mut self.ctx.registry[index];
        let record = Arc::make_mut(&mut node.record);
        let mut facts = hello.facts;
        let is_elsewhere = |identity: Identity| identity.machine != ZERO_DIGEST && identity.machine != hello.machine;
        if record.identity.is_some_and(is_elsewhere) {
            // A copy of the node's disk on another machine must not change the node's name before an operator has
            // admitted it there.
            facts.name.clone_from(&record.facts.name);
        }
        record.facts = Arc::new(facts);
        (record.incarnation, record.process) = (hello.incarnation, hello.process_id);
        record.session = number;
        record.gone = Duration::ZERO;
        record.lease = record.lease.max(lease);
        node.session = Some(Session {
            conn,
            number,
            attempt: hello.attempt,
            process_id: hello.process_id,
            machine: hello.machine,
            address: origin.address.into(),
            channels: hello.channels.into(),
            welcomed: false,
            sequence: 0,
            heartbeats: 0,
            acknowledged: (Epoch(0), Cycle(0)),
            clock_skew_millis: 0,
            load: 0.0,
            interval,
            transit: Transit::default(),
        });
        self.ctx.keep(index);
        self.ctx.outbox.then(Then::Welcome(conn, index));
    }

    /// Reason to refuse a hello, if any.
    fn admit(&mut self, conn: ConnId, hello: &Hello, origin: &Origin) -> Option<Refused> {
        if self.ctx.registry.of_conn(conn).is_some() {
            return Some(refused(
                RefusalReason::Invalid,
                "hello: sent twice in one session",
                None,
            ));
        }
        // Identity is checked first: the remaining refusals count as a sign of life of the node.
        if let Some(refusal) = self.unproven(hello, origin) {
            return Some(refusal);
        }
        if self.ctx.stopping || self.ctx.outbox.is_behind() {
            let detail = if self.ctx.stopping {
                "the coordinator is shutting down"
            } else {
                "the store is behind"
            };
            return Some(refused(RefusalReason::Overloaded, detail, Some(OVERLOADED_RETRY)));
        }
        let Some(index) = self.ctx.registry.find(hello.facts.id) else {
            let full = admission::no_room(&self.ctx)?;
            return Some(refused(RefusalReason::Overloaded, full, Some(OVERLOADED_RETRY)));
        };
        let node = &self.ctx.registry[index];
        let known = (
            node.record.incarnation,
            node.session.as_ref().map(|session| session.attempt),
        );
        let stale = hello.incarnation < known.0 || (hello.incarnation == known.0 && Some(hello.attempt) <= known.1);
        if stale {
            self.stale_hellos += 1;
            let detail = format!(
                "incarnation {} attempt {} is not newer than the known incarnation {}: this agent is old, or its disk was \
                 copied or restored; to go on with this disk, write a higher number into its incarnation file",
                hello.incarnation, hello.attempt, known.0
            );
            return Some(refused(RefusalReason::Stale, detail, None));
        }
        let disputed = self.dispute(index, hello, &origin.address);
        disputed.or_else(|| self.counted_twice(index, hello))
    }

    /// Refuses a process whose incarnation was already used by another process of its node. The incarnation file was
    /// removed or restored, and the node's record of started instances may be affected as well.
    fn counted_twice(&mut self, index: NodeIndex, hello: &Hello) -> Option<Refused> {
        let record = &self.ctx.registry[index].record;
        let unknown = ProcessId::default();
        let known = record.process != unknown && hello.process_id != unknown;
        if hello.incarnation != record.incarnation || record.process == hello.process_id || !known {
            return None;
        }
        self.stale_hellos += 1;
        let detail = format!(
            "incarnation {} was that of another process of this node: its incarnation file was removed, or its disk was copied or restored; put \
             its data_dir back, or write a higher number into its incarnation file to go on with this one",
            hello.incarnation
        );
        Some(refused(RefusalReason::Stale, detail, None))
    }

    /// Reason why a hello fails authentication, or is revoked, if any.
    fn unproven(&self, hello: &Hello, origin: &Origin) -> Option<Refused> {
        let known = self
            .ctx
            .registry
            .find(hello.facts.id)
            .map(|index| &self.ctx.registry[index].record);
        let key = origin.proven.as_ref().map(|(_, key)| key);
        let revoked = known.is_some_and(|record| record.admission == Admission::Revoked);
        if revoked || known.is_none() && self.admissions.is_barred(hello.facts.id, key) {
            return Some(refused(RefusalReason::Revoked, "this node was revoked", None));
        }
        let (node, key) = origin.proven?;
        if node != hello.facts.id {
            let detail = format!("hello.node_id: the certificate is that of node {node}");
            return Some(refused(RefusalReason::Invalid, detail, None));
        }
        if hello.process_id == ProcessId::default() {
            let detail = "hello.instance: missing; with TLS two processes of one identity must be told apart";
            return Some(refused(RefusalReason::Invalid, detail, None));
        }
        let known_by = known.and_then(|record| record.identity).map(|identity| identity.key);
        if known_by.is_some_and(|known| known != key) {
            let detail = "this node is known by another key: it joined anew since";
            return Some(refused(RefusalReason::Revoked, detail, None));
        }
        None
    }

    /// Refuses a process that claims a node whose session belongs to another process, until that process was asked
    /// whether it is alive. If both are alive, neither replaces the other, and an event informs the operator.
    fn dispute(&mut self, index: NodeIndex, hello: &Hello, from: &str) -> Option<Refused> {
        let now = self.ctx.clock.now;
        let node = &mut self.ctx.registry[index];
        let session = node.session.as_ref().filter(|session| session.welcomed);
        let unknown = ProcessId::default();
        let Some(session) = session.filter(|session| {
            session.process_id != hello.process_id && session.process_id != unknown && hello.process_id != unknown
        }) else {
            node.claim = None;
            return None;
        };
        let (conn, address) = (session.conn, Arc::clone(&session.address));
        let heard = node.last_seen;
        let claim = node.claim.as_mut().filter(|claim| claim.process_id == hello.process_id);
        let Some(claim) = claim else {
            node.claim = Some(Claim {
                process_id: hello.process_id,
                since: now,
                told: false,
            });
            self.ctx.send(conn, Message::Ping { number: 0 });
            let detail = format!("another process with this identity has a session, from {address}: it is being asked");
            return Some(refused(RefusalReason::Disputed, detail, Some(CLAIM)));
        };
        if now.since(claim.since) < CLAIM {
            let detail = "another process with this identity is being asked whether it is still there";
            return Some(refused(RefusalReason::Disputed, detail, Some(CLAIM)));
        }
        if heard.is_none_or(|heard| heard <= claim.since) {
            node.claim = None;
            return None;
        }
        let told = std::mem::replace(&mut claim.told, true);
        claim.since = now;
        let detail = format!(
            "two processes with one identity are alive at once, one at {address} and one at {from}: a copied disk; stop one of \
             them, and let it join as a node of its own"
        );
        if !told {
            self.impostor(index, detail.clone());
        }
        self.ctx.send(conn, Message::Ping { number: 0 });
        Some(refused(RefusalReason::Disputed, detail, Some(CLAIM_AGAIN)))
    }

    fn register(&mut self, hello: &Hello) -> NodeIndex {
        let (now, wall) = (self.ctx.clock.now, self.ctx.wall_now());
        let index = self.ctx.registry.add(hello.facts.id, || {
            let record = NodeRecord {
                incarnation: hello.incarnation,
                ..NodeRecord::new(Arc::new(hello.facts.clone()))
            };
            Node::new(Arc::new(record), wall, now)
        });
        self.telemetry.matrix_mut().add(index);
        index
    }

    /// Opens the session once the changes of its hello are durable, unless it ended meanwhile.
    pub(super) fn welcome(&mut self, conn: ConnId, index: NodeIndex) {
        let now = self.ctx.clock.now;
        let node = &mut self.ctx.registry[index];
        let Some(session) = node.session.as_mut().filter(|session| session.conn == conn) else {
            return;
        };
        session.welcomed = true;
        let (number, incarnation, anew) = (session.number, node.record.incarnation, session.attempt == 0);
        (node.last_seen, node.asked, node.pinged, node.said) = (Some(now), None, None, now);
        // A healthy agent sends no health report, so the previous one is reset.
        node.health = Default::default();
        let admission = node.record.admission;
        let fact = Fact::Opened {
            session: number,
            incarnation,
        };
        self.guardian.begin(index);
        let transition = self.guardian.heard_again(&mut self.ctx, index, anew, fact);
        self.conclude(transition);
        let welcome = Welcome {
            cluster: self.ctx.term.cluster,
            epoch: self.ctx.term.epoch,
            session: number,
            cycle_interval: self.ctx.config.cycle,
            heartbeat_interval: self.ctx.heartbeat_interval(index),
            probe_plan: self.guardian.probe_plan(&self.ctx, index),
            admission,
            lease: match admission {
                Admission::Admitted => self.ctx.lease(index),
                _ => Duration::ZERO,
            },
            next_assignment: self.work.next_assignment(&self.ctx),
            notes_sightings: true,
        };
        self.ctx.send(conn, Message::Welcome(Box::new(welcome)));
        for id in self.behaviour.undelivered(index) {
            self.behaviour.redeliver(&mut self.ctx, id);
        }
    }

    pub(super) fn heartbeat(&mut self, conn: ConnId, heartbeat: Heartbeat) {
        let Some(index) = self.ctx.registry.of_conn(conn) else {
            self.no_session(conn, "heartbeat");
            return;
        };
        let (now, wall) = (self.ctx.clock.now, self.ctx.clock.wall.at(self.ctx.clock.now));
        let node = self.ctx.registry.heard(index);
        let Some(session) = &mut node.session else { return };
        let problem = if !session.welcomed {
            Some("heartbeat: sent before the welcome".to_owned())
        } else if heartbeat.sequence <= session.sequence {
            Some(format!(
                "heartbeat.sequence: {} is not above {}",
                heartbeat.sequence, session.sequence
            ))
        } else if heartbeat.values.len() != session.channels.len() {
            let (got, want) = (heartbeat.values.len(), session.channels.len());
            Some(format!(
                "heartbeat.values: {got} values for the {want} channels of the hello"
            ))
        } else {
            None
        };
        if let Some(problem) = problem {
            self.invalid(conn, problem);
            return;
        }
        session.sequence = heartbeat.sequence;
        session.heartbeats += 1;
        session.acknowledged = session.acknowledged.max(heartbeat.acknowledged);
        // An agent whose clock is unset, or that does not report it, has no measurable skew.
        if heartbeat.wall.0 > 0 {
            session.clock_skew_millis = heartbeat.wall.0.saturating_sub(wall.0);
        }
        session.load = heartbeat.load;
        let is_shown_otherwise = (session.load * 100.0 - node.shown_load as f32).abs() >= 1.0;
        let sent_at = session.transit.sent_at(now, heartbeat.sent_millis);
        node.said = node.said.max(sent_at);
        node.coordinate = heartbeat.coordinate.or(node.coordinate);
        let heard_before = node.last_seen.replace(now);
        node.asked = None;
        let answers = heartbeat.answers;
        self.telemetry
            .matrix_mut()
            .record(index, &session.channels, &heartbeat.values, &heartbeat.absent);
        if is_shown_otherwise {
            self.ctx.registry.show(index);
        }
        for (subject, report) in &heartbeat.links {
            self.guardian.reports(&mut self.ctx, index, *subject, report);
        }
        for subject in self.guardian.answered(&mut self.ctx, index, answers) {
            let transition = self.guardian.judge(&mut self.ctx, subject);
            self.conclude(transition);
        }
        let gap = heard_before.map(|at| now.since(at));
        self.guardian
            .note_gap(&mut self.ctx, index, heard_before.unwrap_or(now));
        if self.ctx.registry[index].liveness() != Liveness::Online {
            if gap.is_none_or(|gap| gap > self.ctx.silence_limit(index)) {
                self.ctx.registry[index].steady_since = None;
            }
            let fact = Fact::Heartbeat {
                sequence: heartbeat.sequence,
            };
            let transition = self.guardian.heard_again(&mut self.ctx, index, false, fact);
            self.conclude(transition);
        }
    }

    pub(super) fn goodbye(&mut self, conn: ConnId, reason: &str) {
        let Some(index) = self.ctx.registry.detach(conn) else {
            self.no_session(conn, "goodbye");
            return;
        };
        self.ctx.registry[index].session = None;
        self.work.end_dialogue(index);
        self.ctx.outbox.push(Effect::Close { conn });
        if !self.ctx.stopping {
            let fact = Fact::Goodbye(reason.to_owned());
            let evidence = vec![Evidence::new(self.ctx.wall_now(), Source::Session, fact)];
            self.transition(index, Liveness::Left, Cause::Goodbye, evidence);
        }
    }

    pub(super) fn closed(&mut self, conn: ConnId, by_peer: bool) {
        let Some(index) = self.ctx.registry.detach(conn) else {
            return;
        };
        if by_peer {
            // A host closes the connections of a process when it ends, so the process was alive until now.
            self.ctx.registry[index].last_seen = Some(self.ctx.clock.now);
        }
        let ending = if by_peer { Ending::ByHost } else { Ending::Silent };
        self.end_session(index, ending);
    }

    /// Ends a session without a goodbye.
    fn end_session(&mut self, index: NodeIndex, ending: Ending) {
        let last_heard = self.guardian.last_heard(&self.ctx, index);
        let over = self.guardian.over_before(&self.ctx, index, Some(&ending));
        let was = self.ctx.registry[index].session.take();
        self.work.end_dialogue(index);
        self.ctx.registry[index].steady_since = None;
        self.ctx.show_instances(index);
        // An unseen node was also alive recently: it had sent a hello.
        let suspicious = matches!(self.ctx.registry[index].liveness(), Liveness::Online | Liveness::Unseen);
        if suspicious && !self.ctx.stopping && was.is_some() {
            let ended = Evidence::new(self.ctx.wall_now(), Source::Session, Fact::SessionEnded(ending));
            let mut evidence = vec![last_heard, ended];
            evidence.extend(over);
            self.transition(index, Liveness::Suspect, Cause::SessionEnded, evidence);
        }
    }

    pub(super) fn invalid(&mut self, conn: ConnId, detail: String) {
        self.over_content(
            conn,
            RefusalReason::Invalid,
            "its agent sent something invalid",
            &detail,
        );
    }

    /// Handles a message of an agent that cannot be decoded.
    pub(super) fn unreadable(&mut self, conn: ConnId, detail: &str) {
        let what = "its agent sent a message that cannot be read here";
        self.over_content(conn, RefusalReason::Unreadable, what, detail);
    }

    /// Ends a session because of invalid content.
    fn over_content(&mut self, conn: ConnId, reason: RefusalReason, what: &str, detail: &str) {
        let index = self.ctx.registry.detach(conn);
        let fact = shortened(&format!("{what}: {detail}"), SENTENCE);
        self.ctx.refuse(conn, refused(reason, detail, None));
        if let Some(index) = index {
            self.ended_over(index, &fact);
            self.end_session(index, Ending::Content(fact));
        }
    }

    /// Records that a session ended because of its content: on first occurrence and when the cause changes.
    fn ended_over(&mut self, index: NodeIndex, fact: &str) {
        let now = self.ctx.clock.now;
        let before = self.ctx.registry[index].unreadable.replace((fact.to_owned(), now));
        if before.is_some_and(|(told, at)| told == fact && now.since(at) < vitals::CONTENT_AGAIN) {
            return;
        }
        let told = Told {
            node: Some(index),
            what: format!(
                "{}: its session ended over its content",
                self.ctx.registry[index].name()
            ),
            detail: fact.to_owned(),
            body: EventBody::Session {
                detail: fact.to_owned(),
            },
        };
        self.ctx.record_repeating(Repeating::Session(index), 1, told);
    }

    /// Refuses a transport that sent a message without a session. The driver already dropped transports whose session
    /// is over, so only those that never sent a hello receive this.
    pub(super) fn no_session(&mut self, conn: ConnId, what: &str) {
        let detail = format!("{what}: sent before the hello");
        self.ctx.refuse(conn, refused(RefusalReason::Invalid, detail, None));
    }

    /// Ends the session of a node that was given up, so that an agent that resumes later opens a new one.
    pub(super) fn drop_session(&mut self, index: NodeIndex) {
        if let Some(session) = self.ctx.registry[index].session.take() {
            self.ctx.registry.detach(session.conn);
            self.work.end_dialogue(index);
            let detail = "nothing was heard for too long";
            self.ctx
                .refuse(session.conn, refused(RefusalReason::Timeout, detail, None));
        }
    }
}
