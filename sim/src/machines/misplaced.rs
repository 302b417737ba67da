//! Removed or renamed directories of instances, and lost lists of started instances.
//!
//! A supervisor notices within three seconds that its instance cannot be found, and ends it. An agent started later
//! knows of the instance from its list or, without one, from the running supervisors; it cannot communicate with those.

use std::time::Duration;

use rand::RngExt;
use wyneos_core::{
    agent::Found,
    supervisor::Input,
    workload::{AssignmentId, Phase, Status},
};

use super::{Machines, instance::lost};
use crate::{
    event::{Step, What},
    scene::Scene,
};

/// Range of the time within which a supervisor notices: it checks once a second, three times.
const SOONEST: Duration = Duration::from_secs(2);
const LATEST: Duration = Duration::from_secs(3);

/// Time after which a newly started agent kills a supervisor that does not notice.
const PATIENCE: Duration = Duration::from_secs(30);

impl Machines {
    /// Removes the directories of all instances of a machine, and randomly the list of started instances.
    pub(crate) fn misplace(&mut self, scene: &mut Scene<'_>, node: usize) {
        let listless = scene.stage.rng.random_bool(0.5);
        let machine = &mut self.all[node];
        machine.listless |= listless;
        let generation = machine.generation;
        let mut met = Vec::new();
        for (id, instance) in &mut machine.instances {
            if instance.misplaced.is_none() {
                instance.misplaced = Some(generation);
                met.push(*id);
            }
        }
        for id in met {
            let notices = SOONEST + (LATEST - SOONEST).mul_f64(scene.stage.rng.random_range(0.0..1.0));
            let reason = "its directory was renamed or replaced".to_owned();
            let step = Step::Told(Input::Lost { reason });
            scene.stage.later(notices, What::Step(Box::new((node, id, step))));
        }
    }

    /// Returns what a new agent finds of an instance on its host, if anything.
    pub(crate) fn found_of(&mut self, scene: &mut Scene<'_>, node: usize, id: AssignmentId) -> Option<Found> {
        let machine = &self.all[node];
        let instance = machine.instances.get(&id)?;
        if instance.misplaced.is_none() {
            return Some(Found {
                id,
                assigned: Some(instance.assigned.clone()),
                status: instance.told.clone(),
                of_another: false,
            });
        }
        let lives = !instance.gone && instance.told.phase != Phase::Ended;
        if !lives && machine.listless {
            return None;
        }
        let ended = lost(&instance.told);
        let status = match lives {
            true => Status {
                phase: Phase::Stopping,
                unknown: false,
                ..ended
            },
            false => ended,
        };
        if lives {
            scene
                .stage
                .later(PATIENCE, What::Step(Box::new((node, id, Step::GivenUp))));
        }
        Some(Found {
            id,
            assigned: None,
            status,
            of_another: false,
        })
    }
}
