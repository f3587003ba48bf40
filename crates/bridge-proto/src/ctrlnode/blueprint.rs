//! The document that answers `generate_graph_blueprint`: its shape and what must fit together in it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer};

/// Takes the document out of an answer, which may have words or a code fence around it.
///
/// # Errors
/// Says what is wrong with it, in one sentence that a person can act on.
pub fn extract(answer: &str) -> Result<String, String> {
    let mut wrong = None;
    for (start, _) in answer.match_indices('{').take(MAX_TRIED) {
        let Some(text) = answer.get(start..).and_then(whole_object) else {
            continue;
        };
        let document = serde_json::from_str::<Document>(text).map_err(|error| error.to_string());
        match document.and_then(|document| document.check()) {
            Ok(()) => return Ok(text.to_owned()),
            // What is said of the first one that is JSON helps most.
            Err(error) if serde_json::from_str::<serde_json::Value>(text).is_ok() => {
                wrong.get_or_insert(error);
            }
            Err(_) => {}
        }
        if wrong.is_some() {
            break;
        }
    }
    Err(wrong.unwrap_or_else(|| "the answer has no JSON object in it".to_owned()))
}

/// The first object of the text that is complete, braces in texts of it left aside.
fn whole_object(text: &str) -> Option<&str> {
    let start = text.find('{')?;
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate().skip(start) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' if !quoted => depth += 1,
            b'}' if !quoted => {
                depth -= 1;
                if depth == 0 {
                    return text.get(start..=at);
                }
            }
            _ => {}
        }
    }
    None
}

/// What is asked of the planner besides the prompt.
pub const INSTRUCTIONS: &str = "\
Only plan: read what helps, change nothing, run nothing. Answer with one JSON object and nothing else. \
All keys are required, no others are allowed:
{\"name\": text, \"description\": text, \"topology\": \"single\" | \"linear\" | \"fan_out_fan_in\" | \"dag\", \
\"templateFamily\": \"blank\" | \"research_report\" | \"linear\" | \"parallel\" | \"custom\", \
\"schedule\": {\"kind\": \"manual\" | \"hourly\" | \"daily\" | \"weekdays\" | \"weekly\" | \"custom\", \
\"time\": text | null, \"days\": [number] | null, \"hours\": [number] | null, \"timezone\": text | null, \"cron\": text | null}, \
\"agentMode\": \"single\" | \"multi\", \
\"agents\": [{\"key\": text, \"name\": text, \"role\": text, \"instructions\": text}], \
\"nodes\": [{\"key\": text, \"label\": text, \"instructions\": text, \"taskMode\": \"output\" | \"repo\", \
\"focusFiles\": [text], \"outputFolder\": text, \"dependsOn\": [key of a node], \"agentKey\": key of an agent | null}]}";

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    name: String,
    #[serde(rename = "description")]
    _description: String,
    #[serde(rename = "topology")]
    _topology: Topology,
    #[serde(rename = "templateFamily")]
    _template_family: TemplateFamily,
    #[serde(rename = "schedule")]
    _schedule: Schedule,
    #[serde(rename = "agentMode")]
    _agent_mode: AgentMode,
    agents: Vec<PlannedAgent>,
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Topology {
    Single,
    Linear,
    FanOutFanIn,
    Dag,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum TemplateFamily {
    Blank,
    ResearchReport,
    Linear,
    Parallel,
    Custom,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ScheduleKind {
    Manual,
    Hourly,
    Daily,
    Weekdays,
    Weekly,
    Custom,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum AgentMode {
    Single,
    Multi,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum TaskMode {
    Output,
    Repo,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Schedule {
    #[serde(rename = "kind")]
    _kind: ScheduleKind,
    #[serde(rename = "time", deserialize_with = "nullable")]
    _time: Option<String>,
    #[serde(rename = "days", deserialize_with = "nullable")]
    _days: Option<Vec<i64>>,
    #[serde(rename = "hours", deserialize_with = "nullable")]
    _hours: Option<Vec<i64>>,
    #[serde(rename = "timezone", deserialize_with = "nullable")]
    _timezone: Option<String>,
    #[serde(rename = "cron", deserialize_with = "nullable")]
    _cron: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlannedAgent {
    key: String,
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "role")]
    _role: String,
    #[serde(rename = "instructions")]
    _instructions: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Node {
    key: String,
    #[serde(rename = "label")]
    _label: String,
    #[serde(rename = "instructions")]
    _instructions: String,
    #[serde(rename = "taskMode")]
    _task_mode: TaskMode,
    #[serde(rename = "focusFiles")]
    _focus_files: Vec<String>,
    #[serde(rename = "outputFolder")]
    _output_folder: String,
    depends_on: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    agent_key: Option<String>,
}

/// A key that has to be there, with or without a value.
fn nullable<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer)
}

impl Document {
    /// What the shape alone does not say.
    fn check(&self) -> Result<(), String> {
        if self.name.trim().is_empty() {
            return Err("the plan has no name".into());
        }
        if self.nodes.is_empty() {
            return Err("the plan has no nodes".into());
        }
        if self.nodes.len() > MAX_NODES || self.agents.len() > MAX_NODES {
            return Err(format!(
                "the plan has more than {MAX_NODES} nodes or agents"
            ));
        }
        let agents = distinct("agent", self.agents.iter().map(|agent| agent.key.as_str()))?;
        let nodes = distinct("node", self.nodes.iter().map(|node| node.key.as_str()))?;
        for node in &self.nodes {
            if let Some(unknown) = node
                .depends_on
                .iter()
                .find(|key| !nodes.contains(key.as_str()))
            {
                let key = &node.key;
                return Err(format!("node {key} depends on {unknown}, which is no node"));
            }
            if let Some(unknown) = node
                .agent_key
                .as_deref()
                .filter(|key| !agents.contains(key))
            {
                let key = &node.key;
                return Err(format!(
                    "node {key} is for agent {unknown}, which is not in the plan"
                ));
            }
        }
        self.without_cycles()
    }

    /// Takes away nodes whose predecessors are gone, until none is left.
    fn without_cycles(&self) -> Result<(), String> {
        let mut left: BTreeMap<&str, &[String]> = self
            .nodes
            .iter()
            .map(|node| (node.key.as_str(), node.depends_on.as_slice()))
            .collect();
        while !left.is_empty() {
            let before = left.len();
            let waiting: BTreeSet<&str> = left.keys().copied().collect();
            left.retain(|_, needs| needs.iter().any(|key| waiting.contains(key.as_str())));
            if left.len() == before {
                let keys: Vec<&str> = left.into_keys().collect();
                return Err(format!(
                    "these nodes wait for each other: {}",
                    keys.join(", ")
                ));
            }
        }
        Ok(())
    }
}

fn distinct<'a>(
    what: &str,
    keys: impl Iterator<Item = &'a str>,
) -> Result<BTreeSet<&'a str>, String> {
    let mut known = BTreeSet::new();
    for key in keys {
        if key.trim().is_empty() {
            return Err(format!("one {what} has no key"));
        }
        if !known.insert(key) {
            return Err(format!("two of the {what}s have the key {key}"));
        }
    }
    Ok(known)
}

/// Braces looked at before a document; an answer may speak of some.
const MAX_TRIED: usize = 16;
/// More than any person looks through.
const MAX_NODES: usize = 200;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn plan() -> Value {
        json!({
            "name": "Report", "description": "", "topology": "linear", "templateFamily": "custom",
            "schedule": {
                "kind": "manual", "time": null, "days": null, "hours": null, "timezone": null,
                "cron": null,
            },
            "agentMode": "single",
            "agents": [{ "key": "a", "name": "A", "role": "", "instructions": "" }],
            "nodes": [
                { "key": "one", "label": "One", "instructions": "Read {braces}.",
                  "taskMode": "output", "focusFiles": [], "outputFolder": "", "dependsOn": [],
                  "agentKey": "a" },
                { "key": "two", "label": "Two", "instructions": "\" }", "taskMode": "repo",
                  "focusFiles": ["src/a.rs"], "outputFolder": "", "dependsOn": ["one"],
                  "agentKey": null },
            ],
        })
    }

    fn wrong(change: impl FnOnce(&mut Value)) -> String {
        let mut changed = plan();
        change(&mut changed);
        extract(&changed.to_string()).unwrap_err()
    }

    #[test]
    fn a_document_is_taken_out_of_what_stands_around_it() {
        let text = plan().to_string();
        assert_eq!(extract(&text).unwrap(), text);
        let fenced = format!("Here it is:\n```json\n{text}\n```\nShall I go on? {{}}");
        assert_eq!(extract(&fenced).unwrap(), text);
        let spoken = format!("Here is {{the plan}}: {text}");
        assert_eq!(extract(&spoken).unwrap(), text);
        assert!(extract("I cannot plan this.").is_err());
        assert!(extract("{\"name\": \"open").is_err());
    }

    #[test]
    fn every_key_has_to_be_there_and_no_other_may() {
        let missing = wrong(|plan| {
            plan["schedule"].as_object_mut().unwrap().remove("cron");
        });
        assert!(missing.contains("cron"), "{missing}");
        let other = wrong(|plan| plan["nodes"][0]["shell"] = json!("rm"));
        assert!(other.contains("shell"), "{other}");
        let odd = wrong(|plan| plan["topology"] = json!("ring"));
        assert!(odd.contains("ring"), "{odd}");
    }

    #[test]
    fn nodes_and_agents_have_to_fit_together() {
        let cycle = wrong(|plan| plan["nodes"][0]["dependsOn"] = json!(["two"]));
        assert_eq!(cycle, "these nodes wait for each other: one, two");
        let unknown = wrong(|plan| plan["nodes"][1]["dependsOn"] = json!(["three"]));
        assert!(unknown.contains("three, which is no node"), "{unknown}");
        let nobody = wrong(|plan| plan["nodes"][0]["agentKey"] = json!("b"));
        assert!(nobody.contains("agent b"), "{nobody}");
        let twice = wrong(|plan| plan["nodes"][1]["key"] = json!("one"));
        assert_eq!(twice, "two of the nodes have the key one");
        let none = wrong(|plan| plan["nodes"] = json!([]));
        assert_eq!(none, "the plan has no nodes");
    }
}
