//! The tools a model is offered, and what a call of one means. Pure.

use serde_json::{Map, Value, json};

/// What a call wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deed {
    /// Read lines of a file, the first one counted from 1.
    Read {
        path: String,
        from: usize,
        lines: usize,
    },
    /// Write a whole file.
    Write { path: String, content: String },
    /// Replace a text in a file.
    Edit {
        path: String,
        old: String,
        new: String,
        every: bool,
    },
    /// Find files by name.
    Glob { pattern: String, folder: String },
    /// Find lines in files.
    Grep {
        pattern: String,
        folder: String,
        only: Option<String>,
    },
}

impl Deed {
    /// Reads a call. What is wrong with it is said to the model.
    pub(super) fn read(name: &str, arguments: &str) -> Result<Self, String> {
        if !is_tool(name) {
            let names = TOOLS.map(|tool| tool.name).join(", ");
            return Err(format!("there is no such tool; there are {names}"));
        }
        let text = if arguments.trim().is_empty() {
            "{}"
        } else {
            arguments
        };
        let arguments: Value = serde_json::from_str(text)
            .map_err(|error| format!("the arguments are not JSON: {error}"))?;
        let Value::Object(fields) = arguments else {
            return Err("the arguments are not a JSON object".into());
        };
        let fields = Fields(&fields);
        Ok(match name {
            "read_file" => Self::Read {
                path: fields.text("path")?,
                from: fields.number("offset")?.unwrap_or(1).max(1),
                lines: fields.number("limit")?.unwrap_or(LINES).clamp(1, LINES),
            },
            "write_file" => Self::Write {
                path: fields.text("path")?,
                content: fields.text("content")?,
            },
            "edit_file" => Self::Edit {
                path: fields.text("path")?,
                old: fields.text("old_string")?,
                new: fields.text("new_string")?,
                every: fields.is_on("replace_all"),
            },
            "glob_files" => Self::Glob {
                pattern: fields.text("pattern")?,
                folder: fields.optional("path")?.unwrap_or_default(),
            },
            _ => Self::Grep {
                pattern: fields.text("pattern")?,
                folder: fields.optional("path")?.unwrap_or_default(),
                only: fields.optional("glob")?,
            },
        })
    }

    /// What a person reads.
    pub(super) fn title(&self) -> String {
        match self {
            Self::Read { path, .. } => format!("Read {path}"),
            Self::Write { path, .. } => format!("Write {path}"),
            Self::Edit { path, .. } => format!("Edit {path}"),
            Self::Glob { pattern, folder } => format!("Find files {pattern}{}", within(folder)),
            Self::Grep {
                pattern, folder, ..
            } => format!("Search {pattern}{}", within(folder)),
        }
    }

    /// Its sort, as the Agent Client Protocol names it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Read { .. } => "read",
            Self::Write { .. } | Self::Edit { .. } => "edit",
            Self::Glob { .. } | Self::Grep { .. } => "search",
        }
    }

    /// The file or folder it is about, as the model named it.
    pub(super) fn path(&self) -> &str {
        match self {
            Self::Read { path, .. } | Self::Write { path, .. } | Self::Edit { path, .. } => path,
            Self::Glob { folder, .. } | Self::Grep { folder, .. } => folder,
        }
    }

    /// Whether it changes a file.
    pub(super) fn changes(&self) -> bool {
        match self {
            Self::Write { .. } | Self::Edit { .. } => true,
            Self::Read { .. } | Self::Glob { .. } | Self::Grep { .. } => false,
        }
    }
}

fn within(folder: &str) -> String {
    if folder.is_empty() {
        String::new()
    } else {
        format!(" in {folder}")
    }
}

/// The arguments of a call. Models mix up the spelling of names, never their meaning.
struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn find(&self, name: &str) -> Option<&Value> {
        let plain = |text: &str| text.replace(['_', '-'], "").to_ascii_lowercase();
        let alias = match name {
            "path" => "file_path",
            other => other,
        };
        let found = self.0.get(name).or_else(|| {
            let same = |key: &String| plain(key) == plain(name) || plain(key) == plain(alias);
            self.0.iter().find(|(key, _)| same(key)).map(|(_, v)| v)
        });
        found.filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Result<String, String> {
        self.optional(name)?
            .ok_or_else(|| format!("the argument {name} is missing"))
    }

    fn optional(&self, name: &str) -> Result<Option<String>, String> {
        match self.find(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(format!("the argument {name} is not a string")),
        }
    }

    fn number(&self, name: &str) -> Result<Option<usize>, String> {
        let Some(value) = self.find(name) else {
            return Ok(None);
        };
        let number = value
            .as_u64()
            .or_else(|| value.as_str()?.trim().parse().ok())
            .and_then(|number| usize::try_from(number).ok());
        number
            .map(Some)
            .ok_or_else(|| format!("the argument {name} is not a whole number"))
    }

    fn is_on(&self, name: &str) -> bool {
        self.find(name)
            .is_some_and(|value| value.as_bool() == Some(true) || value.as_str() == Some("true"))
    }
}

struct Tool {
    name: &'static str,
    does: &'static str,
    /// Name, type, meaning, whether it must be there.
    takes: &'static [(&'static str, &'static str, &'static str, bool)],
}

/// Whether a tool has this name.
pub(super) fn is_tool(name: &str) -> bool {
    TOOLS.iter().any(|tool| tool.name == name)
}

/// The tools as a request offers them.
pub(super) fn offer() -> Value {
    TOOLS
        .iter()
        .map(|tool| {
            json!({ "type": "function", "function": {
                "name": tool.name, "description": tool.does, "parameters": tool.schema(),
            } })
        })
        .collect()
}

/// The tools as text, for models that are offered none, and how they are called.
pub(super) fn described() -> String {
    let mut text = String::from(
        "To use a tool, end your message with one fenced block like this, and wait for the result:\n\
         \n```json\n{\"name\": \"read_file\", \"arguments\": {\"path\": \"README.md\"}}\n```\n\n\
         The tools:\n",
    );
    for tool in &TOOLS {
        let takes: Vec<String> = tool
            .takes
            .iter()
            .map(|(name, kind, means, must)| {
                let may = if *must { "" } else { ", optional" };
                format!("{name} ({kind}{may}: {means})")
            })
            .collect();
        text.push_str(&["- ", tool.name, ": ", tool.does].concat());
        text.push_str(&[" Arguments: ", &takes.join("; "), ".\n"].concat());
    }
    text
}

impl Tool {
    fn schema(&self) -> Value {
        let properties: Map<String, Value> = self
            .takes
            .iter()
            .map(|(name, kind, means, _)| {
                (
                    (*name).to_owned(),
                    json!({ "type": kind, "description": means }),
                )
            })
            .collect();
        let required: Vec<&str> = self
            .takes
            .iter()
            .filter(|(.., must)| *must)
            .map(|(name, ..)| *name)
            .collect();
        json!({ "type": "object", "properties": properties, "required": required })
    }
}

const PATH: (&str, &str, &str, bool) = (
    "path",
    "string",
    "the file, relative to the working directory",
    true,
);
const FOLDER: (&str, &str, &str, bool) = (
    "path",
    "string",
    "the folder to look in, by default the working directory",
    false,
);
const TOOLS: [Tool; 5] = [
    Tool {
        name: "read_file",
        does: "Reads a text file.",
        takes: &[
            PATH,
            ("offset", "integer", "the first line, counted from 1", false),
            ("limit", "integer", "how many lines at most", false),
        ],
    },
    Tool {
        name: "write_file",
        does: "Writes a whole text file; folders are made as needed.",
        takes: &[PATH, ("content", "string", "the whole new content", true)],
    },
    Tool {
        name: "edit_file",
        does: "Replaces a text that stands exactly once in a file.",
        takes: &[
            PATH,
            ("old_string", "string", "the text to replace, exactly", true),
            ("new_string", "string", "what stands there instead", true),
            (
                "replace_all",
                "boolean",
                "replace it wherever it stands",
                false,
            ),
        ],
    },
    Tool {
        name: "glob_files",
        does: "Lists files by name.",
        takes: &[
            (
                "pattern",
                "string",
                "such as *.md or src/**/*.rs; * stays within a folder, ** does not",
                true,
            ),
            FOLDER,
        ],
    },
    Tool {
        name: "grep_files",
        does: "Finds lines in text files.",
        takes: &[
            ("pattern", "string", "a regular expression", true),
            FOLDER,
            ("glob", "string", "only files of such names", false),
        ],
    },
];
/// Lines of a file that are read at once.
const LINES: usize = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_that_is_offered_can_be_called_by_its_schema() {
        let offer = offer();
        assert_eq!(offer.as_array().unwrap().len(), TOOLS.len());
        for tool in offer.as_array().unwrap() {
            let schema = &tool["function"]["parameters"];
            let arguments: Map<String, Value> = schema["properties"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, of)| {
                    let value = match of["type"].as_str().unwrap() {
                        "integer" => json!(3),
                        "boolean" => json!(true),
                        _ => json!("x"),
                    };
                    (name.clone(), value)
                })
                .collect();
            let name = tool["function"]["name"].as_str().unwrap();
            let deed = Deed::read(name, &Value::Object(arguments).to_string()).unwrap();
            assert!(!deed.title().is_empty());
            assert!(described().contains(name));
        }
    }

    #[test]
    fn spellings_of_other_programs_are_understood() {
        let deed = Deed::read(
            "edit_file",
            r#"{"filePath":"a","oldString":"x","new_string":"y","replaceAll":"true"}"#,
        );
        let wanted = Deed::Edit {
            path: "a".into(),
            old: "x".into(),
            new: "y".into(),
            every: true,
        };
        assert_eq!(deed, Ok(wanted));
    }

    #[test]
    fn what_is_wrong_with_a_call_is_said_to_the_model() {
        for (name, arguments, wrong) in [
            ("rm", "{}", "no such tool"),
            ("read_file", "{\"path\":", "not JSON"),
            ("read_file", "[1]", "not a JSON object"),
            ("read_file", "", "path is missing"),
            ("read_file", "{\"path\":7}", "path is not a string"),
            (
                "read_file",
                "{\"path\":\"a\",\"offset\":-1}",
                "offset is not a whole number",
            ),
        ] {
            let error = Deed::read(name, arguments).unwrap_err();
            assert!(error.contains(wrong), "{error}");
        }
    }
}
