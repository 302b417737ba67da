//! The Telemetry Matrix: nodes' measurements per cycle.

use std::sync::Arc;

use crate::{
    coherence::TelemetryOverview,
    ctx::Ctx,
    telemetry::{self, Matrix, Sample},
};

/// The matrix and a scratch buffer for statistics.
#[derive(Debug)]
pub(crate) struct Telemetry {
    matrix: Matrix,
    scratch: Vec<f32>,
}

impl Telemetry {
    /// Creates an empty matrix that retains `history` samples.
    pub(crate) fn new(history: usize) -> Telemetry {
        Telemetry {
            matrix: Matrix::new(history),
            scratch: Vec::new(),
        }
    }

    /// The measurements.
    pub(crate) fn matrix(&self) -> &Matrix {
        &self.matrix
    }

    /// The measurements, mutable.
    pub(crate) fn matrix_mut(&mut self) -> &mut Matrix {
        &mut self.matrix
    }

    /// Takes the sample of a cycle and computes its statistics.
    pub(crate) fn sample(&mut self, ctx: &Ctx) -> (Arc<Sample>, TelemetryOverview) {
        let sample = self.matrix.sample(ctx.clock.cycle, ctx.wall_now());
        let channels = telemetry::statistics(&sample, &mut self.scratch);
        let overview = TelemetryOverview {
            channels,
            history: self.matrix.keep() as u32,
            values_received: self.matrix.received(),
        };
        (sample, overview)
    }
}
