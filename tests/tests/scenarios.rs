//! The scenarios of this folder, played one after the other.

#![cfg(unix)]

use std::path::PathBuf;

use bridge_testkit::scenario;

#[tokio::test]
async fn every_scenario_plays_to_its_end() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files = scenario::files(&[folder]).unwrap();
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        scenario::play(&file)
            .await
            .unwrap_or_else(|failure| panic!("{failure}"));
    }
}
