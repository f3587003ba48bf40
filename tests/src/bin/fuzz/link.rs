//! Inputs to the link, in any order: it keeps its contract, and can be ended.

use bridge_transport::script;

use crate::Target;

pub(crate) struct Script;

impl Target for Script {
    fn name(&self) -> &'static str {
        "link"
    }

    fn corpus(&self) -> Vec<Vec<u8>> {
        script::examples()
    }

    fn words(&self) -> &'static [&'static [u8]] {
        script::WORDS
    }

    fn read(&self, input: &[u8]) {
        script::run(input);
    }
}
