//! Compiles proto/ without a protoc, and keeps its descriptor set for reflection.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const SERVICES: [&str; 10] = [
    "access",
    "agent",
    "cluster",
    "coherence",
    "decision",
    "enrollment",
    "event",
    "mesh",
    "telemetry",
    "workload",
];

/// Services with responses that the coordinator encodes once for every reader, and those responses: see `src/encoded.rs`.
const SERVED: [&str; 2] = ["agent", "coherence"];
const ENCODED: [&str; 3] = ["SessionResponse", "GetSnapshotResponse", "WatchSnapshotsResponse"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files: Vec<String> = SERVICES.iter().map(|name| format!("wyneos/v1/{name}.proto")).collect();
    let descriptors = protox::compile(&files, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("wyneos.v1.bin"), descriptors.encode_to_vec())?;

    let mut config = tonic_prost_build::Config::new();
    config
        .enable_type_names()
        // Its values are not to be printed: `src/convert/workload.rs` has its own.
        .skip_debug([".wyneos.v1.EnvironmentVariable"])
        .bytes([".wyneos.v1.Seal", ".wyneos.v1.ReadSnapshotsResponse.snapshot"]);
    tonic_prost_build::configure().compile_fds_with_config(descriptors.clone(), config)?;

    // Those services once more, for the server alone, with those responses as bytes.
    let served = out.join("served");
    fs::create_dir_all(&served)?;
    let mut only_served = descriptors;
    only_served.file.retain(|file| {
        SERVED
            .iter()
            .any(|name| file.name() == format!("wyneos/v1/{name}.proto"))
    });
    let mut service = tonic_prost_build::configure()
        .build_client(false)
        .out_dir(&served)
        .extern_path(".wyneos.v1", "crate::v1");
    for response in ENCODED {
        service = service.extern_path(format!(".wyneos.v1.{response}"), "crate::encoded::Encoded");
    }
    service.compile_fds(only_served)?;
    Ok(())
}
