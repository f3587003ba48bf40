//! Frames of a control plane: whatever comes is a command or a typed refusal, and so is what a
//! bridge says to the hub.

use std::{fs, path::Path};

use bridge_proto::{
    ctrlnode::{decode, encode_refusal, plane},
    model::Source,
};

use crate::Target;

pub(crate) struct Decoder;

impl Target for Decoder {
    fn name(&self) -> &'static str {
        "decoder"
    }

    /// The golden frames, both ways.
    fn corpus(&self) -> Vec<Vec<u8>> {
        let wire = Path::new(env!("CARGO_MANIFEST_DIR")).join("wire");
        let mut frames = Vec::new();
        for direction in ["in", "out"] {
            let files = fs::read_dir(wire.join(direction)).expect("the golden frames are here");
            let mut files: Vec<_> = files.flatten().map(|file| file.path()).collect();
            files.sort();
            let read = files
                .iter()
                .map(|file| fs::read(file).expect("a golden frame"));
            frames.extend(read);
        }
        frames
    }

    fn words(&self) -> &'static [&'static [u8]] {
        &[
            b"null",
            b"true",
            b"[",
            b"]",
            b"{",
            b"}",
            b"\"",
            b",",
            b":",
            b"-1",
            b"1e999",
            b"18446744073709551616",
            b"\"\\ud800\"",
            b"\"\\u0000\"",
            b"\xFF",
            b"\xC0\xAF",
            b"\"../..\"",
            b"\"C:\\\\x\"",
            b"\"action\":",
            b"\"requestId\":",
            b"\"taskId\":",
            b"\"agentId\":\"dev\",",
            b"\"dispatch_task\"",
            b"\"git_operation\"",
            b"\"=\"",
        ]
    }

    fn read(&self, input: &[u8]) {
        for source in [Source::Plane, Source::Local] {
            if let Err(error) = decode(input, source)
                && let Some(answer) = encode_refusal(input, &error)
            {
                // It repeats ids as they came, usable or not.
                drop(plane::decode(answer.as_bytes()));
            }
        }
        // A frame of a bridge, or not.
        drop(plane::decode(input));
    }
}
