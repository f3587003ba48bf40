//! A machine gets its token by a code, against a hub and against planes that misbehave.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use std::{fs, os::unix::fs::PermissionsExt as _};

use axum::{Json, Router, http::StatusCode, routing::post};
use bridge_testkit::{
    home::{Finished, Home, Running},
    loopback::http_client,
};
use serde_json::{Value, json};

fn parsed(done: &Finished) -> Value {
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"))
}

/// The owner of the hub opens the page and presses a button.
async fn decide(page: &str, login: &str, decision: &str) {
    let http = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let logged_in = http.get(login).send().await.unwrap();
    let cookie = logged_in.headers()["set-cookie"].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let shown = http
        .get(page)
        .header("cookie", &cookie)
        .send()
        .await
        .unwrap();
    assert_eq!(shown.status(), 200);
    let (address, code) = page.split_once("?code=").unwrap();
    let origin = address.strip_suffix("/bridge/activate").unwrap();
    let done = http
        .post(address)
        .header("cookie", &cookie)
        .header("origin", origin)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("code={code}&name=laptop&decision={decision}"));
    assert_eq!(done.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_machine_pairs_by_a_code_connects_and_is_logged_out_again() {
    drop(http_client());
    let home = Home::new();
    let mut hub = Running::start(home.ctrlnode(&["hub", "serve", "--listen", "127.0.0.1:0"]));
    let login = hub.line(|line| line.contains("/login?code=")).await;
    let login = login
        .split_whitespace()
        .find(|word| word.starts_with("http://"))
        .unwrap();
    let plane = login.replacen("http://", "ws://", 1);
    let plane = format!("{}/ws/bridge", plane.split("/login").next().unwrap());
    let status = home.run(&["status"], "").await;
    assert_eq!(status.code, Some(7), "{status:?}");
    assert!(status.stdout.contains("ctrlnode login"), "{status:?}");
    let file = home.path().join(".ctrlnode/.env");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let before = format!("# mine\nBASE_PATH={}\n", home.workspace().display());
    fs::write(&file, &before).unwrap();
    let args = ["login", "--no-browser", "--url", &plane];
    let mut machine = Running::start(home.ctrlnode(&args));
    let page = machine
        .line(|line| line.contains("/bridge/activate?code="))
        .await;
    decide(page.trim(), login, "allow").await;
    assert_eq!(machine.ended().await, Some(0), "{}", machine.told());
    let after = fs::read_to_string(&file).unwrap();
    assert!(after.starts_with(&before), "{after}");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let token = after
        .lines()
        .find_map(|line| line.strip_prefix("PAIRING_TOKEN="));
    let token = token.unwrap().trim_matches('"');
    assert!(!machine.told().contains(token), "a token is not shown");
    let mut bridge = Running::start(home.ctrlnode(&[]));
    bridge.line(|line| line.contains("connected")).await;
    let status = loop {
        let status = parsed(&home.run(&["status", "--json"], "").await);
        if status["bridge"]["connection"] == "connected" {
            break status;
        }
    };
    assert_eq!(
        (&status["paired"], &status["plane"]),
        (&json!(true), &json!(plane))
    );
    assert!(!status.to_string().contains(token), "{status}");
    assert_eq!(bridge.terminate().await, Some(0));
    let out = home.run(&["logout"], "").await;
    assert_eq!(out.code, Some(0), "{out:?}");
    let left = fs::read_to_string(&file).unwrap();
    assert!(
        left.starts_with(&before) && !left.contains("PAIRING_TOKEN"),
        "{left}"
    );
    assert_eq!(home.run(&["status"], "").await.code, Some(7));
    assert_eq!(hub.terminate().await, Some(0));
}

#[tokio::test]
async fn a_machine_that_is_denied_says_so_and_keeps_its_files() {
    let home = Home::new();
    let mut hub = Running::start(home.ctrlnode(&["hub", "serve", "--listen", "127.0.0.1:0"]));
    let login = hub.line(|line| line.contains("/login?code=")).await;
    let login = login
        .split_whitespace()
        .find(|word| word.starts_with("http://"))
        .unwrap();
    let plane = login.split("/login").next().unwrap().to_owned();
    // The address of the page is as good as that of the door for machines.
    let args = ["login", "--no-browser", "--url", &plane];
    let mut machine = Running::start(home.ctrlnode(&args));
    let page = machine
        .line(|line| line.contains("/bridge/activate?code="))
        .await;
    drop(http_client());
    decide(page.trim(), login, "deny").await;
    machine.line(|line| line.contains("denied")).await;
    assert_eq!(machine.ended().await, Some(1));
    assert!(!home.path().join(".ctrlnode/.env").exists());
    assert_eq!(hub.terminate().await, Some(0));
}

/// A plane that gives a code and then answers every question in this way.
async fn plane(grant: Value, status: StatusCode, body: Value) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let begin = post(move || async move { Json(grant) });
    let answer = post(move || async move { (status, Json(body)) });
    let router = Router::new()
        .route("/api/bridge/device/code", begin)
        .route("/api/bridge/device/token", answer);
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("ws://{address}/ws/bridge")
}

fn grant(user_code: &str) -> Value {
    json!({ "deviceCode": "d", "userCode": user_code, "expiresInSeconds": 3,
        "verificationUri": "http://127.0.0.1:1/bridge/activate", "pollIntervalSeconds": 1 })
}

#[tokio::test]
async fn a_plane_that_says_nothing_good_ends_the_login_with_its_reason() {
    let home = Home::new();
    for (code, status, body, reason) in [
        ("AB", StatusCode::ACCEPTED, json!({}), "in time"),
        (
            "AB",
            StatusCode::BAD_REQUEST,
            json!({ "error": "gone" }),
            "in time",
        ),
        ("AB", StatusCode::SERVICE_UNAVAILABLE, json!({}), "in time"),
        ("AB", StatusCode::TOO_MANY_REQUESTS, json!({}), "in time"),
        (
            "AB",
            StatusCode::OK,
            json!({ "pairingToken": "a\nb" }),
            "status 200",
        ),
        ("AB", StatusCode::FOUND, json!({}), "status 302"),
        (
            "\u{1b}[2J",
            StatusCode::OK,
            json!({ "pairingToken": "t" }),
            "no code",
        ),
    ] {
        let plane = plane(grant(code), status, body).await;
        let done = home
            .run(&["login", "--no-browser", "--url", &plane], "")
            .await;
        assert_eq!(done.code, Some(1), "{status}: {done:?}");
        assert!(done.stderr.contains(reason), "{status}: {done:?}");
        assert!(!home.path().join(".ctrlnode/.env").exists(), "{status}");
    }
    let nobody = [
        "login",
        "--no-browser",
        "--url",
        "ws://127.0.0.1:1/ws/bridge",
    ];
    let done = home.run(&nobody, "").await;
    assert_eq!(done.code, Some(1), "{done:?}");
}
