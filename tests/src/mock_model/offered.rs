//! Tools as agents offer them: which one does what, and how its parameters are filled in.

use serde_json::{Map, Value, json};

use super::{responses, script::Talk};

/// A tool of the agent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tool {
    pub(super) name: String,
    /// JSON schema of its parameters.
    pub(super) schema: Value,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) input: Value,
}

/// What a call shall do, whatever the agent's tool for it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Deed<'a> {
    Write {
        path: &'a str,
        content: &'a str,
    },
    Edit {
        path: &'a str,
        old: &'a str,
        new: &'a str,
    },
    Read {
        path: &'a str,
    },
    Shell {
        command: &'a str,
    },
}

impl Deed<'_> {
    /// The call of the agent's own tool; `None` if it offers none that can do this.
    pub(super) fn call(&self, talk: &Talk) -> Option<Call> {
        // A tool without named parameters takes one text, which only its own API knows to write.
        let fits =
            |tool: &&Tool, name: &str| tool.name == name && tool.schema.get("properties").is_some();
        let tool = self
            .names()
            .iter()
            .find_map(|name| talk.tools.iter().find(|tool| fits(tool, name)));
        let Some(tool) = tool else {
            return responses::call(*self, talk);
        };
        let mut input = Map::new();
        let properties = tool.schema.get("properties").and_then(Value::as_object);
        for (name, schema) in properties.into_iter().flatten() {
            if let Some(value) = self.value(name, talk) {
                input.insert(name.clone(), value);
            } else if is_required(&tool.schema, name) {
                input.insert(name.clone(), example(schema, name));
            }
        }
        Some(Call {
            name: tool.name.clone(),
            input: Value::Object(input),
        })
    }

    fn names(&self) -> &'static [&'static str] {
        match self {
            Self::Write { .. } => &["Write", "write_file", "write", "create"],
            Self::Edit { .. } => &["Edit", "replace", "edit", "patch", "edit_file"],
            Self::Read { .. } => &["Read", "read_file", "read", "view"],
            Self::Shell { .. } => &[
                "Bash",
                "run_shell_command",
                "bash",
                "shell",
                "terminal",
                "exec_command",
                "exec",
            ],
        }
    }

    /// The value of a parameter, by its name in whichever spelling.
    fn value(&self, parameter: &str, talk: &Talk) -> Option<Value> {
        let parameter: String = parameter
            .chars()
            .filter(|c| *c != '_')
            .collect::<String>()
            .to_lowercase();
        let value = match (self, parameter.as_str()) {
            (Self::Edit { old, new, .. }, "edits") => {
                return Some(json!([{ "oldText": old, "newText": new }]));
            }
            (
                Self::Write { path, .. } | Self::Edit { path, .. } | Self::Read { path },
                "filepath" | "path" | "absolutepath",
            ) => absolute(path, talk),
            (Self::Write { content, .. }, "content" | "filetext") => (*content).to_owned(),
            (Self::Edit { old, .. }, "oldstring" | "oldstr") => (*old).to_owned(),
            (Self::Edit { new, .. }, "newstring" | "newstr") => (*new).to_owned(),
            (Self::Shell { command }, "command" | "cmd") => (*command).to_owned(),
            _ => return None,
        };
        Some(value.into())
    }
}

fn is_required(schema: &Value, name: &str) -> bool {
    let required = schema.get("required").and_then(Value::as_array);
    required.is_some_and(|required| required.iter().any(|one| one == name))
}

/// The smallest value that fits a schema.
pub(super) fn example(schema: &Value, name: &str) -> Value {
    if let Some(value) = schema.get("const") {
        return value.clone();
    }
    if let Some(first) = schema.get("enum").and_then(|all| all.get(0)) {
        return first.clone();
    }
    let choices = schema.get("anyOf").or_else(|| schema.get("oneOf"));
    if let Some(first) = choices.and_then(|all| all.get(0)) {
        return example(first, name);
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    let kind = schema.get("type").map_or_else(String::new, |kind| {
        kind.as_str()
            .or_else(|| kind.get(0)?.as_str())
            .unwrap_or_default()
            .to_lowercase()
    });
    match kind.as_str() {
        "array" => json!([example(schema.get("items").unwrap_or(&Value::Null), name)]),
        "boolean" => Value::Bool(false),
        "integer" | "number" => schema.get("minimum").cloned().unwrap_or_else(|| json!(1)),
        "object" | "" if properties.is_some() || kind == "object" => {
            let all_required = schema.get("required").is_none();
            let mut object = Map::new();
            for (name, schema_of_it) in properties.into_iter().flatten() {
                if all_required || is_required(schema, name) {
                    object.insert(name.clone(), example(schema_of_it, name));
                }
            }
            Value::Object(object)
        }
        _ => Value::String(name.to_owned()),
    }
}

fn absolute(path: &str, talk: &Talk) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    match working_directory(&talk.everything()) {
        Some(folder) => format!("{}/{path}", folder.trim_end_matches('/')),
        None => path.to_owned(),
    }
}

/// Where the agent says it works: the last absolute path that follows one of the phrases agents
/// use for it.
fn working_directory(text: &str) -> Option<&str> {
    let lower = text.to_ascii_lowercase();
    WHERE.iter().find_map(|phrase| {
        lower
            .rmatch_indices(phrase)
            .find_map(|(at, _)| path_behind(text.get(at + phrase.len()..)?))
    })
}

fn path_behind(text: &str) -> Option<&str> {
    let slash = text.find('/').filter(|slash| *slash <= MAX_BETWEEN)?;
    let before = text.get(..slash)?;
    if !before.ends_with(|c: char| c.is_whitespace() || "`'\"".contains(c)) {
        return None;
    }
    let path = text.get(slash..)?;
    let end = path.find(|c: char| c.is_whitespace() || "`'\"<>),*".contains(c));
    let path = end.map_or(Some(path), |end| path.get(..end))?;
    Some(path.trim_end_matches(['.', ';', ':']))
}

/// How agents say where they work, the surest first.
const WHERE: [&str; 3] = [
    "working directory",
    "workspace directories",
    "working in the directory",
];
/// Most bytes between such a phrase and the path.
const MAX_BETWEEN: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn offering(name: &str, parameters: &[&str], required: &[&str], system: &str) -> Talk {
        let properties: Map<String, Value> = parameters
            .iter()
            .map(|name| ((*name).to_owned(), json!({ "type": "string" })))
            .collect();
        let schema = json!({ "type": "object", "properties": properties, "required": required });
        let tools = vec![Tool {
            name: name.into(),
            schema,
        }];
        Talk {
            system: system.into(),
            tools,
            ..Talk::default()
        }
    }

    #[test]
    fn each_agents_own_spelling_is_filled_in() {
        let deed = Deed::Edit {
            path: "a.md",
            old: "x",
            new: "y",
        };
        for (name, parameters, wanted) in [
            (
                "Edit",
                ["file_path", "old_string", "new_string"],
                "Working directory: /w",
            ),
            (
                "replace",
                ["file_path", "old_string", "new_string"],
                "working in the directory: /w\n",
            ),
            (
                "edit",
                ["filePath", "oldString", "newString"],
                "  Working directory: /w\n",
            ),
            (
                "edit",
                ["path", "old_str", "new_str"],
                "* Current working directory: /w\n",
            ),
            (
                "patch",
                ["path", "old_string", "new_string"],
                "Current working directory: /w\n",
            ),
        ] {
            let talk = offering(name, &parameters, &parameters, wanted);
            let [path, old, new] = parameters;
            let input = json!({ path: "/w/a.md", old: "x", new: "y" });
            assert_eq!(
                deed.call(&talk),
                Some(Call {
                    name: name.into(),
                    input
                })
            );
        }
    }

    #[test]
    fn required_parameters_without_a_meaning_here_get_an_example() {
        let talk = offering(
            "bash",
            &["command", "description", "timeout"],
            &["description"],
            "",
        );
        let call = Deed::Shell { command: "ls" }.call(&talk).unwrap();
        assert_eq!(
            call.input,
            json!({ "command": "ls", "description": "description" })
        );
    }

    #[test]
    fn a_missing_tool_is_noticed() {
        let talk = offering("Glob", &[], &[], "");
        assert_eq!(Deed::Read { path: "a" }.call(&talk), None);
    }

    #[test]
    fn the_last_place_an_agent_names_wins() {
        let text = "Keep your working directory and/or stay. Primary working directory: /old\n\
                    Workspace Directories:**\n  - /other\n Working directory: `/new/place`.";
        assert_eq!(working_directory(text), Some("/new/place"));
        assert_eq!(working_directory("working directory"), None);
        assert_eq!(
            working_directory("**Workspace Directories:**\n  - /w/x\n"),
            Some("/w/x")
        );
    }

    #[test]
    fn examples_fit_their_schema() {
        let schema = json!({ "type": "OBJECT", "required": ["a", "b", "c"], "properties": {
            "a": { "type": "INTEGER" }, "b": { "type": ["array", "null"], "items": {} },
            "c": { "anyOf": [{ "enum": ["flash"] }] }, "d": {},
        } });
        assert_eq!(
            example(&schema, "x"),
            json!({ "a": 1, "b": ["b"], "c": "flash" })
        );
    }
}
