//! The Predictive Engine: forecasts, and the predicted load of nodes.

use std::time::Duration;

use crate::{
    node::NodeIndex,
    predictive::{Foreseen, Predictor},
    telemetry::{Channel, Sample},
};

/// State of the Predictive Engine between cycles.
#[derive(Debug, Default)]
pub(crate) struct Predictive {
    predictor: Predictor,
    /// Predicted load of nodes in percent, by node index; 0 if unknown.
    outlooks: Vec<u8>,
}

impl Predictive {
    /// Copies the state for planning, which reads no measurements.
    pub(crate) fn to_plan_with(&self) -> Predictive {
        Predictive {
            predictor: Predictor::default(),
            outlooks: self.outlooks.clone(),
        }
    }

    /// Processes the sample of a cycle and returns its forecasts.
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

    /// Predicted load of a node in percent; 0 if unknown.
    pub(crate) fn outlook(&self, index: NodeIndex) -> u32 {
        self.outlooks.get(index.get()).copied().map_or(0, u32::from)
    }

    #[cfg(test)]
    pub(crate) fn outlooks(&self) -> &[u8] {
        &self.outlooks
    }

    /// Discards the prediction of a forgotten node.
    pub(crate) fn forget(&mut self, index: NodeIndex) {
        if let Some(outlook) = self.outlooks.get_mut(index.get()) {
            *outlook = 0;
        }
    }
}
