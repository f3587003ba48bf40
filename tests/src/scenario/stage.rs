//! What is running while a scenario plays.

use std::collections::BTreeMap;

use super::script::{Other, Start};
use crate::{
    fake_plane::{FakePlane, Manners},
    home::{Home, Running},
};

/// The stage; what is on it ends when it is dropped.
pub(super) struct Stage {
    pub(super) home: Home,
    /// `None` with a real hub.
    pub(super) plane: Option<FakePlane>,
    pub(super) other: Other,
    pub(super) bridge: Option<Running>,
    pub(super) background: Vec<Running>,
    pub(super) env: BTreeMap<String, String>,
    /// What earlier steps kept, and the folders by name.
    pub(super) kept: BTreeMap<String, String>,
    /// How much of the plane's log was expected already.
    pub(super) looked: usize,
}

impl Stage {
    pub(super) async fn set(start: &Start, other: Other) -> Self {
        let home = Home::new();
        let plane = match other {
            Other::Plain | Other::Extended => Some(FakePlane::start(manners(other)).await),
            Other::Hub => None,
        };
        let kept = BTreeMap::from([
            ("WORK".to_owned(), home.workspace().display().to_string()),
            ("HOME".to_owned(), home.path().display().to_string()),
        ]);
        let mut stage = Self {
            home,
            plane,
            other,
            bridge: None,
            background: Vec::new(),
            env: start.env.clone(),
            kept,
            looked: 0,
        };
        stage.start();
        stage
    }

    /// Starts the bridge, with its hub where the scenario has one.
    pub(super) fn start(&mut self) {
        let work = self.home.workspace();
        let mut command = if let Some(plane) = &self.plane {
            let mut command = self.home.ctrlnode(&["bridge", "start"]);
            command.env("PAIRING_TOKEN", "test-token");
            command.env("SAAS_URL", plane.url());
            command.env("BASE_PATH", &work).env("RECONNECT_MS", "100");
            command
        } else {
            let work = work.display().to_string();
            let args = ["up", "--port", "0", "--workspace", &work];
            self.home.ctrlnode(&args)
        };
        command.envs(&self.env);
        self.bridge = Some(Running::start(command));
    }

    /// What the bridge printed so far.
    pub(super) fn output(&self) -> String {
        self.bridge.as_ref().map(Running::told).unwrap_or_default()
    }
}

pub(super) fn manners(other: Other) -> Manners {
    Manners::Accept {
        extended: other == Other::Extended,
        token: None,
    }
}
