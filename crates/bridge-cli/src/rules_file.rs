//! The file in which the user of this machine decides beforehand what agents may do:
//! `~/.ctrlnode/rules.toml`, read once at the start.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use bridge_runtime::{ActionKind, Pattern, PatternError, Rule, RuleDecision, Rules};
use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;

/// Why the rules cannot be used. Without all of its rules the bridge does not start: a missing one
/// could be the one that denies.
#[derive(Debug, Error)]
pub(crate) enum RulesError {
    #[error("it cannot be read")]
    Read(#[source] std::io::Error),
    #[error("it is larger than {MAX_FILE} bytes")]
    TooLarge,
    #[error("everybody on this machine can write it")]
    WritableByAll,
    #[error("{0}")]
    Parse(String),
    #[error("line {line}: {what}")]
    Rule { line: usize, what: &'static str },
    #[error("line {line}: {error}")]
    Pattern { line: usize, error: PatternError },
    #[error("it has {0} rules, the limit is {MAX_RULES}")]
    TooMany(usize),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    rule: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    agent: Option<Spanned<String>>,
    kind: Option<Kind>,
    tool: Option<Spanned<String>>,
    matches: Option<Spanned<String>>,
    decision: Word,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Edit,
    Command,
    Other,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Allow,
    Ask,
    Deny,
}

/// Reads the file; no rules when there is none. `home` is what `~/` at the beginning of a pattern
/// stands for.
pub(crate) fn read(path: &Path, home: Option<&Path>) -> Result<Option<Rules>, RulesError> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(RulesError::Read(error)),
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = file
            .metadata()
            .map_err(RulesError::Read)?
            .permissions()
            .mode();
        if mode & 0o002 != 0 {
            return Err(RulesError::WritableByAll);
        }
    }
    let mut text = String::new();
    file.take(MAX_FILE + 1)
        .read_to_string(&mut text)
        .map_err(RulesError::Read)?;
    if text.len() as u64 > MAX_FILE {
        return Err(RulesError::TooLarge);
    }
    parse(&text, home).map(Some)
}

/// Where the rules are, unless a setting names another place.
pub(crate) fn usual_place(home: Option<&Path>) -> Option<PathBuf> {
    home.map(|home| home.join(".ctrlnode/rules.toml"))
}

fn parse(text: &str, home: Option<&Path>) -> Result<Rules, RulesError> {
    let file: File =
        toml::from_str(text).map_err(|error| RulesError::Parse(error.to_string().trim().into()))?;
    if file.rule.len() > MAX_RULES {
        return Err(RulesError::TooMany(file.rule.len()));
    }
    let line_of = |at: usize| {
        let before = text.bytes().take(at);
        before.filter(|byte| *byte == b'\n').count() + 1
    };
    let named = |name: Option<Spanned<String>>, what| match name {
        Some(name) if name.get_ref().trim().is_empty() => Err(RulesError::Rule {
            line: line_of(name.span().start),
            what,
        }),
        other => Ok(other.map(Spanned::into_inner)),
    };
    let rule = |entry: Entry| {
        let agent = named(entry.agent, "the name of the agent is empty")?;
        let matches = entry.matches.map(|matches| {
            let line = line_of(matches.span().start);
            let text = below_home(matches.get_ref(), home);
            Pattern::parse(&text).map_err(|error| RulesError::Pattern { line, error })
        });
        Ok(Rule {
            agent: agent.map(|agent| agent.trim().to_lowercase()),
            kind: entry.kind.map(|kind| match kind {
                Kind::Edit => ActionKind::Edit,
                Kind::Command => ActionKind::Command,
                Kind::Other => ActionKind::Other,
            }),
            tool: named(entry.tool, "the name of the tool is empty")?,
            matches: matches.transpose()?,
            decision: match entry.decision {
                Word::Allow => RuleDecision::Allow,
                Word::Ask => RuleDecision::Ask,
                Word::Deny => RuleDecision::Deny,
            },
        })
    };
    let rules = file.rule.into_iter().map(rule);
    Ok(Rules(rules.collect::<Result<_, RulesError>>()?))
}

/// `~/` as the home folder, whose own letters stand for themselves.
fn below_home(pattern: &str, home: Option<&Path>) -> String {
    let (Some(rest), Some(home)) = (pattern.strip_prefix("~/"), home.and_then(Path::to_str)) else {
        return pattern.to_owned();
    };
    let mut text = String::new();
    for c in home.replace('\\', "/").trim_end_matches('/').chars() {
        if "*?\\".contains(c) {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('/');
    text.push_str(rest);
    text
}

/// Far more than anybody writes by hand.
const MAX_FILE: u64 = 256 * 1024;
const MAX_RULES: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text, None).unwrap_err().to_string()
    }

    #[test]
    fn a_file_becomes_rules_in_its_order() {
        let text = r#"
            [[rule]]
            agent = "Codex"
            kind = "command"
            matches = "git status*"
            decision = "allow"

            [[rule]]
            kind = "edit"
            matches = "~/notes/**"
            decision = "ask"

            [[rule]]
            tool = "WebFetch"
            decision = "deny"
        "#;
        let Rules(rules) = parse(text, Some(Path::new("/home/a*b"))).unwrap();
        let shown: Vec<_> = rules
            .iter()
            .map(|rule| {
                let matches = rule.matches.as_ref().map(ToString::to_string);
                (rule.agent.as_deref(), rule.kind, matches, rule.decision)
            })
            .collect();
        assert_eq!(
            shown,
            [
                (
                    Some("codex"),
                    Some(ActionKind::Command),
                    Some("git status*".to_owned()),
                    RuleDecision::Allow
                ),
                (
                    None,
                    Some(ActionKind::Edit),
                    Some(r"/home/a\*b/notes/**".to_owned()),
                    RuleDecision::Ask
                ),
                (None, None, None, RuleDecision::Deny),
            ]
        );
        assert_eq!(rules[2].tool.as_deref(), Some("WebFetch"));
        assert_eq!(parse("", None).unwrap(), Rules::default());
    }

    #[test]
    fn every_mistake_is_an_error_with_its_line() {
        let unknown = error("[[rule]]\ndecision = \"allow\"\npattern = \"x\"\n");
        assert!(
            unknown.contains("line 3") && unknown.contains("pattern"),
            "{unknown}"
        );
        let word = error("[[rule]]\ndecision = \"perhaps\"\n");
        assert!(word.contains("line 2") && word.contains("deny"), "{word}");
        assert!(error("[[rule]]\nkind = \"edit\"\n").contains("decision"));
        assert!(error("rules = []\n").contains("line 1"));
        assert_eq!(
            error("\n[[rule]]\nmatches = \" \"\ndecision = \"deny\"\n"),
            "line 3: the pattern is empty"
        );
        assert_eq!(
            error("[[rule]]\nagent = \"\"\ndecision = \"deny\"\n"),
            "line 2: the name of the agent is empty"
        );
        let many = "[[rule]]\ndecision = \"ask\"\n".repeat(MAX_RULES + 1);
        assert_eq!(error(&many), "it has 1001 rules, the limit is 1000");
    }

    #[cfg(unix)]
    #[test]
    fn a_missing_file_is_no_rules_and_one_that_everybody_writes_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = usual_place(Some(folder.path())).unwrap();
        assert!(read(&path, None).unwrap().is_none());
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(&path, "[[rule]]\ndecision = \"ask\"\n").unwrap();
        assert_eq!(read(&path, None).unwrap().unwrap().0.len(), 1);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(read(&path, None), Err(RulesError::WritableByAll)));
    }
}
