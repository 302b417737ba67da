//! The Telemetry Matrix: what nodes measured, cycle by cycle.

use std::sync::Arc;

use crate::{
    coherence::TelemetryOverview,
    ctx::Ctx,
    telemetry::{self, Matrix, Sample},
};

/// The matrix, and what its statistics are worked out in.
#[derive(Debug)]
pub(crate) struct Telemetry {
    matrix: Matrix,
    scratch: Vec<f32>,
}

impl Telemetry {
    /// No measurements; `history` samples are kept.
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

    /// The measurements, for what came of a node.
    pub(crate) fn matrix_mut(&mut self) -> &mut Matrix {
        &mut self.matrix
    }

    /// Takes a cycle's sample.
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
