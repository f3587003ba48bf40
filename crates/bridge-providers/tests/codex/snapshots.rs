//! What a person sees of every recording, as text files. `UPDATE_SNAPSHOTS=1` writes them anew;
//! read the difference before it is kept.

use std::{collections::BTreeSet, env, fs, path::PathBuf};

use crate::{recording::names, replay::replay};

#[test]
fn every_recording_is_told_as_it_was() {
    let folder = folder();
    let update = env::var_os("UPDATE_SNAPSHOTS").is_some();
    if update {
        fs::create_dir_all(&folder).unwrap();
    }
    let all = names("");
    assert!(all.len() >= 50, "{} recordings", all.len());
    let mut different = Vec::new();
    for name in &all {
        let file = folder.join(format!("{name}.txt"));
        let told = replay(name).summary();
        if update {
            fs::write(&file, told).unwrap();
        } else if fs::read_to_string(&file).unwrap_or_default() != told {
            different.push(format!("--- {name}\n{told}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    let kept: BTreeSet<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(
        kept,
        all.into_iter().collect(),
        "a snapshot without its recording"
    );
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/codex")
}
