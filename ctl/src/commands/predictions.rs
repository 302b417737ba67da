//! `wynectl predictions`: lists forecasts.

use std::collections::BTreeMap;

use wyneos::{client, v1};

use super::{Names, PAGE, next_page, nothing, sections};
use crate::{
    context::Context,
    failure::Failure,
    text::{self, Table, clean},
};

/// Lists the forecasts.
pub(crate) async fn run(context: &Context) -> Result<(), Failure> {
    let what = "list the forecasts";
    let channel = context.connect().await?;
    let mut client = client::telemetry(channel.clone());
    let mut merged = v1::ListForecastsResponse::default();
    let mut token = String::new();
    loop {
        let request = v1::ListForecastsRequest {
            page_size: PAGE,
            page_token: token.clone(),
        };
        let mut page = context.call(what, client.list_forecasts(request)).await?;
        merged.forecasts.append(&mut page.forecasts);
        (merged.overview, merged.read) = (page.overview, page.read);
        if !next_page(what, &mut token, &mut page.next_page_token)? {
            break;
        }
    }
    // Pages are sorted by node; the soonest threshold is shown first.
    let until = |one: &v1::Forecast| one.time_to_threshold.map(|until| (until.seconds, until.nanos));
    merged.forecasts.sort_by_key(|one| (until(one).is_none(), until(one)));
    if context.is_json() {
        return context.json(&merged);
    }
    if merged.forecasts.is_empty() {
        nothing("forecasts");
    } else {
        let request = v1::ListChannelsRequest {};
        let channels = context.call(what, client.list_channels(request)).await?.channels;
        let units = channels
            .into_iter()
            .map(|channel| (channel.name, channel.unit))
            .collect();
        let nodes = sections(context, channel, &[v1::Section::Nodes]).await?.snapshot;
        let names = Names::new(&nodes.unwrap_or_default().nodes);
        context.text(&table(&merged.forecasts, &names, &units))?;
    }
    if let Some(overview) = &merged.overview {
        text::stderr(&summary(overview));
    }
    Ok(())
}

/// The Predictive Engine in one line.
pub(super) fn summary(overview: &v1::PredictiveOverview) -> String {
    format!(
        "{} published, {} no better than persistence, {} with too little data",
        text::count(overview.published, "forecast"),
        overview.unskilled,
        overview.warming
    )
}

/// The forecasts, one line each; `units` by channel.
pub(super) fn table(forecasts: &[v1::Forecast], names: &Names, units: &BTreeMap<String, String>) -> String {
    let mut table = Table::new([
        "NODE",
        "CHANNEL",
        "THRESHOLD IN",
        "HORIZON",
        "VALUE",
        "LOW",
        "HIGH",
        "SKILL",
        "COVERAGE",
    ]);
    for forecast in forecasts {
        let unit = units.get(&forecast.channel).map_or("", String::as_str);
        table.row([
            names.of(&forecast.node_id),
            clean(&forecast.channel),
            text::span_of(forecast.time_to_threshold.as_ref()),
            text::span_of(forecast.horizon.as_ref()),
            text::value(forecast.value, unit),
            text::value(forecast.low, unit),
            text::value(forecast.high, unit),
            format!("{:.2}", forecast.skill),
            format!("{:.0}%", forecast.coverage * 100.0),
        ]);
    }
    table.text(0)
}
