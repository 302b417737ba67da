//! Join tokens: creation and deletion.

use std::{sync::Arc, time::Duration};

use super::{Admissions, after, noted};
use crate::{
    access::{TOKENS, TOKENS_KEPT, TokenRecord, USES},
    command::{Command, CreateToken, DeleteToken, Limit, Refusal},
    ctx::Ctx,
    text::count,
};

impl Admissions {
    pub(crate) fn create_token(
        &mut self,
        ctx: &mut Ctx,
        token: TokenRecord,
        ttl: Duration,
        by: &str,
    ) -> Result<Box<TokenRecord>, Refusal> {
        let wall = ctx.wall_now();
        let expires = after(wall, ttl)?;
        if !(1..=USES).contains(&token.uses_left) {
            let reason = format!("{} is not between 1 and {USES}", token.uses_left);
            return Err(Refusal::Invalid { field: "uses", reason });
        }
        let lived = ctx.lived();
        let access = Arc::make_mut(&mut self.access);
        access.tokens.retain(|_, token| !token.is_over(wall, lived));
        let good = access.tokens.values().filter(|token| wall < token.expires).count();
        if good >= TOKENS || access.tokens.len() >= TOKENS_KEPT {
            let full = "there are 256 join tokens, the limit; delete some";
            return Err(Refusal::Overloaded(Limit::stands(full)));
        }
        let token = TokenRecord {
            created: wall,
            created_by: by.to_owned(),
            expires,
            lived,
            ..token
        };
        access.tokens.insert(token.id.clone(), token.clone());
        ctx.outbox.keep_access(&self.access);
        noted(
            ctx,
            CreateToken::VERB,
            format!("join token {}, {}", token.id, count(token.uses_left, "use")),
            by,
        );
        Ok(Box::new(token))
    }

    pub(crate) fn delete_token(&mut self, ctx: &mut Ctx, id: &str, by: &str) -> Result<Box<TokenRecord>, Refusal> {
        let removed = Arc::make_mut(&mut self.access).tokens.remove(id);
        let token = removed.ok_or_else(|| Refusal::Unknown {
            what: "join token",
            name: id.to_owned(),
        })?;
        ctx.outbox.keep_access(&self.access);
        noted(ctx, DeleteToken::VERB, format!("join token {id}"), by);
        Ok(Box::new(token))
    }
}
