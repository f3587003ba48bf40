//! Which machine a person means by what they typed.

use bridge_hub::Machine;

use crate::report::Problem;

/// The machine of this id, or else of this name. One that is on line is meant before one that is
/// not; of several that fit equally none is guessed.
pub(crate) fn choose<'a>(machines: &'a [Machine], wanted: &str) -> Result<&'a Machine, Problem> {
    if let Some(machine) = machines.iter().find(|one| one.id.as_str() == wanted) {
        return Ok(machine);
    }
    let named: Vec<&Machine> = machines.iter().filter(|one| one.name == wanted).collect();
    let online: Vec<&Machine> = named.iter().copied().filter(|one| one.online).collect();
    match (online.as_slice(), named.as_slice()) {
        ([machine], _) | ([], [machine]) => Ok(machine),
        ([], []) => {
            let names: Vec<&str> = machines.iter().map(|one| one.name.as_str()).collect();
            Err(Problem::new(format!("no machine is called {wanted}"))
                .hint(format!("there is: {}", names.join(", "))))
        }
        ([], several) | (several, _) => {
            let ids: Vec<&str> = several.iter().map(|one| one.id.as_str()).collect();
            Err(
                Problem::new(format!("several machines are called {wanted}"))
                    .hint(format!("name one by its id: {}", ids.join(", "))),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn machine(id: &str, name: &str, online: bool) -> Machine {
        serde_json::from_value(json!({
            "id": id, "name": name, "hostname": null, "online": online,
            "since": "2026-03-14T09:26:53.589Z", "version": null, "extended": true,
            "providers": {}, "models": {}, "agents": [],
        }))
        .unwrap()
    }

    #[test]
    fn of_two_machines_of_one_name_the_one_on_line_is_meant() {
        let machines = [
            machine("m1", "laptop", false),
            machine("m2", "laptop", true),
            machine("m3", "desk", false),
        ];
        assert_eq!(choose(&machines, "laptop").unwrap().id.as_str(), "m2");
        assert_eq!(choose(&machines, "m1").unwrap().id.as_str(), "m1");
        assert_eq!(choose(&machines, "desk").unwrap().id.as_str(), "m3");
        let none = choose(&machines, "phone").unwrap_err();
        assert_eq!(none.what_to_do(), Some("there is: laptop, laptop, desk"));
    }

    #[test]
    fn machines_that_fit_equally_are_named_by_their_ids() {
        for online in [true, false] {
            let machines = [
                machine("m1", "laptop", online),
                machine("m2", "laptop", online),
            ];
            let several = choose(&machines, "laptop").unwrap_err();
            assert_eq!(several.what_to_do(), Some("name one by its id: m1, m2"));
        }
    }
}
