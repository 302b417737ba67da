//! `wynectl telemetry`: the matrix, and one node's history.

use std::collections::BTreeMap;

use wyneos::{client, v1};

use super::{PAGE, next_page, nothing};
use wyneos_core::text::Quoted;

use crate::{
    context::Context,
    exit::Exit,
    failure::Failure,
    text::{self, Table, clean},
};

/// The newest values of all nodes.
pub(crate) async fn matrix(context: &Context, only: Option<String>) -> Result<(), Failure> {
    let what = "list the telemetry";
    let mut client = client::telemetry(context.connect().await?);
    let request = v1::ListChannelsRequest {};
    let mut channels = context.call(what, client.list_channels(request)).await?.channels;
    if let Some(only) = &only {
        channels.retain(|channel| channel.name == *only);
        if channels.is_empty() {
            return Err(no_channel(only));
        }
    }
    let mut merged = v1::ListTelemetryResponse::default();
    let mut token = String::new();
    loop {
        let request = v1::ListTelemetryRequest {
            page_size: PAGE,
            page_token: token.clone(),
        };
        let mut page = context.call(what, client.list_telemetry(request)).await?;
        merged.rows.append(&mut page.rows);
        merged.read = page.read;
        if !next_page(what, &mut token, &mut page.next_page_token)? {
            break;
        }
    }
    if let Some(only) = &only {
        for row in &mut merged.rows {
            row.values.retain(|value| value.channel == *only);
        }
    }
    if merged.rows.is_empty() && !context.is_json() {
        nothing("nodes");
        return Ok(());
    }
    context.show(&merged, |merged| table(&channels, &merged.rows))
}

pub(super) fn no_channel(name: &str) -> Failure {
    Failure::new(
        Exit::NotFound,
        format!("list the telemetry: no channel is named {}", Quoted(name)),
    )
    .hint("`wynectl telemetry` shows every channel")
}

pub(super) fn table(channels: &[v1::Channel], rows: &[v1::TelemetryRow]) -> String {
    let names: Vec<String> = channels.iter().map(|channel| clean(&channel.name)).collect();
    let mut table = Table::new(["NODE"].into_iter().chain(names.iter().map(String::as_str)));
    for row in rows {
        let values: BTreeMap<&str, f32> = row.values.iter().map(|v| (v.channel.as_str(), v.value)).collect();
        let cells = channels.iter().map(|channel| match values.get(channel.name.as_str()) {
            Some(value) => text::value(*value, &channel.unit),
            None => "-".to_owned(),
        });
        table.row([clean(&row.name)].into_iter().chain(cells));
    }
    table.text(0)
}

/// One node's history.
pub(crate) async fn history(context: &Context, node: String, channel: Option<String>) -> Result<(), Failure> {
    let mut client = client::telemetry(context.connect().await?);
    let what = format!("get the telemetry of node {}", Quoted(&node));
    let samples = channel.is_some();
    let request = v1::GetNodeTelemetryRequest {
        node,
        channel: channel.unwrap_or_default(),
    };
    let answer = context.call(&what, client.get_node_telemetry(request)).await?;
    context.show(&answer, |answer| match samples {
        true => answer.series.iter().map(in_full).collect(),
        false => summaries(&answer.series),
    })
}

/// One line per channel.
pub(super) fn summaries(series: &[v1::Series]) -> String {
    let mut table = Table::new(["CHANNEL", "LAST", "MIN", "MEAN", "MAX", "SAMPLES", "FORECAST"]);
    for series in series {
        let channel = series.channel.clone().unwrap_or_default();
        let values = || series.samples.iter().map(|sample| sample.value);
        let show = |value: Option<f32>| value.map_or_else(|| "-".to_owned(), |value| text::value(value, &channel.unit));
        let mean = values().map(f64::from).sum::<f64>() / series.samples.len() as f64;
        table.row([
            clean(&channel.name),
            show(values().next_back()),
            show(values().reduce(f32::min)),
            show(values().next().map(|_| mean as f32)),
            show(values().reduce(f32::max)),
            series.samples.len().to_string(),
            series
                .forecast
                .as_ref()
                .map_or_else(|| "-".to_owned(), |forecast| expected(forecast, &channel.unit)),
        ]);
    }
    table.text(0)
}

/// A forecast in short form.
fn expected(forecast: &v1::Forecast, unit: &str) -> String {
    let mut words = format!(
        "{} in {} ({} to {})",
        text::value(forecast.value, unit),
        text::span_of(forecast.horizon.as_ref()),
        text::value(forecast.low, unit),
        text::value(forecast.high, unit)
    );
    if forecast.time_to_threshold.is_some() {
        words += &format!(", threshold in {}", text::span_of(forecast.time_to_threshold.as_ref()));
    }
    words
}

/// Every sample of a channel.
fn in_full(series: &v1::Series) -> String {
    let channel = series.channel.clone().unwrap_or_default();
    let mut view = format!("{}: {}\n", clean(&channel.name), clean(&channel.description));
    if let Some(forecast) = &series.forecast {
        view += &format!("expected: {}\n", expected(forecast, &channel.unit));
    }
    let mut table = Table::new(["CYCLE", "TIME", "VALUE"]);
    for sample in &series.samples {
        table.row([
            sample.cycle.to_string(),
            text::timestamp(sample.time.as_ref()),
            text::value(sample.value, &channel.unit),
        ]);
    }
    view + &table.text(0)
}
