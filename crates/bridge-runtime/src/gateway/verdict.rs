//! Whether a tool of OpenClaw may be called for a plane. Nobody can be asked here: what would be a
//! question is a no.

use bridge_proto::{
    AskId, Digest,
    model::{Ask, AskKind},
};
use bridge_providers::remote::DirectCall;
use bridge_workspace::ContentsPolicy;

use crate::{
    policy::{Policy, Surroundings, Verdict},
    rules::{Doer, Rules},
};

/// Allowed, or why not.
///
/// The rules come first, in their order. Commands and edits are then allowed as outside the place
/// of a run; other tools by the user's word that tools may be called at all. Whatever is no answer
/// of an agent may hold contents of files, which leave the machine under the policy of all alone.
pub(super) fn judge(
    call: &DirectCall,
    doer: Doer<'_>,
    policy: &Policy,
    rules: &Rules,
    contents: ContentsPolicy,
) -> Result<(), String> {
    let ask = asked(call);
    let acts = match call.kind {
        AskKind::Edit | AskKind::Command => true,
        AskKind::Other | AskKind::Question => false,
    };
    if acts || rules.decide(&ask, doer).is_some() {
        let around = Surroundings {
            doer,
            inside: false,
            viewer: false,
            patience: None,
        };
        match policy.decide(rules, &ask, around) {
            Verdict::Allow { .. } => {}
            Verdict::Deny { rule, why } => return Err(format!("{why} ({rule})")),
            Verdict::Ask => {
                return Err(
                    "this machine asks a person before that, and nobody can be asked \
                            about a single tool"
                        .to_owned(),
                );
            }
        }
    }
    if !call.talks && contents != ContentsPolicy::Workspace {
        return Err(format!(
            "the answer of {} may hold contents of files, which the contents policy {contents} keeps",
            call.tool
        ));
    }
    Ok(())
}

fn asked(call: &DirectCall) -> Ask {
    Ask {
        id: AskId::parse("call").expect("a constant that is an id"),
        kind: call.kind,
        summary: call.tool.clone(),
        options: Vec::new(),
        digest: Digest::of(&[&call.tool]),
        tool: None,
        expires: None,
        answered: None,
        action: Some(Box::new(call.action.clone())),
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use bridge_proto::model::Action;
    use serde_json::Value;

    use super::*;
    use crate::{
        policy::CommandRule,
        rules::{ActionKind, Pattern, Rule, RuleDecision},
    };

    fn call(tool: &str, kind: AskKind, command: Option<&str>) -> DirectCall {
        DirectCall {
            tool: tool.into(),
            kind,
            action: Action {
                tool: Some(tool.into()),
                command: command.map(str::to_owned),
                paths: Vec::new(),
            },
            talks: tool.starts_with("sessions_"),
            body: Value::Null,
            limit: Duration::from_secs(1),
        }
    }

    fn rule(kind: Option<ActionKind>, tool: Option<&str>, decision: RuleDecision) -> Rule {
        Rule {
            agent: None,
            kind,
            tool: tool.map(str::to_owned),
            matches: None,
            decision,
        }
    }

    fn allowed(
        call: &DirectCall,
        commands: CommandRule,
        rules: &[Rule],
        contents: ContentsPolicy,
    ) -> bool {
        let policy = Policy {
            commands,
            ..Policy::default()
        };
        let doer = Doer {
            agent: "scout",
            provider: "openclaw",
            directory: Path::new("/w"),
        };
        judge(call, doer, &policy, &Rules(rules.to_vec()), contents).is_ok()
    }

    #[test]
    fn a_message_to_an_agent_is_allowed_unless_a_rule_says_no() {
        use ContentsPolicy::{Never, TaskOutputs, Workspace};
        let send = call("sessions_send", AskKind::Other, None);
        for contents in [Never, TaskOutputs, Workspace] {
            assert!(
                allowed(&send, CommandRule::Deny, &[], contents),
                "{contents}"
            );
        }
        for decision in [RuleDecision::Deny, RuleDecision::Ask] {
            for rule in [
                rule(None, Some("sessions_send"), decision),
                rule(Some(ActionKind::Other), None, decision),
                Rule {
                    agent: Some("scout".into()),
                    ..rule(None, None, decision)
                },
            ] {
                let rules = [rule];
                assert!(
                    !allowed(&send, CommandRule::Allow, &rules, Workspace),
                    "{rules:?}"
                );
            }
        }
        let other = rule(None, Some("sessions_spawn"), RuleDecision::Deny);
        assert!(allowed(&send, CommandRule::Deny, &[other], Workspace));
    }

    #[test]
    fn commands_and_edits_follow_the_settings_and_a_question_is_a_no() {
        let contents = ContentsPolicy::Workspace;
        for (tool, kind) in [("exec", AskKind::Command), ("write", AskKind::Edit)] {
            let call = call(tool, kind, Some("id"));
            for (commands, expected) in [
                (CommandRule::Allow, true),
                (CommandRule::Ask, false),
                (CommandRule::AskViewer, false),
                (CommandRule::Deny, false),
            ] {
                assert_eq!(allowed(&call, commands, &[], contents), expected, "{tool}");
            }
        }
        let matching = |text: &str, decision| Rule {
            matches: Some(Pattern::parse(text).unwrap()),
            ..rule(Some(ActionKind::Command), None, decision)
        };
        let status = call("exec", AskKind::Command, Some("git status"));
        let allow = [matching("git status", RuleDecision::Allow)];
        assert!(allowed(&status, CommandRule::Deny, &allow, contents));
        let deny = [matching("git *", RuleDecision::Deny)];
        assert!(!allowed(&status, CommandRule::Allow, &deny, contents));
        // With an environment of its own nobody knows what the command does.
        let unknown = call("exec", AskKind::Command, None);
        assert!(!allowed(&unknown, CommandRule::Allow, &deny, contents));
    }

    #[test]
    fn contents_of_files_stay_here_under_every_policy_but_that_of_all() {
        let read = call("read", AskKind::Other, None);
        let exec = call("exec", AskKind::Command, Some("cat x"));
        for call in [read, exec] {
            for (contents, expected) in [
                (ContentsPolicy::Never, false),
                (ContentsPolicy::TaskOutputs, false),
                (ContentsPolicy::Workspace, true),
            ] {
                let said = allowed(&call, CommandRule::Allow, &[], contents);
                assert_eq!(said, expected, "{} {contents}", call.tool);
            }
        }
    }
}
