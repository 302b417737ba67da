//! The Predictive Engine: forecasts, and the load that they make nodes expect.

use std::time::Duration;

use crate::{
    node::NodeIndex,
    predictive::{Foreseen, Predictor},
    telemetry::{Channel, Sample},
};

/// What the Predictive Engine keeps between cycles.
#[derive(Debug, Default)]
pub(crate) struct Predictive {
    predictor: Predictor,
    /// The load that nodes are expected to have, in hundredths, by place; 0 where that is not known.
    outlooks: Vec<u8>,
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
    pub(crate) fn cycle(&mut self, sample: &Sample, interval: Duration) -> Foreseen {
        let foreseen = self.predictor.cycle(sample, interval);
        self.outlooks.clear();
        self.outlooks.resize(sample.nodes(), 0);
        let percent = |value: f32| (value * 100.0).clamp(0.0, 100.0).round() as u8;
        let loads = foreseen.forecasts.iter();
        for forecast in loads.filter(|forecast| forecast.channel == Channel::CpuUsed) {
            if let Some(outlook) = self.outlooks.get_mut(forecast.node.get()) {
                *outlook = percent(forecast.outlook.value);
            }
        }
        foreseen
    }

    /// The load that a node is expected to have, in hundredths; 0 where that is not known.
    pub(crate) fn outlook(&self, index: NodeIndex) -> u32 {
        self.outlooks.get(index.get()).copied().map_or(0, u32::from)
    }

    #[cfg(test)]
    pub(crate) fn outlooks(&self) -> &[u8] {
        &self.outlooks
    }

    /// Forgets a node.
    pub(crate) fn forget(&mut self, index: NodeIndex) {
        if let Some(outlook) = self.outlooks.get_mut(index.get()) {
            *outlook = 0;
        }
    }
}
