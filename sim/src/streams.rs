//! Transports between agents and coordinator: ordered and reliable while they stand, as TCP is.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use wyneos_core::{agent::Input, node::ConnId, time::Time};

use crate::{
    event::{StreamId, Way, What},
    net::SMALL,
    world::World,
};

/// What goes through a stream.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Bytes(Bytes),
    /// This side says no more.
    End,
}

/// The wait before something lost is sent again: Linux' minimum for RFC 6298.
const RESEND: Duration = Duration::from_millis(200);

/// So often it stays the same, as Linux does for connections of few packets that ask for it (TCP_THIN_LINEAR_TIMEOUTS); then it doubles.
const LINEAR: u32 = 6;

/// Messages that wait for one transport at most: what is sent before keep-alive gives it up.
const LANE_MAX: usize = 1_024;

/// What was lost so often in a row has waited for longer than keep-alive does; its pings wait behind it.
const BLOCKED: u32 = LINEAR + 6;

/// What was lost so often in a row over a link that is cut now has been tried for three seconds.
const CUT: u32 = LINEAR + 4;

/// HTTP/2 keep-alive: every so often, and given up after as long without an answer.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Item>,
    /// On its way; nothing arrives before what was sent before it.
    sent: VecDeque<Item>,
    /// Times that the first one was lost.
    lost: u32,
    /// A retry is under way.
    retrying: bool,
    /// When the newest of that arrives.
    last: Time,
}

/// A transport between an agent's process and the coordinator's.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) machine: usize,
    /// Of the agent's process.
    pub(crate) generation: u32,
    /// The agent's name for it.
    pub(crate) conn: ConnId,
    /// Of the coordinator's process.
    pub(crate) host_generation: u32,
    pub(crate) welcomed: bool,
    /// The newest seal that was sent.
    pub(crate) sealed: u64,
    up: Lane,
    down: Lane,
    unanswered: bool,
    /// The coordinator's process has let go of it.
    pub(crate) released: bool,
}

impl Stream {
    fn lane(&mut self, way: Way) -> &mut Lane {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }
}

impl World<'_> {
    /// The number of the coordinator's machine.
    pub(crate) fn hub(&self) -> usize {
        self.machines.len()
    }

    pub(crate) fn open_stream(&mut self, machine: usize, conn: ConnId) -> StreamId {
        self.opened += 1;
        let stream = Stream {
            machine,
            generation: self.machines[machine].generation,
            conn,
            host_generation: self.host.generation,
            welcomed: false,
            sealed: 0,
            up: Lane::default(),
            down: Lane::default(),
            unanswered: false,
            released: false,
        };
        self.streams.insert(self.opened, stream);
        self.later(KEEP_ALIVE, What::KeepAlive(self.opened));
        self.opened
    }

    pub(crate) fn stream_of(&self, machine: usize, conn: ConnId) -> Option<StreamId> {
        self.machines[machine].streams.get(&conn).copied()
    }

    pub(crate) fn push(&mut self, id: StreamId, way: Way, item: Item) {
        if let Some(stream) = self.streams.get_mut(&id) {
            let waiting = &mut stream.lane(way).waiting;
            waiting.push_back(item);
            let waiting = waiting.len();
            if waiting > LANE_MAX {
                self.fail(format!("{waiting} messages wait for one transport"));
            }
            self.pump(id, way, false);
        }
    }

    /// The machine of an agent is off: nothing that was lost is sent again.
    pub(crate) fn silence(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.up.waiting.clear();
        }
    }

    /// Sends what waits, in order; what is lost is sent again later, and what is behind it waits.
    pub(crate) fn pump(&mut self, id: StreamId, way: Way, retry: bool) {
        let hub = self.hub();
        loop {
            let Some(stream) = self.streams.get_mut(&id) else {
                return;
            };
            let (from, to) = match way {
                Way::Up => (stream.machine, hub),
                Way::Down => (hub, stream.machine),
            };
            let lane = stream.lane(way);
            if retry {
                lane.retrying = false;
            }
            if lane.retrying || lane.waiting.is_empty() {
                return;
            }
            let bytes = match lane.waiting.front() {
                Some(Item::Bytes(bytes)) => bytes.len(),
                Some(Item::End) | None => SMALL,
            };
            let packet = self.net.packet(&mut self.rng, from, to, bytes);
            let now = self.now;
            let Some(lane) = self.streams.get_mut(&id).map(|stream| stream.lane(way)) else {
                return;
            };
            match packet {
                Some(takes) => {
                    let Some(item) = lane.waiting.pop_front() else { return };
                    lane.lost = 0;
                    lane.last = lane.last.max(now + takes);
                    let at = lane.last;
                    lane.sent.push_back(item);
                    self.at(at, What::Arrive(id, way));
                }
                None => {
                    lane.retrying = true;
                    let wait = RESEND * 2u32.pow(lane.lost.saturating_sub(LINEAR).min(9));
                    lane.lost += 1;
                    self.later(wait, What::Pump(id, way));
                    return;
                }
            }
        }
    }

    /// True while something that this machine's agent sent has to be sent again.
    pub(crate) fn is_stuck(&self, machine: usize) -> bool {
        let streams = self.machines[machine].streams.values();
        let mut streams = streams.filter_map(|id| self.streams.get(id));
        streams.any(|stream| stream.up.retrying)
    }

    pub(crate) fn stands(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get(&id)
            && stream.generation == self.machines[stream.machine].generation
        {
            self.tell_agent(stream.machine, Input::Connected { conn: stream.conn });
        }
    }

    pub(crate) fn arrive(&mut self, id: StreamId, way: Way) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let (machine, generation, conn) = (stream.machine, stream.generation, stream.conn);
        let Some(item) = stream.lane(way).sent.pop_front() else {
            return;
        };
        match way {
            Way::Up if stream.host_generation == self.host.generation => self.coordinator_hears(id, item),
            Way::Down if generation == self.machines[machine].generation => self.agent_hears(machine, conn, item),
            // A process that is gone hears nothing.
            _ => {}
        }
    }

    pub(crate) fn keep_alive(&mut self, id: StreamId) {
        let hub = self.hub();
        let Some(stream) = self.streams.get(&id) else { return };
        let machine = stream.machine;
        let agent = &self.machines[machine];
        let agent_there =
            agent.runs() && agent.generation == stream.generation && agent.streams.get(&stream.conn) == Some(&id);
        let host_there = self.host.runs() && self.host.generation == stream.host_generation && !stream.released;
        if !agent_there && !host_there {
            self.streams.remove(&id);
            return;
        }
        // A process that stands still for a moment answers when it goes on.
        let stands_still = agent
            .still_since()
            .is_some_and(|since| self.now.since(since) >= KEEP_ALIVE);
        let answers = agent_there && host_there && !stands_still && !self.host.is_frozen();
        let is_cut = self.net.is_cut(machine, hub) || self.net.is_cut(hub, machine);
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        // A ping is sent again like everything else: a link that comes and goes lets it through.
        let lost = stream.up.lost.max(stream.down.lost);
        let blocked = lost >= if is_cut { CUT } else { BLOCKED };
        if answers && !blocked {
            stream.unanswered = false;
        } else if std::mem::replace(&mut stream.unanswered, true) {
            self.break_stream(id);
            return;
        }
        self.later(KEEP_ALIVE, What::KeepAlive(id));
    }

    /// Both ends, as far as they are there, learn that the transport is gone.
    fn break_stream(&mut self, id: StreamId) {
        let Some(stream) = self.streams.remove(&id) else { return };
        if stream.host_generation == self.host.generation {
            self.coordinator_loses(id, false);
        }
        if stream.generation == self.machines[stream.machine].generation {
            self.agent_loses(stream.machine, stream.conn, "keep-alive timed out");
        }
    }
}
