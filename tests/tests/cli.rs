//! The binary as a person uses it, in a home folder of its own.

#![cfg(unix)]

use std::{fs, os::unix::fs::PermissionsExt as _};

use bridge_testkit::home::{Finished, Home, Running};
use serde_json::Value;

/// A home with a hub and a bridge at work in it.
async fn up() -> (Home, Running) {
    let home = Home::new();
    let work = home.workspace().display().to_string();
    let running = Running::start(home.ctrlnode(&["up", "--port", "0", "--workspace", &work]));
    let address = running.line(|line| line.contains("/login?code=")).await;
    assert!(address.trim().starts_with("http://127.0.0.1:"), "{address}");
    // The page is there before the bridge has said hello.
    loop {
        let found = home
            .run(&["task", "run", "--agent", "demo", "#demo fast"], "")
            .await;
        if found.code == Some(0) {
            return (home, running);
        }
        assert_ne!(found.code, Some(3), "{found:?}");
    }
}

fn json(done: &Finished) -> Value {
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"))
}

#[tokio::test]
async fn help_and_version_go_to_standard_output() {
    let home = Home::new();
    let version = home.run(&["--version"], "").await;
    assert_eq!((version.code, version.stderr.as_str()), (Some(0), ""));
    assert!(version.stdout.starts_with("ctrlnode "), "{version:?}");
    let help = home.run(&["--help"], "").await;
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    for word in ["up", "task", "setup", "doctor", "Examples:", "Exit codes:"] {
        assert!(help.stdout.contains(word), "{word}");
    }
    assert!(!help.stdout.contains("demo-agent"), "an inner door");
    let run = home.run(&["task", "run", "--help"], "").await;
    assert!(run.stdout.contains("--repo"), "{run:?}");
}

#[tokio::test]
async fn wrong_arguments_exit_with_2_and_say_what_is_wrong() {
    let home = Home::new();
    for args in [
        &["fly"][..],
        &["--fly"],
        &["task"],
        &["task", "run"],
        &["up", "--port", "many"],
        &["task", "list", "--limit", "0"],
        &["completions", "basic"],
    ] {
        let done = home.run(args, "").await;
        assert_eq!(
            (done.code, done.stdout.as_str()),
            (Some(2), ""),
            "{args:?}: {done:?}"
        );
        assert!(!done.stderr.is_empty(), "{args:?}");
    }
}

#[tokio::test]
async fn a_mistake_in_the_rules_stops_everything_that_would_use_them_and_names_its_line() {
    let home = Home::new();
    let folder = home.path().join(".ctrlnode");
    fs::create_dir(&folder).unwrap();
    let rules = folder.join("rules.toml");
    let good = "[[rule]]\nmatches = \"git status*\"\ndecision = \"allow\"\n";
    fs::write(&rules, good).unwrap();
    let doctor = json(&home.run(&["doctor", "--json"], "").await);
    assert_eq!(doctor["rules"]["count"], 1, "{doctor}");
    fs::write(&rules, good.replace("allow", "alow")).unwrap();
    for command in [&["bridge", "start"][..], &["up"]] {
        let done = home.run(command, "").await;
        assert_eq!(done.code, Some(7), "{done:?}");
        assert!(
            done.stderr.contains("rules.toml cannot be used") && done.stderr.contains("line 3"),
            "{done:?}"
        );
    }
}

#[tokio::test]
async fn completions_are_printed_for_every_shell() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let done = home.run(&["completions", shell], "").await;
        assert_eq!(done.code, Some(0), "{shell}: {done:?}");
        assert!(done.stdout.contains("ctrlnode"), "{shell}");
    }
}

#[tokio::test]
async fn without_any_configuration_doctor_says_what_to_do_and_exits_with_7() {
    let home = Home::new();
    let done = home.run(&["doctor"], "").await;
    assert_eq!(done.code, Some(7), "{done:?}");
    assert!(done.stdout.contains("ctrlnode setup"), "{done:?}");
    assert!(done.stdout.contains("✓ demo"), "{done:?}");
    let report = json(&home.run(&["doctor", "--json"], "").await);
    assert_eq!(report["plane"]["token"], false);
    let agents = report["agents"].as_array().unwrap();
    assert!(
        agents
            .iter()
            .any(|agent| agent["agent"] == "demo" && agent["available"] == true)
    );
}

#[tokio::test]
async fn every_agent_that_doctor_names_has_a_section_on_the_page_of_providers() {
    let home = Home::new();
    let report = json(&home.run(&["doctor", "--json"], "").await);
    let page = include_str!("../../docs/providers.md");
    let headings: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("## "))
        .collect();
    let agents = report["agents"].as_array().unwrap();
    assert!(agents.len() > 10, "{report}");
    for agent in agents {
        let key = format!("(`{}`)", agent["agent"].as_str().unwrap());
        assert!(headings.iter().any(|line| line.contains(&key)), "{key}");
    }
}

#[tokio::test]
async fn a_bridge_that_is_not_paired_exits_with_7_and_the_way_out() {
    let home = Home::new();
    for args in [&[][..], &["bridge", "start"]] {
        let done = home.run(args, "").await;
        assert_eq!(done.code, Some(7), "{done:?}");
        assert!(
            done.stderr.contains("hint: run `ctrlnode setup`"),
            "{done:?}"
        );
    }
}

#[tokio::test]
async fn setup_without_questions_writes_a_private_file_and_keeps_its_comments() {
    let home = Home::new();
    let folder = home.path().join(".ctrlnode");
    let file = folder.join(".env");
    fs::create_dir(&folder).unwrap();
    fs::write(
        &file,
        "# mine\nGEMINI_API_KEY=abc # keep\nPAIRING_TOKEN=old\n",
    )
    .unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let work = home.workspace().display().to_string();
    let url = "ws://127.0.0.1:1/ws/bridge";
    let args = [
        "setup",
        "--token-stdin",
        "--workspace",
        &work,
        "--url",
        url,
        "--contents",
        "never",
    ];
    let done = home.run(&args, "tok_secret\n").await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(!done.stdout.contains("tok_secret") && !done.stderr.contains("tok_secret"));
    assert!(done.stderr.contains("✗ "), "it was tried out: {done:?}");
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        text.starts_with("# mine\nGEMINI_API_KEY=abc # keep\n"),
        "{text}"
    );
    assert!(text.contains("PAIRING_TOKEN=tok_secret"), "{text}");
    assert_eq!(text.matches("PAIRING_TOKEN").count(), 1, "{text}");
    assert!(text.contains(url) && text.contains(&work), "{text}");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );

    let report = json(&home.run(&["doctor", "--json"], "").await);
    assert_eq!(report["plane"]["token"], true, "{report}");
    assert_eq!(report["plane"]["url"], url);
    assert_eq!(report["plane"]["reachable"], false);
    assert!(!report.to_string().contains("tok_secret"));
}

#[tokio::test]
async fn setup_refuses_what_cannot_work_and_changes_nothing() {
    let home = Home::new();
    let work = home.workspace().display().to_string();
    let cases: [(&[&str], &str); 4] = [
        (&["--workspace", &work], ""),
        (&["--workspace", &work], "two words"),
        (
            &["--workspace", &work, "--url", "ws://hub.example.org"],
            "tok",
        ),
        (&["--workspace", "/does/not/exist"], "tok"),
    ];
    for (args, input) in cases {
        let args = [&["setup", "--token-stdin"], args].concat();
        let done = home.run(&args, input).await;
        assert_eq!(done.code, Some(1), "{args:?}: {done:?}");
        assert!(done.stderr.starts_with("error: "), "{done:?}");
        assert!(!home.path().join(".ctrlnode/.env").exists(), "{args:?}");
    }
}

#[tokio::test]
async fn without_a_hub_every_task_command_exits_with_6_and_says_how_to_start_one() {
    let home = Home::new();
    for args in [
        &["task", "run", "--agent", "demo", "x"][..],
        &["task", "list"],
        &["task", "show", "x"],
        &["task", "cancel", "x"],
        &["hub", "login"],
    ] {
        let done = home.run(args, "").await;
        assert_eq!(done.code, Some(6), "{args:?}: {done:?}");
        assert!(done.stderr.contains("ctrlnode up"), "{args:?}: {done:?}");
    }
}

#[tokio::test]
async fn a_task_streams_its_answer_to_standard_output_and_exits_as_it_ends() {
    let (home, mut running) = up().await;
    // What `up` prints works in another terminal as it stands there.
    let state = home.path().join("state");
    let hint = running.line(|line| line.contains("write a haiku")).await;
    let words: Vec<&str> = hint.split_whitespace().take(4).collect();
    let wanted = ["task", "--hub-state", &state.display().to_string()];
    assert_eq!(words.get(1..), Some(&wanted[..]), "{hint}");
    assert!(std::path::Path::new(words[0]).is_absolute(), "{hint}");
    let done = home
        .run(&["task", "run", "--agent", "demo", "write a haiku"], "")
        .await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(
        done.stdout.lines().filter(|line| !line.is_empty()).count(),
        3,
        "{done:?}"
    );
    assert!(done.stderr.contains("completed"), "{done:?}");

    let done = home
        .run(
            &["task", "run", "--agent", "demo", "-"],
            "#demo fail 500 out of tea",
        )
        .await;
    assert_eq!(done.code, Some(3), "{done:?}");
    assert!(done.stderr.contains("out of tea"), "{done:?}");

    let args = ["task", "run", "--agent", "demo", "--json", "#demo fast"];
    let done = home.run(&args, "").await;
    assert_eq!(done.code, Some(0), "{done:?}");
    let lines: Vec<Value> = done
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(lines.len() > 5, "{}", lines.len());
    assert!(lines.last().unwrap().to_string().contains("completed"));

    let done = home
        .run(&["task", "run", "--agent", "nobody", "x"], "")
        .await;
    assert!(!matches!(done.code, Some(0) | None), "{done:?}");
    assert!(done.stderr.starts_with("error: "), "{done:?}");
    assert_eq!(running.terminate().await, Some(0), "{}", running.told());
    home.none_left().await;
    let done = home.run(&["task", "list"], "").await;
    assert_eq!(
        done.code,
        Some(6),
        "the note of a hub that ended is gone: {done:?}"
    );
}

#[tokio::test]
async fn tasks_are_listed_shown_continued_and_read_again() {
    let (home, mut running) = up().await;
    let run = [
        "task",
        "run",
        "--agent",
        "demo",
        "#demo fast\nthe blue whale",
    ];
    assert_eq!(home.run(&run, "").await.code, Some(0));
    let list = json(&home.run(&["task", "list", "--json"], "").await);
    let id = list[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(list[0]["status"], "completed", "{list}");
    let plain = home.run(&["task", "list"], "").await;
    assert!(plain.stdout.contains(id.split_at(8).0), "{plain:?}");
    assert!(plain.stdout.contains("this machine"), "{plain:?}");
    // The first letters of an id are enough where they are one task's only.
    let show = home.run(&["task", "show", &id], "").await;
    assert!(show.stdout.contains("answer.md"), "{show:?}");
    let show = json(&home.run(&["task", "show", &id, "--json"], "").await);
    assert!(show.to_string().contains("the blue whale"), "{show}");
    let logs = home.run(&["task", "logs", &id, "--no-follow"], "").await;
    assert_eq!(logs.code, Some(0), "{logs:?}");
    assert!(logs.stdout.contains("> the blue whale"), "{logs:?}");
    let logs = home.run(&["task", "logs", &id, "--json"], "").await;
    let lines = logs
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let seqs: Vec<u64> = lines.map(|line| line["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted() && seqs.len() > 5, "{seqs:?}");
    let more = home
        .run(&["task", "follow-up", &id, "#demo remember"], "")
        .await;
    assert_eq!(more.code, Some(0), "{more:?}");
    assert!(more.stdout.contains("the blue whale"), "{more:?}");
    let logs = home.run(&["task", "logs", &id, "--no-follow"], "").await;
    assert!(logs.stderr.contains("you: #demo remember"), "{logs:?}");
    assert_eq!(running.terminate().await, Some(0));
}

#[tokio::test]
async fn a_question_is_answered_and_a_task_cancelled_from_another_terminal() {
    let (home, mut running) = up().await;
    let ask = home.ctrlnode(&[
        "task",
        "run",
        "--agent",
        "demo",
        "#demo fast\n#demo ask command",
    ]);
    let mut asking = Running::start(ask);
    let id = asking.line(|line| line.contains("task ")).await;
    let id = id.split_whitespace().last().unwrap().to_owned();
    asking.line(|line| line.contains("asks:")).await;
    let how = asking.line(|line| line.contains("waiting for your")).await;
    let short = id.split_at(8).0;
    assert!(how.contains(&format!("task answer {short} ")), "{how}");
    let wrong = home.run(&["task", "answer", &id, "perhaps"], "").await;
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    assert_eq!(
        home.run(&["task", "answer", &id, "1"], "").await.code,
        Some(0)
    );
    assert_eq!(asking.ended().await, Some(0), "{}", asking.told());

    let args = [
        "task",
        "run",
        "--agent",
        "demo",
        "--detach",
        "#demo slow 600",
    ];
    let started = home.run(&args, "").await;
    assert_eq!(started.code, Some(0), "{started:?}");
    let id = started.stdout.trim().to_owned();
    let mut following = Running::start(home.ctrlnode(&["task", "logs", &id]));
    following.line(|line| line.contains("Step 1")).await;
    assert_eq!(home.run(&["task", "cancel", &id], "").await.code, Some(0));
    assert_eq!(following.ended().await, Some(5), "{}", following.told());
    assert_eq!(running.terminate().await, Some(0));
}

#[tokio::test]
async fn a_task_in_a_repository_edits_it() {
    let (home, mut running) = up().await;
    let repo = home.repository("web").display().to_string();
    let args = [
        "task",
        "run",
        "--agent",
        "demo",
        "--repo",
        &repo,
        "#demo fast",
    ];
    let done = home.run(&args, "").await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(home.workspace().join("web/answer.md").is_file());
    let outside = home.path().display().to_string();
    let args = [
        "task",
        "run",
        "--agent",
        "demo",
        "--repo",
        &outside,
        "#demo fast",
    ];
    let done = home.run(&args, "").await;
    assert_eq!(done.code, Some(3), "{done:?}");
    assert!(done.stderr.contains("outside of the workspace"), "{done:?}");
    assert_eq!(running.terminate().await, Some(0));
}

#[tokio::test]
async fn a_task_is_followed_over_a_crash_of_the_hub() {
    let home = Home::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let serve = async || {
        let hub = home.ctrlnode(&["hub", "serve", "--listen", &address]);
        let hub = Running::start(hub);
        hub.line(|line| line.contains("/login?code=")).await;
        hub
    };
    let mut hub = serve().await;
    let made = home.run(&["hub", "token", "create", "laptop"], "").await;
    let mut bridge = home.ctrlnode(&[]);
    bridge
        .env("PAIRING_TOKEN", made.stdout.lines().next().unwrap())
        .env("SAAS_URL", format!("ws://{address}/ws/bridge"))
        .env("BASE_PATH", home.workspace());
    let mut bridge = Running::start(bridge);
    bridge.line(|line| line.contains("connected")).await;
    let first = ["task", "run", "--agent", "demo", "#demo fast"];
    while home.run(&first, "").await.code != Some(0) {}
    let prompt = "#demo slow 8\n#demo nofile";
    let mut task = Running::start(home.ctrlnode(&["task", "run", "--agent", "demo", prompt]));
    task.line(|line| line.contains("Step 2 of 16.")).await;
    hub.kill().await;
    task.line(|line| line.contains("waiting for the hub")).await;
    let mut hub = serve().await;
    assert_eq!(task.ended().await, Some(0), "{}", task.told());
    for step in 1..=16 {
        let step = format!("Step {step} of 16.");
        assert_eq!(task.told().matches(&step).count(), 1, "{}", task.told());
    }
    assert_eq!(bridge.terminate().await, Some(0));
    assert_eq!(hub.terminate().await, Some(0));
}

#[tokio::test]
async fn a_hub_and_a_bridge_pair_by_a_token() {
    let home = Home::new();
    let hub = home.ctrlnode(&["hub", "serve", "--listen", "127.0.0.1:0"]);
    let mut hub = Running::start(hub);
    hub.line(|line| line.contains("/login?code=")).await;
    let made = home.run(&["hub", "token", "create", "laptop"], "").await;
    assert_eq!(made.code, Some(0), "{made:?}");
    // What is redirected into a file is the token alone.
    let token = made.stdout.clone();
    assert_eq!(token.split_whitespace().count(), 1, "{made:?}");
    let words: Vec<&str> = made.stderr.split_whitespace().collect();
    let url = words.iter().find(|word| word.starts_with("ws://")).unwrap();
    let work = home.workspace().display().to_string();
    let setup = ["setup", "--token-stdin", "--workspace", &work, "--url", url];
    assert_eq!(home.run(&setup, &token).await.code, Some(0));
    let doctor = home.run(&["doctor"], "").await;
    assert_eq!(doctor.code, Some(0), "{doctor:?}");
    assert!(doctor.stdout.contains("✓ connected"), "{doctor:?}");
    let mut bridge = Running::start(home.ctrlnode(&[]));
    bridge.line(|line| line.contains("connected")).await;
    let listed = home.run(&["hub", "token", "list"], "").await;
    assert!(listed.stdout.contains("laptop"), "{listed:?}");
    assert!(!listed.stdout.contains(token.trim()), "shown once");
    // A second connection with the token would take the bridge off the hub.
    let doctor = json(&home.run(&["doctor", "--json"], "").await);
    assert_eq!(doctor["plane"]["reachable"], true, "{doctor}");
    assert!(
        doctor.to_string().contains("the bridge that runs"),
        "{doctor}"
    );
    // How the last run of an agent went is known without asking the hub.
    let failing = [
        "task",
        "run",
        "--agent",
        "demo",
        "#demo fail -1 boom-reason",
    ];
    assert_eq!(home.run(&failing, "").await.code, Some(3));
    let doctor = json(&home.run(&["doctor", "--json"], "").await);
    let agents = doctor["agents"].as_array().unwrap();
    let demo = agents.iter().find(|one| one["agent"] == "demo").unwrap();
    let reason = demo["trouble"]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("boom-reason"), "{doctor}");
    let told = home.run(&["doctor"], "").await.stdout;
    assert!(told.contains("last run: ") && told.contains("→ "), "{told}");
    let good = ["task", "run", "--agent", "demo", "#demo fast"];
    assert_eq!(home.run(&good, "").await.code, Some(0));
    let doctor = home.run(&["doctor"], "").await;
    assert!(!doctor.stdout.contains("boom-reason"), "{doctor:?}");
    let twice = home.run(&["hub", "token", "create", "laptop"], "").await;
    assert_eq!((twice.code, &*twice.stdout), (Some(1), ""), "{twice:?}");
    assert!(twice.stderr.contains("has a token already"), "{twice:?}");
    assert!(listed.stdout.contains("on line"), "{listed:?}");
    let listed = json(&home.run(&["hub", "token", "list", "--json"], "").await);
    assert_eq!(listed[0]["online"], true, "{listed}");
    let revoked = home.run(&["hub", "token", "revoke", "laptop"], "").await;
    assert_eq!(revoked.code, Some(0), "{revoked:?}");
    bridge
        .line(|line| line.contains("does not accept the pairing token"))
        .await;
    let refused = doctor_until(&home, "✗").await;
    assert!(refused.stdout.contains("ctrlnode setup"), "{refused:?}");
    assert_eq!(bridge.terminate().await, Some(0));
    assert!(!home.root().join("link.json").exists(), "its note is gone");
    assert_eq!(hub.terminate().await, Some(0));
}

#[tokio::test]
async fn a_hub_behind_a_proxy_prints_the_address_others_use() {
    let home = Home::new();
    let serve = [
        "hub",
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--public-origin",
        "https://hub.example.org",
    ];
    let mut hub = Running::start(home.ctrlnode(&serve));
    let page = "https://hub.example.org/login?code=";
    hub.line(|line| line.trim().starts_with(page)).await;
    let login = home.run(&["hub", "login"], "").await;
    assert!(login.stdout.starts_with(page), "{login:?}");
    let made = home.run(&["hub", "token", "create", "laptop"], "").await;
    let url = "--url wss://hub.example.org/ws/bridge ";
    assert!(made.stderr.contains(url), "{made:?}");
    assert!(!made.stderr.contains("127.0.0.1"), "{made:?}");
    assert_eq!(hub.terminate().await, Some(0));

    let mut hub = Running::start(home.ctrlnode(&["hub", "serve", "--listen", "127.0.0.1:0"]));
    hub.line(|line| line.contains("/login?code=")).await;
    let made = home.run(&["hub", "token", "create", "desk"], "").await;
    assert!(made.stderr.contains("--public-origin"), "{made:?}");
    assert_eq!(hub.terminate().await, Some(0));
}

/// `doctor`, once the mark before what it says of the plane is this one. The note it reads is
/// written beside the log, not before it.
async fn doctor_until(home: &Home, mark: &str) -> Finished {
    loop {
        let done = home.run(&["doctor"], "").await;
        let mut lines = done.stdout.lines();
        let said = lines
            .find(|line| line.starts_with("plane"))
            .and_then(|_| lines.next());
        if said.is_some_and(|line| line.contains(mark)) {
            return done;
        }
    }
}

#[tokio::test]
async fn doctor_beside_a_bridge_that_cannot_connect_says_so() {
    let home = Home::new();
    let mut bridge = home.bridge("ws://127.0.0.1:1/ws/bridge");
    bridge.line(|line| line.contains("not connected")).await;
    let folder = home.path().join(".ctrlnode");
    fs::create_dir(&folder).unwrap();
    let file = format!(
        "PAIRING_TOKEN=test-token\nSAAS_URL=ws://127.0.0.1:1/ws/bridge\nBASE_PATH={}\n",
        home.workspace().display()
    );
    fs::write(folder.join(".env"), file).unwrap();
    let done = doctor_until(&home, "✗").await;
    assert_eq!(done.code, Some(7), "{done:?}");
    assert!(done.stdout.contains("the bridge that runs"), "{done:?}");
    assert_eq!(bridge.terminate().await, Some(0));
}

#[tokio::test]
async fn doctor_beside_a_hub_of_its_own_says_that_no_pairing_is_needed() {
    let (home, mut running) = up().await;
    let done = home.run(&["doctor"], "").await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("needs no pairing"), "{done:?}");
    assert!(!done.stdout.contains("✗ not paired"), "{done:?}");
    assert_eq!(running.terminate().await, Some(0));
}

#[tokio::test]
async fn a_workspace_may_begin_with_a_tilde_and_has_to_be_there() {
    let home = Home::new();
    let doctor = |base: &str| {
        let mut command = home.ctrlnode(&["doctor", "--json"]);
        command.env("BASE_PATH", base);
        bridge_testkit::home::finish(command, "")
    };
    let good = json(&doctor("~/work").await);
    let work = home.workspace().display().to_string();
    assert_eq!(good["workspace"], work.as_str(), "{good}");
    assert_eq!(good["workspace_problem"], Value::Null);
    for (base, wrong) in [("~/none", "is not there"), ("work", "not an absolute path")] {
        let told = json(&doctor(base).await);
        let problem = told["workspace_problem"].as_str().unwrap();
        assert!(problem.contains(wrong), "{told}");
        let mut start = home.ctrlnode(&["bridge", "start"]);
        start.env("BASE_PATH", base).env("PAIRING_TOKEN", "t");
        let done = bridge_testkit::home::finish(start, "").await;
        assert_eq!(done.code, Some(7), "{done:?}");
        assert!(done.stderr.contains(wrong), "{done:?}");
    }
    assert!(!home.path().join("~").exists() && !home.path().join("none").exists());
}

#[tokio::test]
async fn the_files_of_a_pairing_do_not_bind_a_hub_of_its_own() {
    let home = Home::new();
    let narrow = home.path().join("narrow");
    for folder in [".ctrlnode", "narrow"] {
        fs::create_dir(home.path().join(folder)).unwrap();
    }
    let file = format!("BASE_PATH={}\nCTRLNODE_CONTENTS=never\n", narrow.display());
    fs::write(home.path().join(".ctrlnode/.env"), file).unwrap();
    let mut running = Running::start(home.ctrlnode(&["up", "--port", "0"]));
    running.line(|line| line.contains("/login?code=")).await;
    let repo = home.repository("web").display().to_string();
    let task = ["task", "run", "-a", "demo", "--repo", &repo, "#demo fast"];
    let done = loop {
        let done = home.run(&task, "").await;
        if done.code != Some(1) {
            break done;
        }
    };
    assert_eq!(done.code, Some(0), "{done:?}");
    let list = json(&home.run(&["task", "list", "--json"], "").await);
    let id = list[0]["id"].as_str().unwrap();
    let show = home.run(&["task", "show", id], "").await;
    assert!(show.stdout.contains("agent_log.md"), "{show:?}");
    assert_eq!(running.terminate().await, Some(0));
}

#[tokio::test]
async fn a_port_that_was_asked_for_is_taken_or_refused() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let done = home.run(&["up", "--port", &port], "").await;
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("choose another port"), "{done:?}");
}
