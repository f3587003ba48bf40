//! The built-in agent: this same binary as a child process that speaks the Agent Client Protocol.
//! It needs nothing installed, no login and no network, and always says the same.
//!
//! A line of the prompt that begins with `#demo` tells it what to do:
//!
//! | directive | what it does |
//! | --- | --- |
//! | `#demo ask [write]` | asks a permission before it runs a command (or before it writes); so do the words "ask me" and "ask permission" |
//! | `#demo slow [seconds]` | works this long (30), saying something twice a second |
//! | `#demo silent [seconds]` | says nothing for this long (90) |
//! | `#demo long N` | answers in N pieces without pauses |
//! | `#demo fail [code] [reason]` | begins an answer, then the prompt fails with this error |
//! | `#demo crash` | begins an answer, then ends with exit code 3 |
//! | `#demo shell [seconds]` | starts a real `sleep` (300) in a session of its own, ended on a cancel (Unix) |
//! | `#demo stubborn` | listens neither to a cancel nor to the end of its input |
//! | `#demo remember` | says what the earlier prompts of the conversation were |
//! | `#demo noise` | prints lines that are not the protocol, unknown updates and an unknown request |
//! | `#demo bigline N` | prints one line of N bytes |
//! | `#demo fast` | makes no pauses |
//! | `#demo nofile` | writes no file |
//!
//! The file it writes is `output/answer.md` in its working directory; in a repository (a folder
//! with `.git`) without an `output` folder it is `answer.md`.

mod agent;
mod memory;
mod provider;
mod script;
mod turn;
mod wording;

pub use agent::{DemoEnd, DemoSettings, run};
pub use provider::DemoProvider;
