use std::{collections::BTreeMap, time::Duration};

use wyneos::convert;
use wyneos_core::workload::{FixedPort, Interruption, Kind as CoreKind, Order, Probe, Protocol};

use super::parse;

const SMALLEST: &str = r#"
name = "web"
kind = "service"
replicas = 6
command = "/usr/bin/python3"
args = ["-m", "http.server", "${PORT_http}"]
ports = ["http"]
reschedule_delay = "0s"
"#;

#[test]
fn the_smallest_useful_file_is_enough() {
    let spec = convert::spec_in(parse(SMALLEST, false).unwrap().spec).unwrap();
    assert_eq!(spec.kind, CoreKind::Service { replicas: 6 });
    assert_eq!(spec.reschedule_delay, Some(Duration::ZERO));
    assert_eq!(spec.priority, 50);
    assert!(spec.update.rollback);
}

#[test]
fn every_field_is_read_and_json_says_the_same() {
    let text = include_str!("full.toml");
    let spec = convert::spec_in(parse(text, false).unwrap().spec).unwrap();
    assert_eq!(spec.resources.cpu_millis, 500);
    assert_eq!(spec.resources.memory_bytes, 256 << 20);
    assert_eq!((spec.limits.cpu_millis, spec.limits.pids), (2_000, 64));
    assert_eq!(
        spec.checks[0].probe,
        Probe::Http("http".to_owned(), "/health".to_owned())
    );
    assert_eq!(spec.stop.grace, Duration::from_secs(30));
    assert_eq!(spec.update.max_parallel, 2);
    assert_eq!(spec.update.order, Order::StopFirst);
    assert_eq!(spec.ports, ["http", "dns"]);
    let dns = FixedPort {
        port: 53,
        protocol: Protocol::Udp,
    };
    assert_eq!(spec.fixed_ports, BTreeMap::from([("dns".to_owned(), dns)]));
    assert_eq!(spec.offline_start, Some(Duration::from_secs(30)));
    let value: toml::Value = toml::from_str(text).unwrap();
    let json = serde_json::to_string(&value).unwrap();
    assert_eq!(convert::spec_in(parse(&json, true).unwrap().spec).unwrap(), spec);
    // The protocol's representation is read back unchanged.
    assert_eq!(
        convert::spec_in(convert::spec_out(&spec, convert::Values::Shown)),
        Ok(spec)
    );
}

#[test]
fn a_batch_says_how_many_run_at_once_and_what_an_interruption_is() {
    let text = "name = \"job\"\nkind = \"batch\"\nreplicas = 9\ncommand = \"/bin/true\"\n";
    let read = |more: &str| parse(&format!("{text}{more}"), false).unwrap().spec;
    let spec = convert::spec_in(read("parallelism = 3\non_interruption = \"fail\"\n")).unwrap();
    assert_eq!((spec.parallelism, spec.on_interruption), (3, Interruption::Fail));
    assert_eq!(
        convert::spec_in(convert::spec_out(&spec, convert::Values::Shown)),
        Ok(spec)
    );
    let spec = convert::spec_in(read("")).unwrap();
    assert_eq!((spec.parallelism, spec.on_interruption), (0, Interruption::Rerun));
    for (more, field) in [
        ("parallelism = 3", "parallelism"),
        ("on_interruption = \"rerun\"", "on_interruption"),
    ] {
        let error = parse(&format!("{SMALLEST}{more}\n"), false).unwrap_err();
        assert!(error.starts_with(field) && error.contains("batch"), "{error}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let wrong = |more: &str| parse(&format!("{SMALLEST}{more}"), false).unwrap_err();
    assert!(wrong("replica = 3").contains("replica"), "an unknown key");
    assert!(wrong("retries = 3").contains("retries"));
    assert!(wrong("[stop]\ngrace = \"soon\"").contains("not a duration"));
    assert!(wrong("[resources]\ncpu = \"many\"").contains("number of CPUs"));
    assert!(wrong("[resources]\nmemory = \"256MB\"").contains("number of bytes"));
    assert!(wrong("[[checks]]\ntcp = \"http\"\ngrpc = \"http\"").contains("checks[0]"));
    let port = |port: &str| SMALLEST.replace("[\"http\"]", &format!("[{port}]"));
    for (bad, named) in [
        ("{ name = \"dns\" }", "`port`"),
        ("{ name = \"dns\", port = 53, proto = \"udp\" }", "`proto`"),
        ("{ name = \"dns\", port = 53, protocol = \"UDP\" }", "`UDP`"),
        ("{ name = \"dns\", port = 65536 }", "65536"),
        ("53", "port = 53"),
    ] {
        let error = parse(&port(bad), false).unwrap_err();
        assert!(error.contains(named), "{bad}: {error}");
    }
    let daemon = SMALLEST.replace("service", "daemon");
    assert!(parse(&daemon, false).unwrap_err().contains("replicas"));
}

#[test]
fn what_is_wrong_with_an_environment_is_told_without_its_values() {
    let canary = "s3cret";
    let wrong = [
        format!("env = \"PASSWORD={canary}\""),
        format!("env = [\"PASSWORD={canary}\"]"),
        format!("[env]\nPASSWORD = {canary}"),
        format!("[env]\nPASSWORD = [\"{canary}\"]"),
        format!("[env]\nPASSWORD = \"{canary}"),
        format!("[env]\nPASSWORD = \"{canary}\"\nPASSWORD = \"{canary}\""),
        format!("[env]\nPASSWORD = \"{canary}\" {canary}"),
    ];
    for wrong in wrong {
        let told = parse(&format!("{SMALLEST}{wrong}"), false).unwrap_err();
        assert!(told.starts_with("line ") && !told.contains(canary), "{wrong}: {told}");
    }
    for wrong in [
        format!("\"PASSWORD={canary}\""),
        format!("{{\"PASSWORD\": [\"{canary}\"]}}"),
    ] {
        let text = format!("{{\"name\": \"web\", \"command\": \"/bin/web\", \"env\": {wrong}}}");
        let told = parse(&text, true).unwrap_err();
        assert!(told.contains("env") && !told.contains(canary), "{wrong}: {told}");
    }
}

#[test]
fn fuzz_files() {
    let seeds = [SMALLEST, include_str!("full.toml")].map(|text| text.as_bytes().to_vec());
    wyneos_fuzz::run("files of declarations", &seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let read = parse(&text, false).map(|declared| convert::spec_in(declared.spec));
        (
            read.map(|spec| spec.map(|_| ()).map_err(|error| error.field))
                .map_err(|_| ()),
            parse(&text, true).is_ok(),
        )
    });
}
