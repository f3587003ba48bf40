//! What is protected by its name, one file of each place; what is protected by where it lies.

use super::*;

fn guard() -> Guard {
    let mut guard = Guard::new(Path::new("/ws"), Path::new("/ws/.ctrlnode"));
    guard.policy = ContentsPolicy::Workspace;
    guard
}

fn is_protected(kept: Result<(), Kept>) -> bool {
    matches!(kept, Err(Kept::Protected(_)))
}

#[test]
fn keys_and_logins_are_neither_read_nor_written_nor_worked_in() {
    let guard = guard();
    let stores = ["a/x.jks", "x.KDBX", "x.keystore", "x.p12", "x.pfx"];
    for file in NEVER_READ.iter().chain(&stores) {
        for path in [format!("/ws/a/{file}"), format!("/ws/a/b/{file}")] {
            let path = Path::new(&path);
            assert!(is_protected(guard.may_leave(path)), "{path:?} is read");
            assert!(is_protected(guard.may_write(path)), "{path:?} is written");
            assert!(
                is_protected(guard.may_work_in(path)),
                "{path:?} is worked in"
            );
            assert!(is_protected(guard.may_remove(path)), "{path:?} is removed");
            assert!(!guard.may_list(path, false), "{path:?} is listed");
        }
    }
}

#[test]
fn what_runs_by_itself_is_read_but_not_written() {
    let guard = guard();
    for file in NEVER_WRITTEN {
        for path in [format!("/ws/a/{file}"), format!("/ws/a/b/{file}")] {
            let path = Path::new(&path);
            assert_eq!(guard.may_leave(path), Ok(()), "{path:?} is read");
            assert!(is_protected(guard.may_write(path)), "{path:?} is written");
            assert!(is_protected(guard.may_remove(path)), "{path:?} is removed");
        }
    }
}

#[test]
fn every_protected_name_has_an_example_that_nothing_else_protects() {
    for (list, examples) in [(READ, NEVER_READ), (WRITE, NEVER_WRITTEN)] {
        for left_out in list {
            let others: Vec<_> = list.iter().filter(|place| *place != left_out).collect();
            let others: Vec<_> = others.into_iter().copied().collect();
            let others = by_first_name(&others);
            let free = |file: &&str| protected(&names(Path::new(file)), &others).is_ok();
            assert!(examples.iter().any(free), "{left_out:?} changes nothing");
        }
    }
}

#[test]
fn ordinary_files_of_a_project_are_read_and_written() {
    let guard = guard();
    for file in [
        "Makefile",
        "README.md",
        "package.json",
        "src/main.rs",
        ".gitignore",
        ".github/workflows/ci.yml",
        ".env.example",
        "configuration/a.toml",
        "keys/id_rsa.txt",
        "hub.json.md",
    ] {
        let path = Path::new("/ws/web").join(file);
        assert_eq!(guard.may_leave(&path), Ok(()), "{file}");
        assert_eq!(guard.may_write(&path), Ok(()), "{file}");
    }
}

#[test]
fn what_could_be_written_does_not_become_something_protected() {
    let guard = guard();
    let becomes = |old: &str, new: &str| guard.may_become(Path::new(old), Path::new(new));
    for (old, new) in [
        ("/ws/web/x/config.toml", "/ws/web/.cargo/config.toml"),
        ("/ws/x/fish/config.fish", "/ws/.config/fish/config.fish"),
        ("/ws/x/auth.json", "/ws/.codex/auth.json"),
    ] {
        assert!(is_protected(becomes(old, new)), "{old} becomes {new}");
    }
    assert_eq!(becomes("/ws/web/x/a.md", "/ws/web/y/a.md"), Ok(()));
}

#[test]
fn places_are_protected_by_where_they_lie() {
    let mut guard = guard();
    let place = |path: &str, keep| OwnPlace {
        path: path.into(),
        what: "mine",
        keep,
    };
    guard.protect(&[
        place("/ws/state", Keep::Always),
        place("/ws/cx/auth.json", Keep::Always),
        place("/ws/cx", Keep::FromWrites),
    ]);
    let mine = Err(Kept::Protected("mine"));
    for kept in ["state", "state/hub.lock", "STATE/data/x", "cx/auth.json"] {
        let path = Path::new("/ws").join(kept);
        assert_eq!(guard.may_leave(&path), mine, "{kept}");
        assert_eq!(guard.may_write(&path), mine, "{kept}");
        assert_eq!(guard.may_work_in(&path), mine, "{kept}");
        assert_eq!(guard.may_hold_objects(&path), mine, "{kept}");
        assert_eq!(guard.protects(&path), Some("mine"), "{kept}");
        assert!(!guard.may_list(&path, true), "{kept}");
    }
    let settings = Path::new("/ws/cx/config.toml");
    assert_eq!(guard.may_leave(settings), Ok(()));
    assert_eq!(guard.may_write(settings), mine);
    assert_eq!(guard.may_make_folder(Path::new("/ws/cx/rules")), mine);
    for around in ["/ws/cx", "/ws/state"] {
        assert!(guard.may_remove(Path::new(around)).is_err(), "{around}");
    }
    let (old, new) = (Path::new("/ws/a/x"), Path::new("/ws/cx/x"));
    assert_eq!(guard.may_become(old, new), mine);
    assert!(guard.may_become(Path::new("/ws/state/x"), old).is_err());
    assert_eq!(guard.may_write(Path::new("/ws/cxx/a")), Ok(()));
    assert_eq!(guard.may_remove(Path::new("/ws/other")), Ok(()));
}

#[test]
fn a_folder_that_holds_a_protected_place_is_not_removed() {
    let mut guard = guard();
    guard.protect(&[OwnPlace {
        path: "/ws/deep/er/state".into(),
        what: "mine",
        keep: Keep::Always,
    }]);
    for above in ["/ws/deep", "/ws/deep/er"] {
        assert_eq!(guard.may_remove(Path::new(above)), Err(Kept::Internal));
    }
}

#[test]
fn task_folders_in_a_protected_place_are_open() {
    let mut guard = Guard::new(Path::new("/ws"), Path::new("/ws/state/bridge"));
    let state = OwnPlace {
        path: "/ws/state".into(),
        what: "mine",
        keep: Keep::Always,
    };
    guard.protect(std::slice::from_ref(&state));
    let task = Path::new("/ws/state/bridge/tasks/a/output/x.md");
    assert_eq!(guard.may_leave(task), Ok(()));
    assert_eq!(guard.may_write(task), Ok(()));
    assert!(guard.may_list(Path::new("/ws/state/bridge/tasks"), true));
    guard.policy = ContentsPolicy::Workspace;
    let mine = Err(Kept::Protected("mine"));
    assert_eq!(guard.may_leave(Path::new("/ws/state/other")), mine);
    // Nothing would be left of this workspace.
    guard.protect(&[OwnPlace {
        path: "/ws".into(),
        ..state
    }]);
    assert_eq!(guard.may_write(Path::new("/ws/a")), Ok(()));
}

#[cfg(unix)]
#[test]
fn a_protected_place_is_known_by_its_real_path_too() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().canonicalize().unwrap();
    std::fs::create_dir(base.join("real")).unwrap();
    std::os::unix::fs::symlink("real", base.join("linked")).unwrap();
    let mut guard = Guard::new(&base, &base.join(".ctrlnode"));
    guard.policy = ContentsPolicy::Workspace;
    guard.protect(&[OwnPlace {
        path: base.join("linked/not/yet/auth.json"),
        what: "mine",
        keep: Keep::Always,
    }]);
    let real = base.join("real/not/yet/auth.json");
    assert_eq!(guard.may_leave(&real), Err(Kept::Protected("mine")));
}

const NEVER_READ: &[&str] = &[
    ".ssh/authorized_keys",
    "id_rsa",
    "id_ed25519",
    "id_ecdsa",
    "id_dsa",
    ".gnupg/private-keys-v1.d/key",
    ".aws/credentials",
    ".azure/accessTokens.json",
    ".config/gcloud/credentials.db",
    ".config/gh/hosts.yml",
    ".config/github-copilot/apps.json",
    ".kube/config",
    ".docker/config.json",
    ".netrc",
    "_netrc",
    ".git-credentials",
    ".pypirc",
    ".npmrc",
    ".pgpass",
    ".my.cnf",
    ".vault-token",
    ".config/rclone/rclone.conf",
    ".terraform.d/credentials.tfrc.json",
    ".m2/settings.xml",
    ".cargo/credentials",
    ".cargo/credentials.toml",
    ".password-store/mail.gpg",
    ".local/share/keyrings/login.keyring",
    ".local/share/kwalletd/kdewallet.kwl",
    ".pki/nssdb/key4.db",
    "library/keychains/login.keychain-db",
    "appdata/local/microsoft/credentials/A1",
    "appdata/roaming/microsoft/credentials/A1",
    "appdata/roaming/microsoft/protect/S-1/key",
    ".mozilla/firefox/p/logins.json",
    ".thunderbird/p/logins.json",
    ".config/google-chrome/Default/Cookies",
    ".config/chromium/Default/Cookies",
    ".config/bravesoftware/Brave-Browser/Default/Cookies",
    ".config/microsoft-edge/Default/Cookies",
    ".config/vivaldi/Default/Cookies",
    ".config/opera/Cookies",
    "library/safari/History.db",
    "library/cookies/Cookies.binarycookies",
    "library/application support/google/chrome/Default/Cookies",
    "library/application support/firefox/Profiles/p/logins.json",
    "library/application support/bravesoftware/Brave-Browser/Default/Cookies",
    "library/application support/microsoft edge/Default/Cookies",
    "appdata/local/google/chrome/user data/Default/Login Data",
    "appdata/local/microsoft/edge/user data/Default/Login Data",
    "appdata/roaming/mozilla/Firefox/Profiles/p/logins.json",
    ".ctrlnode/.env",
    "hub.json",
    "pairing.json",
    "hub.db",
    "hub.db-wal",
    "hub.db-shm",
    ".claude/.credentials.json",
    ".claude.json",
    ".codex/auth.json",
    ".gemini/oauth_creds.json",
    ".gemini/google_accounts.json",
    ".gemini/.env",
    ".copilot/config.json",
    ".config/cursor/auth.json",
    ".local/share/opencode/auth.json",
    ".hermes/.env",
    ".hermes/auth.json",
    ".hermes/profiles/p/.env",
    ".openclaw/openclaw.json",
    ".openclaw/.env",
    ".openclaw/agents/main/agent/auth-profiles.json",
    ".openclaw/credentials/whatsapp.json",
    ".openclaw/devices/paired.json",
    ".openclaw/identity/device.json",
];

const NEVER_WRITTEN: &[&str] = &[
    ".ctrlnode/rules.toml",
    ".ctrlnode/agents.toml",
    ".local/bin/tool",
    ".local/lib/python3/site-packages/usercustomize.py",
    ".local/share/applications/editor.desktop",
    ".cargo/bin/cargo",
    ".bun/bin/bun",
    ".deno/bin/deno",
    ".volta/bin/node",
    ".npm-global/bin/npm",
    ".nvm/nvm.sh",
    ".pyenv/shims/python",
    ".asdf/asdf.sh",
    ".rustup/settings.toml",
    ".local/share/pnpm/pnpm",
    ".local/share/mise/shims/node",
    ".profile",
    ".bashrc",
    ".bash_profile",
    ".bash_login",
    ".bash_logout",
    ".bash_aliases",
    ".zshrc",
    ".zshenv",
    ".zprofile",
    ".zlogin",
    ".zlogout",
    ".oh-my-zsh/custom/x.zsh",
    ".kshrc",
    ".mkshrc",
    ".cshrc",
    ".tcshrc",
    ".login",
    ".logout",
    ".inputrc",
    ".envrc",
    ".pam_environment",
    "documents/powershell/profile.ps1",
    "documents/windowspowershell/profile.ps1",
    ".xprofile",
    ".xinitrc",
    ".xsession",
    ".xsessionrc",
    ".local/share/systemd/user/x.service",
    ".local/share/dbus-1/services/x.service",
    "library/launchagents/x.plist",
    "start menu/programs/startup/x.bat",
    ".config/fish/config.fish",
    ".git/hooks/post-checkout",
    ".gitconfig",
    ".hg/hgrc",
    ".hgrc",
    ".jj/repo/config.toml",
    ".svn/wc.db",
    ".subversion/config",
    ".githooks/pre-commit",
    ".husky/pre-commit",
    ".pre-commit-config.yaml",
    "lefthook.yml",
    ".cargo/config",
    ".cargo/config.toml",
    ".yarnrc",
    ".yarnrc.yml",
    ".yarn/releases/yarn.cjs",
    ".yarn/plugins/x.cjs",
    ".pnpmfile.cjs",
    ".bundle/config",
    ".gemrc",
    ".gradle/init.d/x.gradle",
    ".gradle/init.gradle",
    ".mvn/jvm.config",
    ".mavenrc",
    ".bazelrc",
    ".mise.toml",
    "mise.toml",
    ".devcontainer/devcontainer.json",
    ".vimrc",
    ".vim/plugin/x.vim",
    ".exrc",
    ".nvimrc",
    ".nvim.lua",
    ".emacs",
    ".emacs.d/init.el",
    ".dir-locals.el",
    ".vscode/tasks.json",
    ".idea/workspace.xml",
    ".zed/tasks.json",
    ".tmux.conf",
    ".screenrc",
    ".gdbinit",
    ".lldbinit",
    ".irbrc",
    ".pryrc",
    ".pythonrc",
    ".pythonrc.py",
    ".ipython/profile_default/startup/x.py",
    ".jupyter/jupyter_server_config.py",
    ".rprofile",
    ".psqlrc",
    ".sqliterc",
    ".mongorc.js",
    ".curlrc",
    ".wgetrc",
    ".lessfilter",
    ".lesskey",
    ".mailcap",
    ".forward",
    ".procmailrc",
    ".ansible.cfg",
    ".mcp.json",
    ".claude/settings.json",
    ".codex/config.toml",
    ".gemini/settings.json",
    ".copilot/mcp-config.json",
    ".cursor/mcp.json",
    ".opencode/opencode.json",
    ".hermes/config.yaml",
    ".openclaw/hooks/x.js",
    ".windsurf/mcp.json",
    ".continue/config.yaml",
    ".aider.conf.yml",
];
