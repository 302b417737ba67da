//! Operators: creation, revocation, and the effect of a CA replacement on their names.

use std::{sync::Arc, time::Duration};

use super::{Admissions, after, noted};
use crate::{
    access::{Access, NoRoom, OPERATORS, OperatorRecord},
    command::{Command, CreateOperator, Limit, Noted, Refusal, RevokeOperator},
    ctx::Ctx,
    text::Span,
};

impl Admissions {
    pub(crate) fn create_operator(
        &mut self,
        ctx: &mut Ctx,
        create: CreateOperator,
        by: &str,
    ) -> Result<Box<OperatorRecord>, Refusal> {
        let CreateOperator {
            name,
            role,
            credential,
            ttl,
        } = create;
        let (wall, lived) = (ctx.wall_now(), ctx.lived());
        let expires = after(wall, ttl)?;
        if self.access.operators.get(&name).is_some_and(|known| known.holds(wall)) {
            return Err(Refusal::Exists { what: "operator", name });
        }
        let operator = OperatorRecord {
            name: name.clone(),
            role,
            credential,
            created: wall,
            created_by: by.to_owned(),
            expires,
            lived,
            revoked: None,
            revoked_lived: None,
        };
        let mut access = Access::clone(&self.access);
        access.admit(operator.clone(), lived).map_err(refused)?;
        self.access = Arc::new(access);
        ctx.outbox.keep_access(&self.access);
        noted(ctx, CreateOperator::VERB, format!("{name}, {}", role.name()), by);
        Ok(Box::new(operator))
    }

    /// Revokes an operator, including one without a record, such as an admin created on the coordinator's host. A
    /// recorded operator can always be revoked; a name without a record is refused only at the limit of barred names
    /// ([`NAMES`](crate::access::NAMES)).
    pub(crate) fn revoke_operator(
        &mut self,
        ctx: &mut Ctx,
        name: String,
        by: &str,
    ) -> Result<Box<OperatorRecord>, Refusal> {
        let (wall, lived) = (ctx.wall_now(), ctx.lived());
        let mut access = Access::clone(&self.access);
        let operator = access.revoke(&name, wall, lived, by).map_err(refused)?;
        self.access = Arc::new(access);
        ctx.outbox.keep_access(&self.access);
        noted(ctx, RevokeOperator::VERB, name, by);
        Ok(Box::new(operator))
    }

    /// Records that the CA used for signing from now on is about to be activated.
    pub(crate) fn authority_activates(&mut self, ctx: &mut Ctx) -> Noted {
        let lived = ctx.lived();
        Arc::make_mut(&mut self.access).signs_from = Some(lived);
        ctx.outbox.keep_access(&self.access);
        Noted
    }

    /// Records that only the most recently activated CA is trusted: revocations of certificates issued before it are no
    /// longer needed.
    pub(crate) fn authority_retired(&mut self, ctx: &mut Ctx) -> Noted {
        let lived = ctx.lived();
        let access = Arc::make_mut(&mut self.access);
        access.trusted_from = access.signs_from;
        access.drop_free_names(lived);
        ctx.outbox.keep_access(&self.access);
        Noted
    }
}

/// Explains why an operator is neither created nor revoked, and how to make room.
fn refused(why: NoRoom) -> Refusal {
    let what = match why {
        NoRoom::Operators => format!(
            "there are {OPERATORS} operators whose credentials hold, the limit; revoke those that are not needed, which makes room at once"
        ),
        NoRoom::Names(free) => format!(
            "the names of earlier or revoked operators stay shut out for 366 days, and there are as many as there may be; operators on record \
             (`wynectl operator list`) can still be revoked, and created again once they do not hold. To make room, replace the CA (`wynectl \
             ca prepare`, `activate`, `retire`): that ends every certificate made before it, and frees the names of then. The first name is \
             free by itself in {}",
            Span(Duration::from_secs(free.as_secs()))
        ),
    };
    Refusal::Overloaded(Limit::stands(what))
}
