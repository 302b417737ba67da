//! Telemetry and forecasts.

use wyneos_core::{
    coherence::{NodeRow, TelemetryOverview},
    id::NodeId,
    node::NodeIndex,
    predictive::{self, Forecast, HORIZON},
    telemetry::{Channel, Sample},
};

use super::time::duration;
use crate::v1;

/// Converts a channel of the catalogue.
pub fn channel(channel: Channel) -> v1::Channel {
    v1::Channel {
        name: channel.name().to_owned(),
        unit: channel.unit().to_string(),
        description: channel.description().to_owned(),
        threshold: channel.threshold(),
    }
}

/// Converts a node's values in a sample.
pub fn telemetry_row(row: &NodeRow, sample: Option<&Sample>) -> v1::TelemetryRow {
    let value = |channel: Channel| {
        let value = sample?.get(row.index, channel)?;
        Some(v1::ChannelValue {
            channel: channel.name().to_owned(),
            value,
        })
    };
    v1::TelemetryRow {
        node_id: row.record.id().to_string(),
        name: row.record.facts.name.clone(),
        values: Channel::ALL.into_iter().filter_map(value).collect(),
    }
}

/// Converts a forecast of the node `id`, made every `interval`.
pub fn forecast(forecast: &Forecast, id: NodeId, interval: std::time::Duration) -> v1::Forecast {
    let outlook = forecast.outlook;
    v1::Forecast {
        node_id: id.to_string(),
        channel: forecast.channel.name().to_owned(),
        horizon: Some(duration(interval * HORIZON as u32)),
        value: outlook.value,
        low: outlook.low,
        high: outlook.high,
        time_to_threshold: forecast.time_to_threshold.map(duration),
        skill: outlook.skill,
        coverage: outlook.coverage,
        measured: outlook.measured,
    }
}

/// Converts the summary of the Predictive Engine; `id` resolves node ids.
pub(super) fn predictive_overview(
    overview: &predictive::Overview,
    interval: std::time::Duration,
    id: impl Fn(NodeIndex) -> Option<NodeId>,
) -> v1::PredictiveOverview {
    let crossings = overview
        .crossings
        .iter()
        .filter_map(|crossing| Some(forecast(crossing, id(crossing.node)?, interval)));
    let channels = overview.channels.iter().map(|skill| v1::ChannelSkill {
        channel: skill.channel.name().to_owned(),
        median_skill: skill.median_skill,
        mean_coverage: skill.mean_coverage,
        published: skill.published,
    });
    v1::PredictiveOverview {
        published: overview.published,
        unskilled: overview.unskilled,
        warming: overview.warming,
        crossings: crossings.collect(),
        channels: channels.collect(),
    }
}

impl From<&TelemetryOverview> for v1::TelemetryOverview {
    fn from(overview: &TelemetryOverview) -> v1::TelemetryOverview {
        let statistics = overview.channels.iter().map(|statistics| v1::ChannelStatistics {
            channel: statistics.channel.name().to_owned(),
            count: statistics.count,
            min: statistics.min,
            mean: statistics.mean,
            p50: statistics.p50,
            p95: statistics.p95,
            max: statistics.max,
        });
        v1::TelemetryOverview {
            channels: statistics.collect(),
            history: overview.history,
            values_received: overview.values_received,
        }
    }
}
