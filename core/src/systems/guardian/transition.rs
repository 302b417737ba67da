//! Liveness transitions and their effects within the mesh. The verdicts themselves are derived in `verdict.rs`.

use std::{sync::Arc, time::Duration};

use super::{Guardian, Transition};
use crate::{
    autonomy::{Evidence, Fact, Source},
    ctx::Ctx,
    ctx::alarm::Timer,
    event::EventBody,
    id::DecisionId,
    node::{Cause, Liveness, NodeIndex},
    registry::FLAPS,
};

/// Period for which a return counts as recent.
const LATELY: Duration = Duration::from_secs(300);

/// Maximum number of returns that extend the wait for a steady node: 4 s become 256 s.
const RETURNS: u32 = 3;

impl Guardian {
    /// Suspects a node that has not returned within the restart grace period.
    #[must_use]
    pub(crate) fn give_up_unseen(&mut self, ctx: &mut Ctx, index: NodeIndex) -> Option<Transition> {
        let grace = ctx.config.restart_grace;
        let evidence = vec![
            self.last_heard(ctx, index),
            Evidence::new(ctx.wall_now(), Source::Session, Fact::NotBack { grace }),
        ];
        // The observations of its peers decide whether it is gone.
        self.transition(ctx, index, Liveness::Suspect, Cause::UnseenSinceRestart, evidence)
    }

    /// Handles a sign of life of a node that is not online. It becomes online immediately if nothing contradicts that
    /// (`anew`: its agent was restarted), otherwise once it has been heard for long enough.
    #[must_use]
    pub(crate) fn heard_again(
        &mut self,
        ctx: &mut Ctx,
        index: NodeIndex,
        anew: bool,
        fact: Fact,
    ) -> Option<Transition> {
        let now = ctx.clock.now;
        let returns = self.returns_lately(ctx, index);
        let (steady, wait) = (ctx.config.rules.steady, self.steady_wait(ctx, index));
        let evidence = vec![Evidence::new(ctx.wall_now(), Source::Session, fact)];
        let node = &mut ctx.registry[index];
        let steady_since = *node.steady_since.get_or_insert(now);
        if steady_since == now {
            ctx.show_instances(index);
        }
        let node = &mut ctx.registry[index];
        let at_once = match node.liveness() {
            Liveness::Online => return None,
            Liveness::Unseen | Liveness::Left => true,
            Liveness::Offline => returns == 0,
            Liveness::Suspect | Liveness::Unreachable => anew && returns == 0,
        };
        if at_once {
            self.transition(ctx, index, Liveness::Online, Cause::Heartbeat, evidence)
        } else if node.liveness() == Liveness::Offline {
            self.quarantine(ctx, index, wait, evidence)
        } else if now.since(steady_since) >= wait {
            let tally = self.tally(ctx, index);
            match self.is_missed(ctx, index, &tally) {
                true => None,
                false => self.transition(ctx, index, Liveness::Online, Cause::Heartbeat, evidence),
            }
        } else if returns > 0 && now.since(steady_since) >= steady {
            self.quarantine(ctx, index, wait, evidence)
        } else {
            None
        }
    }

    /// Keeps a recently returned node `suspect` until it has been heard for `wait`. For a node that was not offline
    /// this is applied only after a few seconds of being heard, so that a flapping link causes no further transitions.
    #[must_use]
    fn quarantine(
        &mut self,
        ctx: &mut Ctx,
        index: NodeIndex,
        wait: Duration,
        mut evidence: Vec<Evidence>,
    ) -> Option<Transition> {
        let node = &mut ctx.registry[index];
        if node.cause() == Cause::Flapping && node.liveness() == Liveness::Suspect {
            return None;
        }
        let fact = Fact::Returns {
            within: LATELY,
            times: node.returns.0,
            steady: wait,
        };
        evidence.push(Evidence::new(ctx.wall_now(), Source::Session, fact));
        if ctx.registry[index].liveness() != Liveness::Suspect {
            return self.transition(ctx, index, Liveness::Suspect, Cause::Flapping, evidence);
        }
        // The node remains in doubt for a different reason.
        let now = ctx.clock.now;
        ctx.registry[index].set_cause(&self.key, Cause::Flapping, now);
        Some(Transition {
            node: index,
            from: Liveness::Suspect,
            to: Liveness::Suspect,
            evidence,
            event: None,
        })
    }

    /// Number of recent returns of a node, at most [`RETURNS`].
    fn returns_lately(&self, ctx: &Ctx, index: NodeIndex) -> u32 {
        let (returns, last) = ctx.registry[index].returns;
        if ctx.clock.now.since(last) < LATELY { returns } else { 0 }
    }

    /// Time for which a node in doubt must be heard without interruption to become online.
    fn steady_wait(&self, ctx: &Ctx, index: NodeIndex) -> Duration {
        ctx.config.rules.steady * 4u32.pow(self.returns_lately(ctx, index))
    }

    /// Whether a node returned often, or has been quarantined for longer than if it had stayed.
    pub(crate) fn flaps(&self, ctx: &Ctx, index: NodeIndex) -> bool {
        let node = &ctx.registry[index];
        let in_quarantine = node.liveness() == Liveness::Suspect && node.cause() == Cause::Flapping;
        let outstays = || ctx.clock.now.since(node.since()) > self.steady_wait(ctx, index) + ctx.silence_limit(index);
        self.returns_lately(ctx, index) >= FLAPS || (in_quarantine && outstays())
    }

    /// Re-evaluates a node's liveness after a period of silence.
    #[must_use]
    pub(crate) fn look_at(&mut self, ctx: &mut Ctx, index: NodeIndex, token: u64) -> Option<Transition> {
        let node = &ctx.registry[index];
        if node.timer != token {
            return None;
        }
        match node.liveness() {
            Liveness::Online => self.look_at_online(ctx, index),
            Liveness::Suspect | Liveness::Unreachable => self.judge(ctx, index),
            Liveness::Unseen | Liveness::Offline | Liveness::Left => None,
        }
    }

    pub(crate) fn look_later(&mut self, ctx: &mut Ctx, index: NodeIndex, at: crate::time::Time) {
        let node = ctx.registry.heard(index);
        node.timer += 1;
        ctx.timers.set(at, Timer::Liveness(index, node.timer));
    }

    /// Awaits a node that was revoked and is admitted again. Returns false if it was not revoked.
    pub(crate) fn awaits(&self, ctx: &mut Ctx, index: NodeIndex) -> bool {
        let wall = ctx.wall_now();
        let node = &mut ctx.registry[index];
        if (node.liveness(), node.cause()) != (Liveness::Left, Cause::Revoked) {
            return false;
        }
        let since = node.since();
        node.set_cause(&self.key, Cause::Awaited, since);
        Arc::make_mut(&mut node.record).departed = Some((Liveness::Left, Cause::Awaited, wall));
        ctx.keep(index);
        true
    }

    /// Sets a node's liveness to `to` and records it; liveness changes nowhere else. Returns `None` if it is `to`
    /// already. The engine applies the consequences to other systems.
    #[must_use]
    pub(crate) fn transition(
        &mut self,
        ctx: &mut Ctx,
        index: NodeIndex,
        to: Liveness,
        cause: Cause,
        evidence: Vec<Evidence>,
    ) -> Option<Transition> {
        let wall = ctx.wall_now();
        let now = ctx.clock.now;
        let node = &mut ctx.registry[index];
        let known_before = node.liveness() != Liveness::Unseen;
        let from = node.liveness();
        if from == to {
            return None;
        }
        let came_back =
            to == Liveness::Online && matches!(from, Liveness::Suspect | Liveness::Unreachable | Liveness::Offline);
        if came_back {
            let returns = self.returns_lately(ctx, index);
            ctx.registry[index].returns = ((returns + 1).min(RETURNS), now);
        }
        let node = &mut ctx.registry[index];
        if to == Liveness::Online || from == Liveness::Online {
            node.steady_since = None;
        }
        node.set_life(&self.key, to, cause, wall, now);
        ctx.concluded(index);
        let node = &mut ctx.registry[index];
        let departed = matches!(to, Liveness::Offline | Liveness::Left).then_some((to, cause, wall));
        if node.record.departed != departed {
            let record = Arc::make_mut(&mut node.record);
            (record.departed, record.departed_by) = (departed, None);
            ctx.keep(index);
        }
        let name = ctx.registry[index].name().to_owned();
        let summary = format!("{name} {}: {}", to.predicate(), cause.meaning());
        let event = ctx.record(
            Some(index),
            summary,
            EventBody::Liveness {
                from: known_before.then_some(from),
                to,
                cause,
            },
        );
        Some(Transition {
            node: index,
            from,
            to,
            evidence,
            event: Some(event),
        })
    }

    /// Records the decision by which a node departed in the node's record.
    pub(crate) fn decided(&mut self, ctx: &mut Ctx, transition: &Transition, decision: DecisionId) {
        let node = &mut ctx.registry[transition.node];
        if node.record.departed.is_some() {
            Arc::make_mut(&mut node.record).departed_by = Some(decision);
            ctx.keep(transition.node);
        }
    }

    /// Schedules the next evaluation of a node after a transition.
    pub(crate) fn follow(&mut self, ctx: &mut Ctx, transition: &Transition) {
        let index = transition.node;
        let at = match transition.to {
            Liveness::Online => ctx.clock.now + ctx.silence_limit(index),
            // The evidence may already suffice for the next verdict.
            Liveness::Suspect | Liveness::Unreachable => ctx.clock.now,
            _ => return,
        };
        self.look_later(ctx, index, at);
    }

    /// Applies a transition to the mesh: observations of departed nodes are discarded, and the probe plan is
    /// recomputed.
    pub(crate) fn follow_in_mesh(&mut self, ctx: &mut Ctx, transition: &Transition) {
        let Transition { node, from, to, .. } = *transition;
        if to == Liveness::Offline {
            self.fallen.push((ctx.clock.now, node));
        }
        let in_mesh = |liveness| !matches!(liveness, Liveness::Offline | Liveness::Left);
        if in_mesh(from) && !in_mesh(to) {
            self.mesh.silence(node);
        } else {
            self.mesh.mute(node, to != Liveness::Online);
        }
        if in_mesh(from) != in_mesh(to) || to == Liveness::Online {
            self.plan_soon(ctx);
        }
    }
}
