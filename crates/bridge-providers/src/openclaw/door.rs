//! The way to one gateway: its address, what is shown to it, and single requests on a connection
//! of their own.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde_json::{Value, json};
use thiserror::Error;
use tokio::time::timeout;

use super::{
    config::Gateway,
    dialogue::{Lost, Work},
    frames::{Failure, Frame, request},
    handshake::{Admission, CONNECT, Credentials, Handshake, Hello, SCOPES},
    identity::{DeviceKey, Grant, Keyring},
    logbook::{Entry, Logbook},
    refusal::Refusal,
    socket::{Address, Socket},
};

/// One gateway and how this bridge comes in. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Door {
    pub(super) gateway: Gateway,
    pub(super) roots: Option<PathBuf>,
    keyring: Keyring,
    logbook: Logbook,
    /// Made once; `None` when it can be neither read nor written.
    key: Arc<OnceLock<Option<Arc<DeviceKey>>>>,
}

/// Why a single request has no answer.
#[derive(Debug, Error)]
pub(super) enum CallError {
    #[error("{0}")]
    Lost(Lost),
    #[error("not let in")]
    Refused(Refusal),
    #[error("{}", .0.message)]
    Failed(Failure),
    #[error("no answer within {0:?}")]
    TooLate(Duration),
}

/// The key of this bridge, shared by everything that comes in with it.
pub(super) type Key = Arc<OnceLock<Option<Arc<DeviceKey>>>>;

impl Door {
    pub(super) fn new(gateway: Gateway, roots: Option<PathBuf>, state: &Path, key: Key) -> Self {
        Self {
            gateway,
            roots,
            keyring: Keyring::new(state),
            logbook: Logbook::new(state),
            key,
        }
    }

    pub(super) fn address(&self) -> Address {
        Address {
            url: self.gateway.url.clone(),
            roots: self.roots.clone(),
        }
    }

    /// What can be shown; reads and, the first time, writes files away from the async threads.
    pub(super) async fn credentials(&self) -> Credentials {
        let this = self.clone();
        let read = tokio::task::spawn_blocking(move || this.read_credentials());
        read.await.unwrap_or_else(|error| {
            tracing::error!(%error, "reading the device key failed");
            Credentials {
                shared: self.gateway.secret.clone(),
                ..Credentials::default()
            }
        })
    }

    fn read_credentials(&self) -> Credentials {
        let device = self.key.get_or_init(|| match self.keyring.key() {
            Ok(key) => Some(Arc::new(key)),
            Err(error) => {
                tracing::warn!(%error, "the device key for OpenClaw cannot be kept; going without");
                None
            }
        });
        let grant = match self.keyring.grant(self.gateway.url.as_str()) {
            Ok(grant) => grant.filter(|_| device.is_some()),
            Err(error) => {
                tracing::warn!(%error, "what OpenClaw gave this device cannot be read");
                None
            }
        };
        Credentials {
            shared: self.gateway.secret.clone(),
            device: device.clone(),
            grant,
        }
    }

    /// Keeps what the gateway gave, or forgets it.
    pub(super) async fn keep(&self, grant: Option<Grant>) {
        let this = self.clone();
        let kept = tokio::task::spawn_blocking(move || {
            this.keyring.keep(this.gateway.url.as_str(), grant.as_ref())
        });
        match kept.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "what OpenClaw gave cannot be kept"),
            Err(error) => tracing::error!(%error, "keeping what OpenClaw gave failed"),
        }
    }

    /// Writes down what works from now on. A run that cannot be written down still runs.
    pub(super) async fn enter(&self, work: &Work) -> Option<Entry> {
        let (this, work) = (self.clone(), work.clone());
        let entered = tokio::task::spawn_blocking(move || {
            this.logbook.enter(this.gateway.url.as_str(), &work)
        });
        match entered.await {
            Ok(Ok(entry)) => Some(entry),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a run of OpenClaw could not be written down");
                None
            }
            Err(error) => {
                tracing::error!(%error, "writing down a run failed");
                None
            }
        }
    }

    /// Strikes out what does not work any more.
    pub(super) async fn strike(entry: Option<Entry>) {
        let Some(entry) = entry else { return };
        match tokio::task::spawn_blocking(|| entry.strike()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a run could not be struck out"),
            Err(error) => tracing::error!(%error, "striking out a run failed"),
        }
    }

    /// Stops the runs that an earlier bridge left when it was killed.
    pub(super) async fn stop_strays(&self, limit: Duration) {
        let this = self.clone();
        let found =
            tokio::task::spawn_blocking(move || this.logbook.strays(this.gateway.url.as_str()));
        for (work, entry) in found.await.unwrap_or_default() {
            match self.abort(&work, limit).await {
                Ok(()) => {
                    tracing::warn!(run = work.run, "stopped what an earlier bridge left");
                    Self::strike(Some(entry)).await;
                }
                Err(error) => {
                    tracing::warn!(%error, run = work.run, "a run that was left cannot be stopped");
                }
            }
        }
    }

    /// Stops a run, whatever became of the connection it was begun on.
    pub(super) async fn abort(&self, work: &Work, limit: Duration) -> Result<(), CallError> {
        let params = json!({ "sessionKey": work.session, "runId": work.run });
        self.call("chat.abort", &params, limit).await.map(|_| ())
    }

    /// Asks one thing.
    pub(super) async fn call(
        &self,
        method: &str,
        params: &Value,
        limit: Duration,
    ) -> Result<(Hello, Value), CallError> {
        timeout(limit, self.connected(method, params))
            .await
            .unwrap_or(Err(CallError::TooLate(limit)))
    }

    async fn connected(&self, method: &str, params: &Value) -> Result<(Hello, Value), CallError> {
        let mut handshake = Handshake::new(self.credentials().await);
        loop {
            let mut socket = Socket::dial(self.address())
                .await
                .map_err(CallError::Lost)?;
            match self.let_in(&mut socket, &mut handshake).await? {
                Admission::In(hello) => {
                    socket
                        .send(request(ONLY, method, params))
                        .map_err(CallError::Lost)?;
                    let result = answer(&mut socket, ONLY).await?;
                    return match result {
                        Ok(payload) => Ok((hello, payload)),
                        Err(failure) => Err(CallError::Failed(failure)),
                    };
                }
                Admission::ShowOther => self.keep(None).await,
                Admission::Refused(Refusal::Starting(wait)) => tokio::time::sleep(wait).await,
                Admission::Refused(refusal) => return Err(CallError::Refused(refusal)),
            }
        }
    }

    async fn let_in(
        &self,
        socket: &mut Socket,
        handshake: &mut Handshake,
    ) -> Result<Admission, CallError> {
        let challenge = loop {
            let text = socket.next().await.map_err(CallError::Lost)?;
            if let Frame::Event { name, payload } = Frame::read(&text)
                && name == "connect.challenge"
            {
                break payload;
            }
        };
        let greeting = handshake.answer(&challenge, &SCOPES);
        let greeting = greeting.map_err(CallError::Refused)?;
        socket
            .send(greeting.expose().to_owned())
            .map_err(CallError::Lost)?;
        let entry = handshake.read(answer(socket, CONNECT).await?);
        if let Admission::In(hello) = &entry
            && let Some(grant) = hello.grant.clone()
        {
            self.keep(Some(grant)).await;
        }
        Ok(entry)
    }
}

async fn answer(socket: &mut Socket, wanted: &str) -> Result<Result<Value, Failure>, CallError> {
    loop {
        let text = socket.next().await.map_err(CallError::Lost)?;
        if let Frame::Answer { id, result } = Frame::read(&text)
            && id == wanted
        {
            return Ok(result);
        }
    }
}

/// The id of the one request.
const ONLY: &str = "r1";
