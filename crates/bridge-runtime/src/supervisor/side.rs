//! What the plane says of models and providers: kept, written down, and told on.

use std::sync::Arc;

use bridge_proto::model::ModelManifest;
use bridge_workspace::model_manifest;

use super::Daemon;
use crate::{
    clock::now,
    manifest::{KeptManifest, SideWord},
};

impl Daemon {
    /// What the plane said before the last stop.
    pub(super) async fn recall_manifest(&mut self) {
        let root = self.workspace.root().to_owned();
        let kept =
            tokio::task::spawn_blocking(move || KeptManifest::parse(&model_manifest::read(&root)?));
        if let Ok(Some(kept)) = kept.await {
            self.words.on_manifest(kept.providers);
        }
    }

    pub(super) async fn on_side_word(&mut self, word: SideWord) {
        match word {
            SideWord::Models(manifest) => self.on_manifest(manifest).await,
            SideWord::Providers(providers) => {
                if self.words.on_providers(providers) {
                    self.greet();
                    self.announce_health().await;
                }
            }
        }
    }

    pub(super) async fn on_manifest(&mut self, manifest: ModelManifest) {
        let kept = KeptManifest::new(manifest, now());
        let content = serde_json::to_vec(&kept);
        if self.words.on_manifest(kept.providers) {
            self.announce_models().await;
        }
        let Ok(content) = content else {
            return;
        };
        let workspace = Arc::clone(&self.workspace);
        let written =
            tokio::task::spawn_blocking(move || workspace.write_model_manifest(&content)).await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the list of models cannot be kept"),
            Err(error) => tracing::error!(%error, "keeping the list of models failed"),
        }
    }
}
