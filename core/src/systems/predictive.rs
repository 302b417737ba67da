//! The Predictive Engine: forecasts, and the load that they make nodes expect.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    node::NodeIndex,
    predictive::{Forecast, Overview, Predictor},
    telemetry::{Channel, Sample},
};

/// What the Predictive Engine keeps between cycles.
#[derive(Debug, Default)]
pub(crate) struct Predictive {
    predictor: Predictor,
    /// The load that nodes are expected to have, in hundredths.
    outlooks: BTreeMap<NodeIndex, u32>,
}

impl Predictive {
    /// A copy for plans, which look at no measurements.
    pub(crate) fn to_plan_with(&self) -> Predictive {
        Predictive {
            predictor: Predictor::default(),
            outlooks: self.outlooks.clone(),
        }
    }

    /// Takes in a cycle's sample; the forecasts of it.
    pub(crate) fn cycle(&mut self, sample: &Sample, interval: Duration) -> (Arc<Vec<Forecast>>, Overview) {
        let (forecasts, overview) = self.predictor.cycle(sample, interval);
        let loads = forecasts.iter().filter(|forecast| forecast.channel == Channel::CpuUsed);
        let percent = |value: f32| (value * 100.0).clamp(0.0, 100.0).round() as u32;
        self.outlooks = loads
            .map(|forecast| (forecast.node, percent(forecast.outlook.value)))
            .collect();
        (forecasts, overview)
    }

    /// The load that a node is expected to have, in hundredths; 0 where that is not known.
    pub(crate) fn outlook(&self, index: NodeIndex) -> u32 {
        self.outlooks.get(&index).copied().unwrap_or(0)
    }

    #[cfg(test)]
    pub(crate) fn outlooks(&self) -> &BTreeMap<NodeIndex, u32> {
        &self.outlooks
    }

    /// Forgets a node.
    pub(crate) fn forget(&mut self, index: NodeIndex) {
        self.outlooks.remove(&index);
    }
}
