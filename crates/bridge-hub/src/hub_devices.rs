//! Device login, as the doors use it: the machine's side and the person's.

use std::time::Instant;

use bridge_proto::{
    Secret,
    ctrlnode::device::{DeviceGrant, DeviceRequest, Polled},
};

use crate::{
    access,
    devices::{self, CodeFault, Decision, Standing},
    error::HubError,
    hub::Hub,
    owner::Message,
    prepare,
};

impl Hub {
    /// A machine without a token begins; `page` is where its code is entered.
    pub(crate) async fn begin_device(
        &self,
        request: DeviceRequest,
        page: String,
    ) -> Result<DeviceGrant, HubError> {
        let device_code = access::new_secret("ctrld_")?;
        let mut random = [0_u8; 64];
        getrandom::fill(&mut random).map_err(|_| HubError::NoEntropy)?;
        let user_code = devices::user_code(&random).ok_or(HubError::NoEntropy)?;
        let (code, user) = (access::hash(&device_code), user_code.clone());
        self.ask_devices(move |all, now| {
            let begun = all.begin(now, code, user, request);
            begun.map_err(|wait| HubError::TooManyLogins { wait })
        })
        .await?;
        Ok(DeviceGrant {
            device_code,
            user_code: devices::shown(&user_code),
            verification_uri: page,
            expires: devices::LIFE,
            interval: devices::INTERVAL,
        })
    }

    /// The machine asks what became of it. The token is made when it comes for it, so none waits
    /// for a machine that never does.
    pub(crate) async fn poll_device(&self, code: &Secret) -> Result<Polled, HubError> {
        let code = access::hash(code);
        let standing = self.ask_devices(move |all, now| Ok(all.poll(now, &code)));
        Ok(match standing.await? {
            Standing::Waiting => Polled::Pending,
            Standing::TooSoon => Polled::SlowDown,
            Standing::Unknown => Polled::Expired,
            Standing::Decided(Decision::Deny) => Polled::Denied,
            Standing::Decided(Decision::Allow { name }) => {
                let token = self.create_bridge_token(&name).await?;
                tracing::info!(machine = name, "a machine was let in");
                Polled::Token(token.secret)
            }
        })
    }

    /// Which machine shows this code.
    pub(crate) async fn look_at_device(&self, typed: &str) -> Result<DeviceRequest, HubError> {
        let typed = typed.to_owned();
        self.ask_devices(move |all, now| all.look(now, &typed).map_err(refused))
            .await
    }

    /// The person decides about the machine that shows this code.
    pub(crate) async fn decide_device(
        &self,
        typed: &str,
        decision: Decision,
    ) -> Result<(), HubError> {
        let decision = match decision {
            Decision::Allow { name } => Decision::Allow {
                name: prepare::name(&name)?,
            },
            Decision::Deny => Decision::Deny,
        };
        let typed = typed.to_owned();
        self.ask_devices(move |all, now| all.decide(now, &typed, decision).map_err(refused))
            .await
    }

    async fn ask_devices<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut devices::Devices, Instant) -> Result<T, HubError> + Send + 'static,
    ) -> Result<T, HubError> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let ask = Box::new(move |all: &mut devices::Devices| {
            if reply.send(question(all, Instant::now())).is_err() {
                tracing::debug!("nobody waits for an answer about a device any more");
            }
        });
        self.tell(Message::Devices { ask }).await?;
        answer.await.map_err(|_| HubError::Stopping)?
    }
}

fn refused(fault: CodeFault) -> HubError {
    match fault {
        CodeFault::Unknown => HubError::UnknownDevice,
        CodeFault::TooMany { wait } => HubError::TooManyLogins { wait },
    }
}
