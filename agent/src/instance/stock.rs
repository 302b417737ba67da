//! The instances that an agent finds when it starts: by directories, the list of begun instances, and live supervisors.

use std::{io, sync::Arc};

use tokio::sync::watch;
use wyneos_core::{
    agent::Found,
    time::WallTime,
    workload::{AssignmentId, Phase, Status},
};

use super::{
    conversation::{Wanted, attend},
    found::{Left, Look, look},
    held::Located,
    lost,
    manager::Instances,
    places::{Astray, Place, astray, places, supervisors},
};

/// The detail of an instance that was lost before this start.
const LOST: &str = "it was lost, and told of as ended, before its agent was started";

/// The way in which an instance was lost.
#[derive(Clone, Copy)]
enum LostBy {
    /// There is no directory with its name.
    Missing,
    /// There is a directory, without anything of the instance.
    Unrecognisable,
}

impl Instances {
    /// Finds all instances, and starts managing them. Nothing is touched before the coordinator has welcomed this
    /// agent.
    pub(super) fn take_stock(&mut self, now: WallTime) -> io::Result<Vec<Found>> {
        let supervisors = supervisors(&self.directory);
        let places = places(&self.directory)?;
        let mut astray = astray(&self.directory, self.begun.node());
        // Instances managed here are reported by their own supervisors.
        astray.retain(|id, _| !supervisors.contains_key(id) && !places.get(id).is_some_and(|place| place.held));
        let mut ids = self.begun.ids();
        ids.extend(supervisors.keys().chain(places.keys()).chain(astray.keys()));
        let mut found = Vec::new();
        for id in ids {
            if let Some(others) = astray.remove(&id) {
                found.push(self.find_astray(id, others, places.get(&id)));
                continue;
            }
            let is_held = supervisors.contains_key(&id) || places.get(&id).is_some_and(|place| place.held);
            if self.begun.is_buried(id) && !is_held {
                found.push(self.find_buried(id, now));
                continue;
            }
            let begun = self.begun.may_have(id) || supervisors.contains_key(&id);
            found.extend(match places.get(&id) {
                Some(place) if begun || place.held || place.own => self.find_one(id, place, begun, now),
                None if begun => Some(self.find_lost(id, LostBy::Missing)),
                place => {
                    let path = place.map(|place| place.located.name().display().to_string());
                    tracing::warn!(
                        path,
                        "this was never an instance of this node, or has ended long ago; it is left alone"
                    );
                    None
                }
            });
        }
        if !self.waiting.half_made.is_empty()
            && let Err(error) = self.begun.save()
        {
            tracing::warn!(%error, "instances that were never begun cannot be removed from the list of begun instances");
        }
        Ok(found)
    }

    fn find_one(&mut self, id: AssignmentId, place: &Place, begun: bool, now: WallTime) -> Option<Found> {
        let held = match place.located.enter() {
            Ok(held) => held,
            // It was moved at this moment.
            Err(_) if begun => return Some(self.find_lost(id, LostBy::Missing)),
            Err(_) => return None,
        };
        let Look {
            order,
            status,
            left,
            begun,
        } = look(&held, begun, now);
        let located = &place.located;
        let own = self.begun.node();
        let other = order.as_ref().and_then(|order| order.of).filter(|of| *of != own);
        if let Some(node) = other {
            tracing::error!(
                instance = %id, %node,
                "node-id was replaced: this instance was given to another node, and ends once the coordinator has welcomed this agent"
            );
        }
        match left {
            // The coordinator decides whether it is still wanted; it is then created and begun again.
            Left::HalfMade | Left::Unstarted if place.own && other.is_none() => {
                // First off the list: if the next agent finds its directory missing or incomplete, it was not begun
                // either.
                self.begun.remove(id);
                self.waiting.half_made.push(located.clone());
                return None;
            }
            // It was never begun, and will not be: a directory with another name is kept by someone.
            Left::HalfMade | Left::Unstarted => return None,
            Left::Lost => return Some(self.find_lost(id, LostBy::Unrecognisable)),
            // Whether this is final is known once a coordinator is present, or has been absent for long enough.
            Left::Ended
                if status.interrupted
                    && other.is_none()
                    && order.as_ref().is_some_and(|order| order.starts_alone().is_some()) =>
            {
                let attendance = self.attendance(id, order.as_ref(), located.clone(), begun);
                tokio::spawn(attend(attendance));
                let status = Status {
                    phase: Phase::Stopping,
                    ..status
                };
                let assigned = order.map(|order| Arc::new(order.assigned));
                return Some(Found {
                    id,
                    assigned,
                    status,
                    of_another: false,
                });
            }
            Left::Ended => {
                self.waiting.ended.insert(id.to_string());
                let (wanted, _) = watch::channel(Wanted::default());
                self.know(id, None, located.clone(), wanted);
            }
            Left::Attended => {
                let attendance = self.attendance(id, order.as_ref(), located.clone(), begun);
                tokio::spawn(attend(attendance));
            }
        }
        let assigned = order.map(|order| Arc::new(order.assigned));
        Some(Found {
            id,
            assigned,
            status,
            of_another: other.is_some(),
        })
    }

    /// An instance that was begun, without order and status: it is not begun again, and its remains are ended.
    fn find_lost(&mut self, id: AssignmentId, by: LostBy) -> Found {
        let nowhere = Located::nowhere(&self.directory, id);
        let name = nowhere.name().display();
        let what = match by {
            LostBy::Missing => format!("it was begun, and its directory is not there any more: {name}"),
            LostBy::Unrecognisable => format!("it was begun, and nothing in its directory says what it is: {name}"),
        };
        tracing::error!(instance = %id, "{what}; it is not begun again");
        let status = lost::ending(&what);
        let attendance = self.attendance(id, None, nowhere, true);
        tokio::spawn(lost::attend(attendance, what));
        Found {
            id,
            assigned: None,
            status,
            of_another: false,
        }
    }

    /// An instance that was lost to an earlier agent, which ended it: this is only reported again until the coordinator
    /// forgets it.
    fn find_buried(&mut self, id: AssignmentId, now: WallTime) -> Found {
        tracing::info!(instance = %id, "{LOST}");
        let (wanted, _) = watch::channel(Wanted::default());
        self.know(id, None, Located::nowhere(&self.directory, id), wanted);
        self.waiting.ended.insert(id.to_string());
        let status = Status {
            phase: Phase::Ended,
            since: now,
            unknown: true,
            detail: LOST.to_owned(),
            ..Status::default()
        };
        Found {
            id,
            assigned: None,
            status,
            of_another: false,
        }
    }

    /// An instance whose supervisors live and hold none of this agent's directories, of which one may be a copy of
    /// theirs: it has not ended, and is not this agent's to end.
    fn find_astray(&mut self, id: AssignmentId, others: Vec<Astray>, copy: Option<&Place>) -> Found {
        let is_copied = copy.is_some();
        let nowhere = || Located::nowhere(&self.directory, id);
        let located = copy.map_or_else(nowhere, |place| place.located.clone());
        let status = lost::astray(&others, is_copied);
        tracing::error!(instance = %id, "{}", status.detail);
        let attendance = self.attendance(id, None, located, true);
        tokio::spawn(lost::attend_astray(attendance, others, is_copied));
        Found {
            id,
            assigned: None,
            status,
            of_another: false,
        }
    }
}
