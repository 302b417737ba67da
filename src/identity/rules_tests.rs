use prost::Message as _;

use super::{Need, RULES, Role, rule};

/// Every rpc of the protocol, as the descriptor set has them.
fn rpcs() -> Vec<String> {
    let set = prost_types::FileDescriptorSet::decode(crate::FILE_DESCRIPTOR_SET).unwrap();
    let services = set.file.iter().flat_map(|file| {
        let package = file.package();
        file.service.iter().map(move |service| (package.to_owned(), service))
    });
    services
        .flat_map(|(package, service)| {
            let name = service.name().to_owned();
            let methods = service.method.iter();
            methods.map(move |method| format!("{package}.{name}/{}", method.name()))
        })
        .collect()
}

#[test]
fn every_rpc_has_a_row_and_every_row_of_ours_an_rpc() {
    let rpcs = rpcs();
    assert!(rpcs.len() > 30, "{}", rpcs.len());
    for rpc in &rpcs {
        assert!(rule(rpc).is_some(), "{rpc} has no row");
    }
    for rule in RULES.iter().filter(|rule| rule.rpc.starts_with("wyneos.")) {
        assert!(rpcs.iter().any(|rpc| rpc == rule.rpc), "{} is no rpc", rule.rpc);
    }
    assert!(
        RULES.is_sorted_by(|one, other| one.rpc < other.rpc),
        "looked up by halves"
    );
    assert_eq!(rule("wyneos.v1.ClusterService/Erase"), None);
}

#[test]
fn roles_of_people_include_the_lower_ones_and_no_others() {
    let people = [Role::Viewer, Role::Operator, Role::Admin];
    for (at, least) in people.into_iter().enumerate() {
        let need = Need::Person(least);
        for (rank, role) in people.into_iter().enumerate() {
            assert_eq!(need.is_met_by(Some(role)), rank >= at);
        }
        for other in [Some(Role::Agent), Some(Role::Coordinator), None] {
            assert!(!need.is_met_by(other), "{least:?} by {other:?}");
        }
    }
    for role in Role::ALL {
        assert_eq!(Need::Agent.is_met_by(Some(role)), role == Role::Agent);
        assert!(Need::Anybody.is_met_by(Some(role)));
    }
    assert!(Need::Holder.is_met_by(Some(Role::Viewer)) && Need::Holder.is_met_by(Some(Role::Agent)));
    assert!(!Need::Holder.is_met_by(Some(Role::Coordinator)) && !Need::Holder.is_met_by(None));
    assert!(Need::Anybody.is_met_by(None) && !Need::Agent.is_met_by(None));
}
