//! TelemetryService: the matrix and the forecasts.

use std::{collections::BTreeMap, str::FromStr};

use tonic::{Request, Response, Status};
use wyneos::{
    convert::{self, timestamp},
    v1::{self, telemetry_service_server::TelemetryService},
};
use wyneos_core::{
    coherence::{NodeRow, Snapshot},
    id::NodeId,
    node::NodeIndex,
    predictive::Forecast,
    telemetry::Channel,
    text::Quoted,
};

use super::{Services, page, page_size, page_token};
use crate::status;

fn series(snapshot: &Snapshot, row: &NodeRow, channel: Channel) -> v1::Series {
    let samples = snapshot.history.iter().filter_map(|sample| {
        let value = sample.get(row.index, channel)?;
        Some(v1::Sample {
            cycle: sample.cycle.0,
            time: Some(timestamp(sample.time)),
            value,
        })
    });
    let forecast = snapshot
        .forecasts
        .iter()
        .find(|forecast| (forecast.node, forecast.channel) == (row.index, channel));
    v1::Series {
        channel: Some(convert::channel(channel)),
        samples: samples.collect(),
        forecast: forecast.map(|forecast| convert::forecast(forecast, row.record.id(), snapshot.cycle_interval)),
    }
}

/// Position of a forecast in the list, which it keeps for as long as it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place(NodeId, Channel);

/// An invalid position.
#[derive(Debug)]
struct NoPlace;

impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Place, NoPlace> {
        let (node, channel) = text.split_once('/').ok_or(NoPlace)?;
        let channel = Channel::from_name(channel).ok_or(NoPlace)?;
        Ok(Place(node.parse().map_err(|_| NoPlace)?, channel))
    }
}

/// Forecasts of the present nodes, by position.
fn placed<'a>(forecasts: &'a [Forecast], ids: &BTreeMap<NodeIndex, NodeId>) -> Vec<(Place, &'a Forecast)> {
    let place = |one: &Forecast| Some(Place(*ids.get(&one.node)?, one.channel));
    let mut placed: Vec<_> = forecasts.iter().filter_map(|one| Some((place(one)?, one))).collect();
    placed.sort_unstable_by_key(|(place, _)| *place);
    placed
}

#[tonic::async_trait]
impl TelemetryService for Services {
    async fn list_channels(
        &self,
        _: Request<v1::ListChannelsRequest>,
    ) -> Result<Response<v1::ListChannelsResponse>, Status> {
        let channels = Channel::ALL.into_iter().map(convert::channel).collect();
        Ok(Response::new(v1::ListChannelsResponse { channels }))
    }

    async fn list_telemetry(
        &self,
        request: Request<v1::ListTelemetryRequest>,
    ) -> Result<Response<v1::ListTelemetryResponse>, Status> {
        let request = request.into_inner();
        let published = self.newest()?;
        let size = page_size(request.page_size)?;
        let after: Option<NodeId> = page_token(&request.page_token)?;
        let sample = published.snapshot.history.back();
        let nodes = &published.snapshot.nodes;
        let nodes = nodes
            .iter()
            .filter(|row| after.is_none_or(|after| row.record.id() > after));
        let (rows, more) = page(
            nodes.map(|row| convert::telemetry_row(row, sample.map(|sample| &**sample))),
            size,
        );
        let next_page_token = rows
            .last()
            .filter(|_| more)
            .map(|last| last.node_id.clone())
            .unwrap_or_default();
        Ok(Response::new(v1::ListTelemetryResponse {
            rows,
            next_page_token,
            read: Some(published.read_state()),
        }))
    }

    async fn get_node_telemetry(
        &self,
        request: Request<v1::GetNodeTelemetryRequest>,
    ) -> Result<Response<v1::GetNodeTelemetryResponse>, Status> {
        let request = request.into_inner();
        let (published, nodes) = self.present()?;
        let row = self.row(&nodes.rows, &request.node)?;
        let channels = match request.channel.as_str() {
            "" => Channel::ALL.to_vec(),
            name => {
                let unknown = || {
                    status::not_found(
                        "CHANNEL_UNKNOWN",
                        format!("no channel {}; ListChannels lists them", Quoted(name)),
                    )
                };
                vec![Channel::from_name(name).ok_or_else(unknown)?]
            }
        };
        Ok(Response::new(v1::GetNodeTelemetryResponse {
            node_id: row.record.id().to_string(),
            name: row.record.facts.name.clone(),
            series: channels
                .into_iter()
                .map(|channel| series(&published.snapshot, row, channel))
                .collect(),
            read: Some(published.read_state()),
        }))
    }

    async fn list_forecasts(
        &self,
        request: Request<v1::ListForecastsRequest>,
    ) -> Result<Response<v1::ListForecastsResponse>, Status> {
        let request = request.into_inner();
        let published = self.newest()?;
        let snapshot = &published.snapshot;
        let size = page_size(request.page_size)?;
        let after: Option<Place> = page_token(&request.page_token)?;
        let ids: BTreeMap<NodeIndex, NodeId> = snapshot.nodes.iter().map(|row| (row.index, row.record.id())).collect();
        let rest = placed(&snapshot.forecasts, &ids).into_iter();
        let rest = rest.filter(|(place, _)| after.is_none_or(|after| *place > after));
        let (page, more) = page(
            rest.map(|(Place(node, _), one)| convert::forecast(one, node, snapshot.cycle_interval)),
            size,
        );
        let last = page.last().filter(|_| more);
        Ok(Response::new(v1::ListForecastsResponse {
            next_page_token: last
                .map(|last| format!("{}/{}", last.node_id, last.channel))
                .unwrap_or_default(),
            forecasts: page,
            overview: convert::sections(snapshot).predictive,
            read: Some(published.read_state()),
        }))
    }
}

#[cfg(test)]
mod tests;
