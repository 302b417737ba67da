use std::time::Duration;

use proptest::prelude::*;
use wyneos_core::{id::Uuid, predictive::Outlook};

use super::*;

fn forecast(node: u32, channel: Channel, seconds: u64) -> Forecast {
    Forecast {
        node: NodeIndex(node),
        channel,
        outlook: Outlook {
            value: 0.5,
            low: 0.4,
            high: 0.6,
            skill: 0.5,
            coverage: 0.8,
            measured: 100,
        },
        time_to_threshold: (seconds > 0).then(|| Duration::from_secs(seconds)),
    }
}

proptest! {
    #[test]
    fn forecasts_that_change_between_pages_are_told_once_each(
        nodes in 1u32..20,
        size in 1usize..10,
        times in prop::collection::vec(0u64..100, 400),
    ) {
        // Indices are not in the order of ids.
        let ids = (0..nodes).map(|node| (NodeIndex(node), Uuid([u8::try_from(255 - node).unwrap(); 16]))).collect();
        let (mut told, mut token, mut cycle) = (Vec::new(), String::new(), 0);
        loop {
            cycle += 1;
            // Each cycle has other times, in another order.
            let mut forecasts: Vec<Forecast> = Vec::new();
            for (at, (node, channel)) in (0..nodes).flat_map(|node| Channel::ALL.map(|channel| (node, channel))).enumerate() {
                forecasts.push(forecast(node, channel, times[(at + 7 * cycle) % times.len()]));
            }
            forecasts.sort_by_key(|one| one.time_to_threshold);
            let after: Option<Place> = page_token(&token).unwrap();
            let page: Vec<Place> = placed(&forecasts, &ids)
                .into_iter()
                .map(|(place, _)| place)
                .filter(|place| after.is_none_or(|after| *place > after))
                .take(size)
                .collect();
            let Some(Place(node, channel)) = page.last() else { break };
            token = format!("{node}/{}", channel.name());
            told.extend(page);
        }
        let all = usize::try_from(nodes).unwrap() * Channel::ALL.len();
        prop_assert_eq!(told.len(), all);
        prop_assert!(told.is_sorted_by(|one, next| one < next));
    }
}

#[test]
fn a_token_of_another_rpc_or_version_is_refused() {
    for token in ["7", "x/cpu.used", "00000000-0000-0000-0000-000000000001/none", "/"] {
        let refused = page_token::<Place>(token).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{token}");
    }
}
