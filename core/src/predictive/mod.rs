//! The Predictive Engine: streaming forecasts with intervals, time to threshold, measured skill.

mod series;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

pub use series::{COVERAGE, HORIZON, MEASURED_ENOUGH, Outlook, Series};

use crate::{
    node::NodeIndex,
    telemetry::{Channel, Sample},
};

/// Threshold crossings farther away than this are not told.
pub const FAR: Duration = Duration::from_secs(3600);

/// Crossings that the overview lists at most.
pub const CROSSINGS: usize = 100;

/// A published forecast: its skill is above zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// The node.
    pub node: NodeIndex,
    /// The channel.
    pub channel: Channel,
    /// Forecast and skill.
    pub outlook: Outlook,
    /// Time until the expected value reaches the channel's threshold, within [`FAR`].
    pub time_to_threshold: Option<Duration>,
}

/// How well a channel is forecast over all nodes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChannelSkill {
    /// The channel.
    pub channel: Channel,
    /// Median skill of the published forecasts.
    pub median_skill: Option<f32>,
    /// Mean coverage of the published forecasts' intervals.
    pub mean_coverage: Option<f32>,
    /// Published forecasts.
    pub published: u32,
}

/// What one cycle's forecasts come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overview {
    /// Series with skill above zero.
    pub published: u32,
    /// Series no better than persistence.
    pub unskilled: u32,
    /// Series with too little data.
    pub warming: u32,
    /// Soonest crossings, soonest first.
    pub crossings: Vec<Forecast>,
    /// Skill a channel.
    pub channels: Vec<ChannelSkill>,
}

/// A forecast a node and channel.
#[derive(Debug, Default)]
pub struct Predictor {
    series: Vec<Series>,
    /// Forecasts of the cycle before: room for as many is made at once.
    published: usize,
}

impl Predictor {
    /// Takes a cycle's sample, and tells the forecasts that are worth publishing, by node and channel, and their overview.
    /// `interval` is the time between two cycles.
    pub fn cycle(&mut self, sample: &Sample, interval: Duration) -> (Arc<Vec<Forecast>>, Overview) {
        if self.series.len() != sample.values().len() {
            self.series.resize(sample.values().len(), Series::default());
            if self.series.capacity() > 2 * self.series.len() {
                self.series.shrink_to_fit();
            }
        }
        let mut overview = Overview::default();
        let mut forecasts = Vec::with_capacity(self.published);
        for (at, (series, &value)) in self.series.iter_mut().zip(sample.values()).enumerate() {
            if value.is_nan() {
                series.reset();
                continue;
            }
            series.observe(value);
            let Some(outlook) = series.outlook() else {
                overview.warming += 1;
                continue;
            };
            if outlook.skill <= 0.0 {
                overview.unskilled += 1;
                continue;
            }
            let channel = Channel::ALL[at % Channel::COUNT];
            let time_to_threshold = time_to_threshold(series, channel, interval);
            let node = NodeIndex((at / Channel::COUNT) as u32);
            forecasts.push(Forecast {
                node,
                channel,
                outlook,
                time_to_threshold,
            });
        }
        overview.published = forecasts.len() as u32;
        overview.crossings = crossings(&forecasts);
        overview.channels = skills(&forecasts);
        self.published = forecasts.len();
        (Arc::new(forecasts), overview)
    }
}

fn time_to_threshold(series: &Series, channel: Channel, interval: Duration) -> Option<Duration> {
    let cycles = series.cycles_to(channel.threshold()?)?;
    let seconds = f64::from(cycles) * interval.as_secs_f64();
    (seconds <= FAR.as_secs_f64()).then(|| Duration::from_secs_f64(seconds))
}

fn crossings(forecasts: &[Forecast]) -> Vec<Forecast> {
    let mut crossings: Vec<Forecast> = forecasts
        .iter()
        .filter(|forecast| forecast.time_to_threshold.is_some())
        .copied()
        .collect();
    crossings.sort_by_key(|forecast| forecast.time_to_threshold);
    crossings.truncate(CROSSINGS);
    crossings
}

fn skills(forecasts: &[Forecast]) -> Vec<ChannelSkill> {
    let mut of_channel: [Vec<f32>; Channel::COUNT] = Default::default();
    let mut coverage = [0.0f64; Channel::COUNT];
    for forecast in forecasts {
        of_channel[forecast.channel.column()].push(forecast.outlook.skill);
        coverage[forecast.channel.column()] += f64::from(forecast.outlook.coverage);
    }
    let channels = Channel::ALL.into_iter().zip(of_channel.iter_mut());
    channels
        .map(|(channel, skills)| {
            let published = skills.len() as u32;
            let middle = skills.len() / 2;
            let median_skill = (published > 0).then(|| *skills.select_nth_unstable_by(middle, f32::total_cmp).1);
            let mean_coverage = (published > 0).then(|| (coverage[channel.column()] / f64::from(published)) as f32);
            ChannelSkill {
                channel,
                median_skill,
                mean_coverage,
                published,
            }
        })
        .collect()
}
