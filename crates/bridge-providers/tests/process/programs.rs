//! Programs that answer and end.

use std::time::Duration;

use bridge_providers::process::{
    AllowList, CaptureError, Captured, Environment, Output, RunError, capture, run_to_end,
};

use crate::support::{Stage, soon};

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn output_code_and_complaints_come_back() {
    let stage = Stage::new();
    let launch = stage.launch("echo 1.2.3; echo careful >&2; exit 2");
    let output = run_to_end(launch, LONG, 1000).await.unwrap();
    let expected = Output {
        code: Some(2),
        stdout: b"1.2.3\n".to_vec(),
        stderr_tail: "careful".into(),
    };
    assert_eq!(output, expected);
}

#[tokio::test]
async fn a_program_that_wants_input_gets_none() {
    let stage = Stage::new();
    let output = run_to_end(stage.launch("cat; echo end"), LONG, 1000)
        .await
        .unwrap();
    assert_eq!(output.stdout, b"end\n");
}

#[tokio::test]
async fn too_much_output_is_cut() {
    let stage = Stage::new();
    let output = run_to_end(stage.launch("yes | head -n 1000000"), LONG, 100)
        .await
        .unwrap();
    assert_eq!(output.code, Some(0));
    assert_eq!(output.stdout, b"y\n".repeat(50));
}

#[tokio::test]
async fn at_the_limit_the_program_is_killed_with_all_it_started() {
    let stage = Stage::new();
    let gone = stage.everybody_gone();
    let script = r#"exec 9>$LIVES; trap "" TERM; setsid sleep 1000 & echo stuck >&2; sleep 1000"#;
    let limit = Duration::from_millis(500);
    let outcome = soon(run_to_end(stage.launch(script), limit, 1000)).await;
    let Err(RunError::TimedOut { stderr_tail, .. }) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(stderr_tail, "stuck");
    gone.await;
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_the_program() {
    let stage = Stage::new();
    let mut lives = stage.lives();
    let script = "exec 9>$LIVES; echo begun >&9; setsid sleep 1000 & sleep 1000";
    let running = tokio::spawn(run_to_end(stage.launch(script), LONG, 1000));
    assert_eq!(lives.line().await.as_deref(), Some("begun"));
    running.abort();
    assert_eq!(lives.line().await, None);
}

#[tokio::test]
async fn a_program_sees_the_allowed_variables_and_its_markers_only() {
    let stage = Stage::new();
    let host = [
        ("HOME", "/home/someone"),
        ("PATH", "/usr/bin:/bin"),
        ("PAIRING_TOKEN", "pair"),
        ("CTRLNODE_ROOT", "/somewhere"),
        ("OPENAI_API_KEY", "another's"),
        ("GEMINI_API_KEY", "its own"),
    ];
    let host = host.map(|(name, value)| (name.into(), value.into()));
    let mut launch = stage.launch("");
    launch.program = "/usr/bin/env".into();
    launch.args = Vec::new();
    launch.env = Environment::from_host(host, &AllowList::base().with(["GEMINI_API_KEY"]));
    let output = run_to_end(launch, LONG, 10_000).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("CTRLNODE_LAUNCH="))
        .collect();
    lines.sort_unstable();
    let marker = format!("CTRLNODE_RUN={}", stage.run().marker());
    assert_eq!(
        lines,
        [
            marker.as_str(),
            "GEMINI_API_KEY=its own",
            "HOME=/home/someone",
            "NO_COLOR=1",
            "PATH=/usr/bin:/bin"
        ]
    );
}

#[tokio::test]
async fn what_is_captured_is_the_output_byte_for_byte() {
    let stage = Stage::new();
    let script = r"printf 'a\0b\r\n\377'; head -c 2000000 /dev/zero; echo careful >&2; exit 3";
    let captured = capture(stage.launch(script), LONG, 3_000_000)
        .await
        .unwrap();
    let mut expected = b"a\0b\r\n\xff".to_vec();
    expected.resize(expected.len() + 2_000_000, 0);
    let Captured {
        code,
        stdout,
        stderr_tail,
    } = captured;
    assert!(stdout == expected, "{} bytes", stdout.len());
    assert_eq!((code, stderr_tail.as_str()), (Some(3), "careful"));
}

#[tokio::test]
async fn a_program_that_prints_beyond_the_limit_is_ended_and_not_cut() {
    let stage = Stage::new();
    let gone = stage.everybody_gone();
    let script = "exec 9>$LIVES; setsid sleep 1000 & yes";
    let outcome = soon(capture(stage.launch(script), LONG, 1000)).await;
    assert!(
        matches!(outcome, Err(CaptureError::TooMuch { max_output: 1000 })),
        "{outcome:?}"
    );
    gone.await;
}

#[tokio::test]
async fn a_program_that_takes_too_long_may_clean_up_before_it_is_killed() {
    let stage = Stage::new();
    let mut lives = stage.lives();
    let script = r#"exec 9>$LIVES; trap "echo cleaned >&9; exit" TERM; echo begun >&9; setsid sleep 1000 & while :; do sleep 0.01; done"#;
    let limit = Duration::from_millis(500);
    let outcome = soon(capture(stage.launch(script), limit, 1000)).await;
    assert!(
        matches!(outcome, Err(CaptureError::TimedOut { .. })),
        "{outcome:?}"
    );
    assert_eq!(lives.line().await.as_deref(), Some("begun"));
    assert_eq!(lives.line().await.as_deref(), Some("cleaned"));
    lives.end().await;
}
