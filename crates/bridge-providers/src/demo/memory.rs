//! What the demo agent remembers of a conversation, so that another process can continue it: one
//! small file per session in a folder it is given, none without one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

/// The earlier prompts of one session.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) prompts: Vec<String>,
    file: Option<PathBuf>,
}

impl Memory {
    /// Begins a session and gives it an id that no other session in the folder has.
    pub(crate) fn begin(folder: Option<&Path>, serial: u64) -> io::Result<(String, Self)> {
        let process = std::process::id();
        let Some(folder) = folder else {
            return Ok((
                format!("demo-{process}-{serial}"),
                Self {
                    prompts: Vec::new(),
                    file: None,
                },
            ));
        };
        fs::create_dir_all(folder)?;
        for n in serial.. {
            let id = format!("demo-{process}-{n}");
            let file = path_of(folder, &id);
            match fs::File::create_new(&file) {
                Ok(_) => {
                    let memory = Self {
                        prompts: Vec::new(),
                        file: Some(file),
                    };
                    memory.save()?;
                    return Ok((id, memory));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("no session id is left"))
    }

    /// Finds a session again; `None` if there is none of this name.
    pub(crate) fn find(folder: &Path, id: &str) -> Option<Self> {
        let plain = id.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
        if !plain || id.len() > 64 {
            return None;
        }
        let file = path_of(folder, id);
        let value: Value = serde_json::from_slice(&fs::read(&file).ok()?).ok()?;
        let prompts = value.get("prompts")?.as_array()?;
        let prompts = prompts
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        Some(Self {
            prompts,
            file: Some(file),
        })
    }

    /// Remembers one more prompt, and forgets the oldest of many.
    pub(crate) fn add(&mut self, prompt: &str) -> io::Result<()> {
        if self.prompts.len() == KEPT {
            self.prompts.remove(0);
        }
        self.prompts.push(prompt.to_owned());
        self.save()
    }

    fn save(&self) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        fs::write(file, json!({ "prompts": self.prompts }).to_string())
    }
}

fn path_of(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.json"))
}

const KEPT: usize = 50;
