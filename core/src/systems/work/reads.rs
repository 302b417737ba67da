//! Reading of instance logs: readers' requests and agents' answers.

use std::time::Duration;

use super::Work;
use crate::{
    command::{Answer, Limit, ReadLog, Refusal},
    ctx::Ctx,
    ctx::alarm::Timer,
    effect::{Effect, RequestId},
    node::NodeIndex,
    protocol::Message,
    text::Quoted,
    workload::log,
};

/// Maximum number of pending log reads, and their timeout.
const READS: usize = 256;
const READ_PATIENCE: Duration = Duration::from_secs(10);

impl Work {
    /// Requests a part of an instance's log from its agent.
    pub(crate) fn read_log(&mut self, ctx: &mut Ctx, request: RequestId, wanted: &ReadLog) -> Result<(), Refusal> {
        let view = self.table.view();
        let row = view.assignment(&wanted.assignment).ok_or_else(|| Refusal::Unknown {
            what: "assignment",
            name: wanted.assignment.clone(),
        })?;
        let id = row.record.id;
        let index = ctx.registry.find(row.record.node);
        let session = index.and_then(|index| {
            let session = ctx.registry[index].live_session()?;
            Some((index, session.conn))
        });
        let Some((index, conn)) = session else {
            let node = index.map_or(row.record.node.to_string(), |index| {
                ctx.registry[index].name().to_owned()
            });
            return Err(Refusal::NoSession(node));
        };
        if self.dialogues.reads.len() >= READS {
            return Err(Refusal::Overloaded(Limit::passes("too many logs are being read")));
        }
        self.dialogues.numbers += 1;
        let number = self.dialogues.numbers;
        self.dialogues.reads.insert(number, (request, index, ctx.clock.now));
        ctx.timers.set(ctx.clock.now + READ_PATIENCE, Timer::Read(number));
        let wanted = log::Request {
            number,
            id,
            stream: wanted.stream,
            from: wanted.from,
            within: wanted.within,
        };
        ctx.send(conn, Message::ReadLog(wanted));
        Ok(())
    }

    /// Times out a pending log read.
    pub(crate) fn give_up_reading(&mut self, ctx: &mut Ctx, number: u64) {
        if let Some((request, index, _)) = self.dialogues.reads.remove(&number) {
            let node = ctx.registry[index].name();
            let answer = Err(Refusal::Log(format!(
                "node {} does not answer: try again",
                Quoted(node)
            )));
            ctx.outbox.push(Effect::Reply { request, answer });
        }
    }

    /// Handles an agent's answer to a log read.
    pub(crate) fn log_read(&mut self, ctx: &mut Ctx, index: NodeIndex, chunk: log::Chunk) {
        let asked = self.dialogues.reads.get(&chunk.number);
        if asked.is_none_or(|(_, of, _)| *of != index) {
            return;
        }
        let Some((request, ..)) = self.dialogues.reads.remove(&chunk.number) else {
            return;
        };
        let answer = match chunk.error.is_empty() || chunk.none_before {
            true => Ok(Answer::ReadLog(chunk)),
            false => Err(Refusal::Log(chunk.error)),
        };
        ctx.outbox.push(Effect::Reply { request, answer });
    }
}
