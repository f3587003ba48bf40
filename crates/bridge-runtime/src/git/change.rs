//! Changes of a repository: what was asked is checked before git is started, and nothing that the
//! repository brings with it runs unless its owner trusts it.

use bridge_proto::model::{GitFault, GitOperation, GitStep};
use bridge_workspace::git::{
    BranchFault, BranchName, GitCommand, Hooks, NoPlace, Porcelain, SettingsError, Submodules,
};

use super::job::{Job, Opened, kept, shown, spoken};

/// An operation with values that git can be given.
enum Change<'a> {
    Init,
    Commit(&'a str),
    Fetch,
    Pull,
    Push,
    Checkout(BranchName),
    CreateBranch(BranchName, Option<BranchName>),
}

impl<'a> Change<'a> {
    fn parse(operation: &'a GitOperation) -> Result<Self, GitFault> {
        let invalid = |fault: BranchFault| GitFault::Said(fault.to_string());
        match operation {
            GitOperation::Init => Ok(Self::Init),
            GitOperation::Commit { message } if message.is_empty() => Err(GitFault::MissingMessage),
            GitOperation::Commit { message }
                if message.len() > MAX_MESSAGE_BYTES || message.contains('\0') =>
            {
                Err(GitFault::Said(format!(
                    "a commit message has at most {MAX_MESSAGE_BYTES} bytes and no NUL"
                )))
            }
            GitOperation::Commit { message } => Ok(Self::Commit(message)),
            GitOperation::Fetch => Ok(Self::Fetch),
            GitOperation::Pull => Ok(Self::Pull),
            GitOperation::Push => Ok(Self::Push),
            GitOperation::Checkout { branch } | GitOperation::CreateBranch { branch, .. }
                if branch.is_empty() =>
            {
                Err(GitFault::MissingBranch)
            }
            GitOperation::Checkout { branch } => {
                Ok(Self::Checkout(BranchName::parse(branch).map_err(invalid)?))
            }
            GitOperation::CreateBranch { branch, base } => {
                let base = base.as_deref().map(BranchName::parse).transpose();
                Ok(Self::CreateBranch(
                    BranchName::parse_new(branch).map_err(invalid)?,
                    base.map_err(invalid)?,
                ))
            }
            GitOperation::Unsupported { .. } => Err(GitFault::UnsupportedOperation),
        }
    }
}

impl Job<'_> {
    pub(super) async fn operation(
        &self,
        path: &str,
        operation: &GitOperation,
    ) -> Result<String, GitFault> {
        let change = Change::parse(operation);
        if let Err(GitFault::UnsupportedOperation) = change {
            return Err(GitFault::UnsupportedOperation);
        }
        self.tools
            .workspace
            .git_is_kept()
            .map_err(|policy| GitFault::Said(kept(policy)))?;
        let place = self.place(path).await?;
        if place == Err(NoPlace::Refused) {
            return Err(GitFault::InvalidPath);
        }
        let change = change?;
        let place = match (place, &change) {
            (Ok(place), _) => place,
            (Err(_), Change::Init) => return Err(GitFault::NoFolder),
            (Err(_), _) => return Err(GitFault::NotARepository),
        };
        if let Change::Init = change {
            let path = path.to_owned();
            let new = self.blocking(move |workspace| workspace.git_new_place(&path));
            let place = new.await?.map_err(|_| GitFault::InvalidPath)?;
            return self.change(GitCommand::init(&place), GitStep::Init).await;
        }
        let opened = self.open_at(place).await?;
        let hooks = opened.hooks().map_err(GitFault::Said)?;
        self.refuse_links(&opened, hooks).await?;
        let inside = self.submodules(&opened, hooks).await?;
        let Opened { place, tree, .. } = &opened;
        let (command, step) = match &change {
            Change::Init => (GitCommand::init(place), GitStep::Init),
            Change::Commit(message) => {
                return self.commit(&opened, hooks, &inside, message).await;
            }
            Change::Fetch => (GitCommand::fetch(place, tree, hooks), GitStep::Transfer),
            Change::Pull => (GitCommand::pull(place, tree, hooks), GitStep::Transfer),
            Change::Push => (GitCommand::push(place, tree, hooks), GitStep::Transfer),
            Change::Checkout(branch) => (
                GitCommand::checkout(place, tree, hooks, branch),
                GitStep::Checkout,
            ),
            Change::CreateBranch(branch, base) => (
                GitCommand::create_branch(place, tree, hooks, branch, base.as_ref()),
                GitStep::CreateBranch,
            ),
        };
        self.change(command.without_submodules(&inside), step).await
    }

    /// Stages everything and commits it, unless a new file among it is a key or a login.
    async fn commit(
        &self,
        opened: &Opened,
        hooks: Hooks,
        inside: &Submodules,
        message: &str,
    ) -> Result<String, GitFault> {
        let Opened {
            place,
            tree,
            settings,
            trusted,
        } = opened;
        let mut status = GitCommand::status(place, tree);
        if !trusted {
            status = status.without_filters(settings);
        }
        let porcelain = Porcelain::parse(&self.look(status).await?)
            .map_err(|error| GitFault::Said(error.to_string()))?;
        // Also what somebody staged before: it would be in the same commit.
        let new = porcelain.files.iter().filter(|file| file.is_new());
        let names = new.map(|file| file.path.as_str());
        if let Some((name, what)) = self.tools.workspace.protected_file(tree, names) {
            return Err(GitFault::Said(format!(
                "nothing was committed: {name} is new and a protected place ({what}); ignore it, or commit it on the machine itself"
            )));
        }
        let add = GitCommand::add_all(place, tree, hooks, inside).without_submodules(inside);
        self.change(add, GitStep::Add).await?;
        if !inside.links.is_empty() {
            let add = GitCommand::add_links(place, tree, hooks, inside);
            self.change(add, GitStep::Add).await?;
        }
        let command = GitCommand::commit(place, tree, hooks, message).without_submodules(inside);
        let said = self.run(command, self.tools.limits.time).await?;
        if said.code == Some(0) {
            Ok(shown(&String::from_utf8_lossy(&said.stdout)))
        } else {
            Err(spoken(&said, GitStep::Commit))
        }
    }

    /// A link among the files of git leads what is written elsewhere.
    async fn refuse_links(&self, opened: &Opened, hooks: Hooks) -> Result<(), GitFault> {
        if hooks == Hooks::AsSet {
            return Ok(());
        }
        let tree = opened.tree.clone();
        match self.blocking(move |_| tree.link_inside_git()).await? {
            Ok(None) => Ok(()),
            Ok(Some(link)) => Err(GitFault::Said(format!(
                "{} is a link, so that git could write anywhere; name the repository in CTRLNODE_TRUSTED on the machine if you trust it",
                link.display()
            ))),
            Err(error) => Err(GitFault::Said(format!(
                "the repository cannot be read: {error}"
            ))),
        }
    }

    /// What must be known of the repositories inside, so that they are not entered. A repository
    /// that is trusted may enter its own.
    async fn submodules(&self, opened: &Opened, hooks: Hooks) -> Result<Submodules, GitFault> {
        let mut inside = Submodules::default();
        if hooks == Hooks::AsSet {
            return Ok(inside);
        }
        let Opened { place, tree, .. } = opened;
        inside.names.clone_from(&opened.settings.submodules);
        let listed = GitCommand::list_submodules(place, tree);
        let listed = self.run(listed, self.left()?).await?;
        // Without the file, and with one that cannot be read, git knows no names either.
        if listed.code == Some(0) {
            inside.note_names(&listed.stdout).map_err(unreadable)?;
        }
        let listed = self.look(GitCommand::list_index(place, tree)).await?;
        inside.note_links(&listed).map_err(unreadable)?;
        if inside.links.len() > MAX_SUBMODULES {
            return Err(GitFault::Said(format!(
                "more than {MAX_SUBMODULES} repositories are inside of this one"
            )));
        }
        Ok(inside)
    }
}

impl Opened {
    /// Whether hooks run; or why nothing may be changed here from outside.
    fn hooks(&self) -> Result<Hooks, String> {
        if self.trusted {
            return Ok(Hooks::AsSet);
        }
        if self.settings.doubtful.is_empty() {
            return Ok(Hooks::Off);
        }
        let doubtful: Vec<&str> = self
            .settings
            .doubtful
            .iter()
            .take(SHOWN_SETTINGS)
            .map(String::as_str)
            .collect();
        Err(format!(
            "settings of this repository itself may start programs or reach other places ({}); name it in CTRLNODE_TRUSTED on the machine if you trust it",
            shown(&doubtful.join(", "))
        ))
    }
}

/// Enough to see what it is about.
const SHOWN_SETTINGS: usize = 5;

/// Their names are arguments of one program.
const MAX_SUBMODULES: usize = 500;

/// Longer than a person writes, and short enough for one argument of a program.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

fn unreadable(error: SettingsError) -> GitFault {
    GitFault::Said(error.to_string())
}
