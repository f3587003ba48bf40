//! What Copilot says of its skills: `copilot skill list --json`.

use serde_json::Value;

use crate::{
    plain::one_line,
    process::{Output, RunError},
    provider::StartError,
    skills::{Skill, SkillScope, SkillSource, Skills, skill},
};

/// The list, or a code for why there is none.
pub(super) fn of(ended: Result<Output, RunError>) -> Skills {
    let failed = |why: &str| {
        let warning = format!("copilot_cli_{why}");
        Skills::failed(SkillSource::Unsupported, &warning)
    };
    match ended {
        Ok(Output {
            code: Some(0),
            stdout,
            ..
        }) => match listed(&stdout) {
            Some(skills) => Skills {
                source: SkillSource::Live,
                skills,
                warnings: Vec::new(),
            },
            None => failed("failed"),
        },
        Ok(_) => failed("nonzero_exit"),
        Err(RunError::TimedOut { .. }) => failed("timeout"),
        Err(RunError::Start(StartError::Missing { .. })) => failed("binary_missing"),
        Err(RunError::Start(_)) => failed("failed"),
    }
}

/// A list, or an object with one.
fn listed(stdout: &[u8]) -> Option<Vec<Skill>> {
    let said: Value = serde_json::from_slice(stdout).ok()?;
    let list = said.get("skills").unwrap_or(&said).as_array()?;
    Some(list.iter().filter_map(one).take(MAX_SKILLS).collect())
}

fn one(entry: &Value) -> Option<Skill> {
    let text = |field: &str| {
        let text = entry.get(field)?.as_str()?;
        Some(one_line(text, 1000)).filter(|text| !text.is_empty())
    };
    let flag = |field: &str| entry.get(field).and_then(Value::as_bool);
    let scope = match text("scope").or_else(|| text("source")).as_deref() {
        Some("project") => SkillScope::Project,
        Some("plugin") => SkillScope::Plugin,
        Some("managed") => SkillScope::Managed,
        Some("builtin") => SkillScope::Builtin,
        Some(_) | None => SkillScope::User,
    };
    Some(Skill {
        description: text("description"),
        argument_hint: text("argumentHint"),
        user_invocable: flag("userInvocable").unwrap_or(true),
        enabled: flag("enabled").unwrap_or(true),
        ..skill(&text("name")?, '/', scope)
    })
}

const MAX_SKILLS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(code: i32, stdout: &str) -> Skills {
        of(Ok(Output {
            code: Some(code),
            stdout: stdout.into(),
            stderr_tail: String::new(),
        }))
    }

    #[test]
    fn a_list_is_read_in_both_shapes_and_anything_else_has_its_code() {
        let list = r#"[{"name":"a","source":"project","enabled":false},{"name":7},{"name":"b"}]"#;
        for text in [list.to_owned(), format!(r#"{{"skills":{list}}}"#)] {
            let found = ended(0, &text);
            assert_eq!(found.source, SkillSource::Live);
            assert_eq!(found.skills.len(), 2, "{text}");
            assert_eq!(found.skills[0].scope, SkillScope::Project);
            assert!(!found.skills[0].enabled && found.skills[1].enabled);
        }
        assert_eq!(ended(0, "nothing").warnings, ["copilot_cli_failed"]);
        assert_eq!(ended(1, "[]").warnings, ["copilot_cli_nonzero_exit"]);
        let late = of(Err(RunError::TimedOut {
            limit: std::time::Duration::ZERO,
            stderr_tail: String::new(),
        }));
        assert_eq!(late.warnings, ["copilot_cli_timeout"]);
        assert_eq!(late.source, SkillSource::Unsupported);
    }
}
