//! Device login, as the doors use it: the machine's side and the person's.

use std::time::Instant;

use bridge_proto::{
    BridgeId, Secret,
    ctrlnode::device::{DeviceGrant, DeviceRequest, Polled},
};

use crate::{
    access::{self, Source},
    devices::{self, Allowed, CodeFault, Decision, Standing},
    error::HubError,
    hub::Hub,
    owner::Message,
    prepare,
    store::{BridgeRecord, TokenHash},
    visible::visible,
};

/// What the person wants for the machine that shows a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    /// It gets a token under this name, which no other machine has.
    Allow {
        name: String,
    },
    /// It gets a token under this name; the machine that has it loses its own.
    Replace {
        name: String,
    },
    Deny,
}

impl Hub {
    /// A machine without a token begins; `page` is where its code is entered.
    pub(crate) async fn begin_device(
        &self,
        from: Source,
        request: DeviceRequest,
        page: String,
    ) -> Result<DeviceGrant, HubError> {
        let device_code = access::new_secret("ctrld_")?;
        let mut random = [0_u8; 64];
        getrandom::fill(&mut random).map_err(|_| HubError::NoEntropy)?;
        let user_code = devices::user_code(&random).ok_or(HubError::NoEntropy)?;
        let (code, user) = (access::hash(&device_code), user_code.clone());
        let request = DeviceRequest {
            hostname: visible(&request.hostname),
            platform: visible(&request.platform),
            bridge_version: visible(&request.bridge_version),
        };
        self.ask_devices(move |all, now| {
            let begun = all.begin(now, from, code, user, request);
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

    /// The machine asks what became of it. The token is stored when it comes for it, so none waits
    /// for a machine that never does; whoever asks again gets the same one, until it was used.
    pub(crate) async fn poll_device(&self, code: &Secret) -> Result<Polled, HubError> {
        let code = access::hash(code);
        let standing = self.ask_devices(move |all, now| Ok(all.poll(now, &code)));
        Ok(match standing.await? {
            Standing::Waiting => Polled::Pending,
            Standing::TooSoon => Polled::SlowDown,
            Standing::Unknown => Polled::Expired,
            Standing::Decided(Decision::Deny) => Polled::Denied,
            Standing::Decided(Decision::Allow(allowed)) => self.let_in(code, allowed).await?,
        })
    }

    async fn let_in(&self, code: TokenHash, allowed: Allowed) -> Result<Polled, HubError> {
        let Allowed {
            id,
            name,
            token,
            replaces,
        } = allowed;
        let hash = access::hash(&token);
        match self.store.bridge_by_token(hash).await? {
            Some(machine) if machine.seen.is_some() => {
                self.ask_devices(move |all, _| Ok(all.forget(&code)))
                    .await?;
                return Ok(Polled::Expired);
            }
            Some(_) => return Ok(Polled::Token(token)),
            None => {}
        }
        let others = self.names_without(replaces.as_ref()).await?;
        let name = free_name(&name, &others);
        // It fails for a token that was taken back meanwhile: its machine is known.
        self.pair(BridgeRecord::new(id, name.clone()), hash).await?;
        tracing::info!(machine = name, "a machine was let in");
        if let Some(old) = replaces {
            match self.revoke_bridge_token(&old).await {
                // Somebody else removed it.
                Ok(()) | Err(HubError::UnknownMachine { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Polled::Token(token))
    }

    /// Which machine shows this code, and a name for it that no other has.
    pub(crate) async fn look_at_device(
        &self,
        from: Source,
        typed: &str,
    ) -> Result<(DeviceRequest, String), HubError> {
        let typed = typed.to_owned();
        let request = self
            .ask_devices(move |all, now| all.look(now, from, &typed).map_err(refused))
            .await?;
        let name = free_name(&request.hostname, &self.names_without(None).await?);
        Ok((request, name))
    }

    /// The person decides about the machine that shows this code.
    pub(crate) async fn decide_device(
        &self,
        from: Source,
        typed: &str,
        wish: Wish,
    ) -> Result<(), HubError> {
        let decision = match wish {
            Wish::Deny => Decision::Deny,
            Wish::Allow { name } => {
                let name = prepare::name(&name)?;
                if self.machine_called(&name).await?.is_some() {
                    return Err(HubError::NameTaken { name });
                }
                Decision::Allow(allowed(name, None)?)
            }
            Wish::Replace { name } => {
                let name = prepare::name(&name)?;
                let replaces = self.machine_called(&name).await?;
                Decision::Allow(allowed(name, replaces)?)
            }
        };
        let typed = typed.to_owned();
        self.ask_devices(move |all, now| all.decide(now, from, &typed, decision).map_err(refused))
            .await
    }

    async fn machine_called(&self, name: &str) -> Result<Option<BridgeId>, HubError> {
        let machines = self.store.bridges().await?;
        let called = |machine: &BridgeRecord| same_name(&machine.name, name);
        Ok(machines.into_iter().find(called).map(|machine| machine.id))
    }

    /// Of all machines but this one.
    async fn names_without(&self, one: Option<&BridgeId>) -> Result<Vec<String>, HubError> {
        let machines = self.store.bridges().await?.into_iter();
        let others = machines.filter(|machine| Some(&machine.id) != one);
        Ok(others.map(|machine| machine.name).collect())
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

fn allowed(name: String, replaces: Option<BridgeId>) -> Result<Allowed, HubError> {
    Ok(Allowed {
        id: prepare::new_bridge_id(),
        name,
        token: access::new_secret("ctrlb_")?,
        replaces,
    })
}

/// The name itself, or with the first number behind it that makes it one of its own.
fn free_name(name: &str, others: &[String]) -> String {
    let taken = |name: &str| others.iter().any(|other| same_name(other, name));
    if !taken(name) {
        return name.to_owned();
    }
    let short: String = name.chars().take(LONGEST_BEFORE_NUMBER).collect();
    let numbered = (2_u64..).map(|number| format!("{short} {number}"));
    let mut free = numbered.filter(|name| !taken(name));
    free.next().unwrap_or(short)
}

/// Nobody tells machines apart by capital letters.
fn same_name(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

/// With a number behind it a name still has to be one.
const LONGEST_BEFORE_NUMBER: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_machine_of_one_name_gets_a_number() {
        let others = ["Box", "box 2", "other"].map(str::to_owned);
        assert_eq!(free_name("box", &others), "box 3");
        assert_eq!(free_name("BOX", &others), "BOX 3");
        assert_eq!(free_name("desk", &others), "desk");
        let long = "x".repeat(100);
        let free = free_name(&long, std::slice::from_ref(&long));
        assert!(prepare::name(&free).is_ok(), "{free}");
    }
}
