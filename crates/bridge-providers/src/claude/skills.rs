//! Asking the program for its commands: the same question as for its models, no prompt, no model
//! call. Nothing of a folder's own settings is in force, so its hooks do not run.

use serde_json::Value;

use crate::{
    plain::one_line,
    skills::{Skill, SkillScope, SkillSource, Skills, skill},
};

/// The commands of the answer.
pub(super) fn in_answer(commands: &Value) -> Skills {
    let commands = commands.as_array().into_iter().flatten();
    let skills = commands.filter_map(one).take(MAX_COMMANDS).collect();
    Skills {
        source: SkillSource::Live,
        skills,
        warnings: Vec::new(),
    }
}

fn one(command: &Value) -> Option<Skill> {
    let text = |field: &str| {
        let text = command.get(field)?.as_str()?;
        Some(one_line(text, 1000)).filter(|text| !text.is_empty())
    };
    let name = text("name")?;
    let builtin = command.get("builtin").and_then(Value::as_bool) == Some(true);
    let scope = if builtin {
        SkillScope::Builtin
    } else if name.contains(':') {
        SkillScope::Plugin
    } else {
        SkillScope::User
    };
    Some(Skill {
        description: text("description"),
        argument_hint: text("argumentHint"),
        ..skill(name.trim_start_matches('/'), '/', scope)
    })
}

const MAX_COMMANDS: usize = 1000;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn commands_are_skills_by_their_name() {
        let answer = json!([
            { "name": "review", "description": "Looks.", "argumentHint": "[file]" },
            { "name": "dataviz", "argumentHint": "", "builtin": true },
            { "name": "git:commit" }, { "description": "nameless" }, 7 ]);
        let found = in_answer(&answer);
        let shown: Vec<_> = found
            .skills
            .iter()
            .map(|skill| (skill.invocation.as_str(), skill.scope))
            .collect();
        assert_eq!(
            shown,
            [
                ("/review", SkillScope::User),
                ("/dataviz", SkillScope::Builtin),
                ("/git:commit", SkillScope::Plugin),
            ]
        );
        assert_eq!(found.skills[0].argument_hint.as_deref(), Some("[file]"));
        assert_eq!(found.skills[1].argument_hint, None);
        assert_eq!(in_answer(&json!(null)).skills, []);
    }
}
