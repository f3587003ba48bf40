//! Environment files: where they are looked for, what is taken from which, and how one is changed
//! without losing a line.
//!
//! Looked at in this order: `~/.ctrlnode/.env` and `<workspace>/.ctrlnode/.env`, both when both
//! exist; only when neither does, `./.env`, else `~/.env`. The first file that sets a key wins.
//! The pairing token and the URL are taken together from the first file that has a token. A
//! `./.env` may come with somebody's project: its token and URL count only when the file belongs
//! to the user and nobody else can write it, and then with a warning.

mod discovery;
mod edit;
mod text;

pub use discovery::{Discovery, EnvFile, Origin, Pairing, Places, Warning, discover};
pub use edit::{SetError, remove, set};
pub use text::{Disk, Files, Look, parse};
