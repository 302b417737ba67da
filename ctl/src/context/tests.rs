use wyneos::v1;

use super::json;

#[test]
fn json_is_the_protobuf_mapping() {
    let message = v1::GetClusterResponse {
        cluster_id: "a\u{1b}\u{9b}b".to_owned(),
        started: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
        cycle_interval: Some(prost_types::Duration {
            seconds: 1,
            nanos: 500_000_000,
        }),
        liveness: vec![v1::LivenessCount {
            liveness: v1::Liveness::Online.into(),
            nodes: 0,
        }],
        ..v1::GetClusterResponse::default()
    };
    let text = json(&message, false).unwrap();
    assert!(!text.contains('\n') && !text.contains('\u{9b}'), "{text}");
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["clusterId"], "a\u{1b}\u{9b}b");
    assert_eq!(value["started"], "1970-01-01T00:00:01Z");
    assert_eq!(value["cycleInterval"], "1.500s");
    assert_eq!(value["liveness"][0]["liveness"], "LIVENESS_ONLINE");
    assert_eq!(value["liveness"][0]["nodes"], 0);
}
