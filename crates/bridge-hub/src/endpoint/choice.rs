//! Which machine a task goes to when none was named.

use bridge_proto::{AgentId, BridgeId};

use crate::{error::HubError, view::Machine};

/// The one machine on line with this agent, or the one among several where the agent can run now.
/// Where there is none, the error tells what the machines know of the agent.
pub(crate) fn only_machine_with(
    machines: &[Machine],
    agent: &AgentId,
) -> Result<BridgeId, HubError> {
    let with_it: Vec<(&Machine, bool)> = machines
        .iter()
        .filter_map(|machine| {
            let mut agents = machine.agents.iter();
            let found = agents.find(|one| one.profile.id == *agent)?;
            Some((machine, found.health.available))
        })
        .collect();
    let fit: Vec<&Machine> = with_it
        .iter()
        .filter(|(_, available)| *available)
        .map(|(machine, _)| *machine)
        .collect();
    match (fit.as_slice(), with_it.as_slice()) {
        ([machine], _) | (_, [(machine, _)]) => Ok(machine.id.clone()),
        (_, []) => Err(HubError::NoMachineHas {
            agent: agent.clone(),
            known: machines
                .iter()
                .filter_map(|machine| known(machine, agent))
                .take(MAX_NAMED)
                .collect(),
        }),
        (_, several) => Err(HubError::SeveralMachines {
            machines: several
                .iter()
                .take(MAX_NAMED)
                .map(|(machine, _)| machine.name.clone())
                .collect(),
        }),
    }
}

/// What a machine says of an agent it does not offer: agents bear the names of their providers.
fn known(machine: &Machine, agent: &AgentId) -> Option<String> {
    let mut providers = machine.providers.iter();
    let (_, report) = providers.find(|(key, _)| key.as_str() == agent.as_str())?;
    let hint = report.health.hint.as_deref()?;
    Some(format!("{}: {hint}", machine.name))
}

/// A message that names more machines is read by nobody.
const MAX_NAMED: usize = 5;

#[cfg(test)]
mod tests {
    use bridge_proto::{ProviderKey, model::Health};

    use super::*;
    use crate::web::tests::machines;

    fn agent(id: &str) -> AgentId {
        AgentId::parse(id).unwrap()
    }

    #[test]
    fn a_task_goes_to_the_machine_where_its_agent_can_run() {
        let mut both = machines();
        assert_eq!(
            only_machine_with(&both, &agent("demo")).unwrap().as_str(),
            "m1"
        );
        both[1].online = true;
        both[1].agents = both[0].agents.clone();
        let several = only_machine_with(&both, &agent("demo")).unwrap_err();
        assert_eq!(
            several.to_string(),
            "several machines have this agent: m1-box, m2-box"
        );
        assert!(several.hint().unwrap().contains("--machine"));
        both[0].agents[0].health.available = false;
        assert_eq!(
            only_machine_with(&both, &agent("demo")).unwrap().as_str(),
            "m2"
        );
    }

    #[test]
    fn an_agent_that_is_missing_says_what_its_machine_knows() {
        let mut machines = machines();
        let health = Health {
            available: false,
            reason: None,
            version: None,
            hint: Some("install `claude`".into()),
        };
        let key = ProviderKey::parse("claude").unwrap();
        machines[0].providers.insert(key, health.into());
        let missing = only_machine_with(&machines, &agent("claude")).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "no machine on line has the agent claude; m1-box: install `claude`"
        );
        assert_eq!((missing.status(), missing.code()), (404, "unknown_agent"));
    }
}
