//! Environment files: where they are found, which value wins, how they are changed.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use std::{
    collections::BTreeMap,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use bridge_workspace::env_file::{
    Discovery, Disk, Files, Look, Pairing, Places, SetError, Warning, discover, parse, remove, set,
};

/// A disk of the test's own: path, text, mode bits for others, owner.
#[derive(Default)]
struct Fake(BTreeMap<PathBuf, Look>);

impl Fake {
    fn with(mut self, path: &str, text: &str) -> Self {
        let look = Look::File {
            text: text.into(),
            mine: true,
            writable_by_others: false,
            readable_by_others: false,
        };
        self.0.insert(path.into(), look);
        self
    }

    fn not_mine(mut self, path: &str, text: &str) -> Self {
        let look = Look::File {
            text: text.into(),
            mine: false,
            writable_by_others: false,
            readable_by_others: false,
        };
        self.0.insert(path.into(), look);
        self
    }

    fn open_to_others(mut self, path: &str, text: &str) -> Self {
        let look = Look::File {
            text: text.into(),
            mine: true,
            writable_by_others: true,
            readable_by_others: true,
        };
        self.0.insert(path.into(), look);
        self
    }

    fn discover(&self) -> Discovery {
        discover(self, &places())
    }
}

impl Files for Fake {
    fn look(&self, path: &Path) -> Look {
        self.0.get(path).cloned().unwrap_or(Look::Absent)
    }
}

fn places() -> Places {
    Places {
        home: Some("/h".into()),
        base: Some("/w".into()),
        current: "/p".into(),
    }
}

fn used(found: &Discovery) -> Vec<&str> {
    found
        .files
        .iter()
        .map(|file| file.path.to_str().unwrap())
        .collect()
}

fn facts(pairing: &Pairing) -> (Option<&str>, Option<&str>, Option<&str>) {
    (
        pairing.token.as_ref().map(bridge_proto::Secret::expose),
        pairing.url.as_deref(),
        pairing.file.as_ref().map(|path| path.to_str().unwrap()),
    )
}

const HOME: &str = "/h/.ctrlnode/.env";
const WORK: &str = "/w/.ctrlnode/.env";
const HERE: &str = "/p/.env";
const PLAIN: &str = "/h/.env";

#[test]
fn files_are_looked_for_in_the_documented_order() {
    let all = || Fake::default().with(HERE, "A=3").with(PLAIN, "A=4");
    assert_eq!(
        used(&all().with(HOME, "A=1").with(WORK, "A=2").discover()),
        [HOME, WORK]
    );
    assert_eq!(used(&all().with(WORK, "A=2").discover()), [WORK]);
    assert_eq!(used(&all().discover()), [HERE]);
    assert_eq!(
        used(&Fake::default().with(PLAIN, "A=4").discover()),
        [PLAIN]
    );
    let none = Fake::default().discover();
    let looked: Vec<_> = none
        .looked
        .iter()
        .map(|(path, there)| (path.to_str().unwrap(), *there))
        .collect();
    assert_eq!(
        looked,
        [(HOME, false), (WORK, false), (HERE, false), (PLAIN, false)]
    );
    assert_eq!(none.files, []);
}

#[test]
fn the_workspace_comes_from_the_home_file_when_nothing_else_names_it() {
    let disk = Fake::default()
        .with(HOME, "BASE_PATH=/named")
        .with("/named/.ctrlnode/.env", "A=1");
    let found = discover(
        &disk,
        &Places {
            base: None,
            ..places()
        },
    );
    assert_eq!(used(&found), [HOME, "/named/.ctrlnode/.env"]);
    let found = discover(
        &disk,
        &Places {
            base: Some("/h".into()),
            ..places()
        },
    );
    assert_eq!(used(&found), [HOME], "one file is not read twice");
}

#[test]
fn a_tilde_is_the_home_folder() {
    let disk = Fake::default()
        .with(HOME, "BASE_PATH=~/named")
        .with("/h/named/.ctrlnode/.env", "A=1");
    let places = Places {
        base: None,
        ..places()
    };
    assert_eq!(
        used(&discover(&disk, &places)),
        [HOME, "/h/named/.ctrlnode/.env"]
    );
    for (text, path) in [("~", "/h"), ("~/a", "/h/a"), ("~a", "~a"), ("/~", "/~")] {
        assert_eq!(places.path(text), Path::new(path), "{text}");
    }
}

#[test]
fn the_environment_wins_but_not_over_the_base_of_a_file_of_our_own() {
    let ours = Fake::default()
        .with(HOME, "BASE_PATH=/f\nDEBUG=1\nEMPTY=")
        .discover();
    let value = |found: &Discovery, key, environment| {
        found
            .value(key, environment)
            .map(|value| value.expose().to_owned())
    };
    assert_eq!(value(&ours, "BASE_PATH", Some("/e")).as_deref(), Some("/f"));
    assert_eq!(value(&ours, "DEBUG", Some("0")).as_deref(), Some("0"));
    assert_eq!(value(&ours, "DEBUG", Some("")).as_deref(), Some("1"));
    assert_eq!(value(&ours, "DEBUG", None).as_deref(), Some("1"));
    assert_eq!(value(&ours, "EMPTY", None), None);
    let other = Fake::default().with(HERE, "BASE_PATH=/f").discover();
    assert_eq!(
        value(&other, "BASE_PATH", Some("/e")).as_deref(),
        Some("/e")
    );
}

#[test]
fn token_and_url_come_together_from_one_file() {
    let found = Fake::default()
        .with(HOME, "SAAS_URL=wss://home\n")
        .with(WORK, "PAIRING_TOKEN=work\nSAAS_URL=wss://work\n")
        .discover();
    let pairing = found.pairing(None, None);
    assert_eq!(
        facts(&pairing),
        (Some("work"), Some("wss://work"), Some(WORK))
    );
    assert_eq!(
        found.warnings,
        [
            Warning::UrlWithoutToken { path: HOME.into() },
            Warning::FromProject { path: WORK.into() }
        ]
    );
    // Where agents work nobody takes the pairing over from the environment.
    let pairing = found.pairing(Some("env"), Some("wss://env"));
    assert_eq!(facts(&pairing), (Some("env"), Some("wss://env"), None));
    let found = Fake::default()
        .open_to_others(WORK, "PAIRING_TOKEN=work\nSAAS_URL=wss://work\n")
        .discover();
    assert_eq!(facts(&found.pairing(None, None)), (None, None, None));
    // A machine that is not paired any more knows where it was.
    let found = Fake::default().with(HOME, "SAAS_URL=wss://home").discover();
    assert_eq!(
        facts(&found.pairing(None, None)),
        (None, Some("wss://home"), None)
    );
    assert_eq!(found.warnings, []);

    let found = Fake::default().with(HOME, "PAIRING_TOKEN=home").discover();
    assert_eq!(
        facts(&found.pairing(Some("env"), Some("wss://env"))),
        (Some("home"), Some("wss://env"), Some(HOME))
    );
    assert_eq!(
        facts(&found.pairing(None, None)),
        (Some("home"), None, Some(HOME))
    );
}

#[test]
fn a_project_cannot_send_the_users_token_to_its_own_url() {
    let found = Fake::default().with(HERE, "SAAS_URL=wss://evil").discover();
    assert_eq!(
        facts(&found.pairing(Some("env"), None)),
        (Some("env"), None, None)
    );
    assert_eq!(
        found.warnings,
        [Warning::UrlWithoutToken { path: HERE.into() }]
    );
}

#[test]
fn the_file_of_the_current_folder_counts_only_when_it_is_the_users_own() {
    let text = "PAIRING_TOKEN=t\nSAAS_URL=wss://x\nHEARTBEAT_MS=1";
    let trusted = Fake::default().with(HERE, text).discover();
    assert_eq!(
        facts(&trusted.pairing(None, None)),
        (Some("t"), Some("wss://x"), Some(HERE))
    );
    assert_eq!(
        trusted.warnings,
        [Warning::FromProject { path: HERE.into() }]
    );
    assert_eq!(
        facts(&trusted.pairing(Some("env"), None)),
        (Some("env"), None, None)
    );

    for disk in [
        Fake::default().not_mine(HERE, text),
        Fake::default().open_to_others(HERE, text),
    ] {
        let found = disk.discover();
        assert_eq!(facts(&found.pairing(None, None)), (None, None, None));
        assert_eq!(found.warnings, [Warning::NotTrusted { path: HERE.into() }]);
        assert!(
            found.value("HEARTBEAT_MS", None).is_some(),
            "the rest is used"
        );
    }
}

#[test]
fn files_where_agents_and_projects_write_decide_nothing_about_this_machine() {
    let text = "BASE_PATH=/ws\nCTRLNODE_AGENT_X=sh -c evil\nCTRLNODE_COMMANDS=allow\nCTRLNODE_RULES_FILE=/evil\n\
        CLAUDE_SDK_EXECUTABLE=/evil\nOLLAMA_HOST=evil.example\nSSL_CERT_FILE=/evil\nDATABASE_URL=x\nCTRLNODE_AGENT_EVIL_API_KEY=/evil\n\
        NODE_OPTIONS=--require=/evil\nANTHROPIC_API_KEY=k\nCTRLNODE_PARALLEL=2\n";
    for path in [WORK, HERE] {
        let found = Fake::default().with(path, text).discover();
        assert_eq!(used(&found), [path]);
        let keys: Vec<_> = found.files[0].keys().collect();
        assert_eq!(keys, ["CTRLNODE_PARALLEL"], "{path}");
        let told: Vec<_> = found.warnings.iter().map(ToString::to_string).collect();
        let told = told
            .iter()
            .find(|told| told.starts_with("BASE_PATH, CTRLNODE_AGENT_X"));
        let told = told.expect("the user is told");
        assert!(
            told.contains("OLLAMA_HOST, SSL_CERT_FILE, CTRLNODE_AGENT_EVIL_API_KEY, ANTHROPIC"),
            "{told}"
        );
        assert!(!told.contains("DATABASE_URL") && told.contains("~/.ctrlnode/.env"));
    }
    let own = Fake::default().with(HOME, text).discover();
    assert_eq!(own.files[0].keys().count(), 12);
}

#[test]
fn an_exposed_token_and_an_unreadable_file_are_told() {
    let found = Fake::default()
        .open_to_others(HOME, "PAIRING_TOKEN=t")
        .discover();
    assert_eq!(found.warnings, [Warning::Exposed { path: HOME.into() }]);
    let mut disk = Fake::default();
    disk.0
        .insert(HOME.into(), Look::Unreadable("permission denied".into()));
    let found = disk.discover();
    assert_eq!(
        found.warnings[0].to_string(),
        "/h/.ctrlnode/.env cannot be read: permission denied"
    );
}

#[test]
fn nothing_prints_a_value() {
    let disk = Fake::default().with(HOME, "PAIRING_TOKEN=tok_123\nANTHROPIC_API_KEY=sk_456");
    let found = disk.discover();
    let printed = format!(
        "{found:?} {:?} {:?}",
        disk.look(HOME.as_ref()),
        found.pairing(None, None)
    );
    assert!(
        !printed.contains("tok_123") && !printed.contains("sk_456"),
        "{printed}"
    );
}

#[test]
fn lines_are_parsed_as_documented() {
    let text =
        "\u{feff}A=1\r\n\n# C=2\n  D = 3 \nE='x=y'\nF=\"q\nG=\"\"\nnothing\n=4\nexport H=5\nA=6";
    let got: Vec<(String, String)> = parse(text)
        .into_iter()
        .map(|(key, value)| (key, value.expose().to_owned()))
        .collect();
    let want = [
        ("A", "1"),
        ("D", "3"),
        ("E", "x=y"),
        ("F", "\"q"),
        ("G", ""),
        ("export H", "5"),
        ("A", "6"),
    ];
    assert_eq!(
        got,
        want.map(|(key, value)| (key.to_owned(), value.to_owned()))
    );
}

#[test]
fn setting_keeps_comments_order_and_unknown_lines() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(".env");
    let old = "# my settings\r\nA=1\n\nexport X=y\n  B = 2\nA=3\nlast without newline";
    std::fs::write(&path, old).unwrap();
    set(
        &path,
        &[
            ("A", "new"),
            ("B", ""),
            ("PAIRING_TOKEN", "t=1"),
            ("Q", "\"quoted\""),
        ],
    )
    .unwrap();
    let new = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        new,
        "# my settings\r\n\nexport X=y\n  B = 2\nA=new\nlast without newline\nPAIRING_TOKEN=t=1\nQ=\"\"quoted\"\"\n"
    );
    let values = parse(&new);
    assert!(
        values
            .iter()
            .any(|(key, value)| key == "Q" && value.expose() == "\"quoted\"")
    );
    set(&path, &[]).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), new);
}

#[test]
fn a_written_file_is_private_and_leaves_nothing_beside_it() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(".ctrlnode/.env");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    set(&path, &[("A", "1")]).unwrap();
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    set(&path, &[("A", "2")]).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(
        std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
        1
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "A=2\n");
}

#[test]
fn links_bad_names_and_several_lines_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let target = home.path().join("target");
    std::fs::write(&target, "A=1").unwrap();
    let link = home.path().join(".env");
    symlink(&target, &link).unwrap();
    assert!(matches!(
        set(&link, &[("A", "2")]),
        Err(SetError::Link { .. })
    ));
    std::fs::create_dir(home.path().join("real")).unwrap();
    symlink("real", home.path().join("linked")).unwrap();
    let inside = home.path().join("linked/.env");
    assert!(matches!(
        set(&inside, &[("A", "2")]),
        Err(SetError::Link { .. })
    ));
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "A=1");
    for key in ["", "a", "1A", "A B", "A=", "A\n"] {
        assert!(
            matches!(set(&target, &[(key, "x")]), Err(SetError::Key { .. })),
            "{key:?}"
        );
    }
    assert!(matches!(
        set(&target, &[("A", "x\nB=y")]),
        Err(SetError::Value { .. })
    ));
    assert!(matches!(
        set(home.path(), &[("A", "x")]),
        Err(SetError::Io { .. })
    ));
    std::fs::write(&target, b"\xff").unwrap();
    assert!(matches!(
        set(&target, &[("A", "x")]),
        Err(SetError::Io { .. })
    ));
}

#[test]
fn the_real_disk_tells_owner_permissions_and_what_is_no_file() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(".env");
    assert_eq!(Disk.look(&path), Look::Absent);
    assert_eq!(Disk.look(&path.join("deeper")), Look::Absent);
    std::fs::write(&path, "A=1").unwrap();
    for (mode, writable_by_others, readable_by_others) in [
        (0o600, false, false),
        (0o644, false, true),
        (0o662, true, false),
    ] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let expected = Look::File {
            text: "A=1".into(),
            mine: true,
            writable_by_others,
            readable_by_others: readable_by_others || mode & 0o044 != 0,
        };
        assert_eq!(Disk.look(&path), expected, "{mode:o}");
    }
    assert!(matches!(Disk.look(home.path()), Look::Unreadable(_)));
    std::fs::write(&path, b"\xff").unwrap();
    assert!(matches!(Disk.look(&path), Look::Unreadable(_)));
}

#[test]
fn a_key_that_is_removed_takes_its_lines_along_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".ctrlnode/.env");
    assert!(!remove(&path, &["PAIRING_TOKEN"]).unwrap());
    assert!(!path.exists(), "nothing is made");
    std::fs::create_dir(folder.path().join(".ctrlnode")).unwrap();
    let text =
        "# mine\nPAIRING_TOKEN=old\nSAAS_URL=wss://a\n PAIRING_TOKEN = \"new\"\nPAIRING_TOKENS=x";
    std::fs::write(&path, text).unwrap();
    assert!(remove(&path, &["PAIRING_TOKEN"]).unwrap());
    let left = std::fs::read_to_string(&path).unwrap();
    assert_eq!(left, "# mine\nSAAS_URL=wss://a\nPAIRING_TOKENS=x");
    assert!(!remove(&path, &["PAIRING_TOKEN"]).unwrap());
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
