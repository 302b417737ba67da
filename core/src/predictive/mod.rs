//! The Predictive Engine: streaming forecasts with prediction intervals, time to threshold, and measured skill.

mod series;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

pub use series::{COVERAGE, HORIZON, MEASURED_ENOUGH, Outlook};
use series::{Made, States};

use crate::{
    node::NodeIndex,
    recycled::Recycled,
    telemetry::{Channel, Sample},
};

/// Maximum distance of threshold crossings that are reported.
pub const FAR: Duration = Duration::from_secs(3600);

/// Maximum number of crossings in the overview.
pub const CROSSINGS: usize = 100;

/// A published forecast; its skill is above zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// The node.
    pub node: NodeIndex,
    /// The channel.
    pub channel: Channel,
    /// The forecast and its skill.
    pub outlook: Outlook,
    /// Time until the predicted value reaches the channel's threshold, within [`FAR`].
    pub time_to_threshold: Option<Duration>,
}

/// Forecast quality of a channel over all nodes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChannelSkill {
    /// The channel.
    pub channel: Channel,
    /// Median skill of the published forecasts.
    pub median_skill: Option<f32>,
    /// Mean coverage of the published forecasts' intervals.
    pub mean_coverage: Option<f32>,
    /// Number of published forecasts.
    pub published: u32,
}

/// Summary of one cycle's forecasts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overview {
    /// Number of series with skill above zero.
    pub published: u32,
    /// Number of series no better than persistence.
    pub unskilled: u32,
    /// Number of series with too little data.
    pub warming: u32,
    /// The soonest crossings, soonest first.
    pub crossings: Vec<Forecast>,
    /// Skill per channel.
    pub channels: Vec<ChannelSkill>,
}

/// Forecasts derived from a cycle's sample.
#[derive(Clone, Debug, Default)]
pub struct Foreseen {
    /// Published forecasts, by node and channel.
    pub forecasts: Arc<Vec<Forecast>>,
    /// Forecasts that reach their threshold within [`FAR`], soonest first.
    pub crossing: Vec<Forecast>,
    /// Summary of the forecasts.
    pub overview: Overview,
}

/// Forecasts of every channel of every node.
#[derive(Debug, Default)]
pub struct Predictor {
    /// States by place of the node.
    states: Vec<States<{ Channel::COUNT }>>,
    /// Forecasts of the last cycles: one list per cycle, so that each cycle iterates over a single list.
    made: [Vec<Made<{ Channel::COUNT }>>; HORIZON],
    /// Index of the list from [`HORIZON`] cycles ago.
    slot: usize,
    forecasts: Recycled<Forecast>,
}

impl Predictor {
    /// Adjusts the lists to this number of nodes.
    fn resize(&mut self, nodes: usize) {
        if self.states.len() == nodes {
            return;
        }
        let is_most = |room: usize| room > 2 * nodes;
        self.states.resize(nodes, States::default());
        if is_most(self.states.capacity()) {
            self.states.shrink_to_fit();
        }
        for made in &mut self.made {
            made.resize(nodes, Made::default());
            if is_most(made.capacity()) {
                made.shrink_to_fit();
            }
        }
    }

    /// Processes a cycle's sample; `interval` is the time between cycles.
    pub fn cycle(&mut self, sample: &Sample, interval: Duration) -> Foreseen {
        let (values, _) = sample.values().as_chunks::<{ Channel::COUNT }>();
        self.resize(values.len());
        let mut overview = Overview::default();
        let mut forecasts = self.forecasts.take();
        let mut crossing = Vec::new();
        let series = self.states.iter_mut().zip(&mut self.made[self.slot]).zip(values);
        for (node, ((states, made), values)) in (0u32..).map(NodeIndex).zip(series) {
            states.observe(made, values);
            let outlooks = states.outlooks();
            overview.warming += outlooks.warming.count_ones();
            overview.unskilled += states.seen() - (outlooks.warming | outlooks.skilled).count_ones();
            let mut skilled = outlooks.skilled;
            while skilled != 0 {
                let at = skilled.trailing_zeros() as usize;
                skilled &= skilled - 1;
                let channel = Channel::ALL[at];
                let time_to_threshold = time_to_threshold(states, channel, interval);
                let forecast = Forecast {
                    node,
                    channel,
                    outlook: outlooks.get(at),
                    time_to_threshold,
                };
                forecasts.push(forecast);
                if time_to_threshold.is_some() {
                    crossing.push(forecast);
                }
            }
        }
        self.slot = (self.slot + 1) % HORIZON;
        crossing.sort_by_key(|forecast| forecast.time_to_threshold);
        overview.published = forecasts.len() as u32;
        overview.crossings = crossing.iter().take(CROSSINGS).copied().collect();
        overview.channels = skills(&forecasts);
        Foreseen {
            forecasts: self.forecasts.share(forecasts),
            crossing,
            overview,
        }
    }
}

fn time_to_threshold(states: &States<{ Channel::COUNT }>, channel: Channel, interval: Duration) -> Option<Duration> {
    let cycles = states.cycles_to(channel.column(), channel.threshold()?)?;
    let seconds = f64::from(cycles) * interval.as_secs_f64();
    (seconds <= FAR.as_secs_f64()).then(|| Duration::from_secs_f64(seconds))
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
