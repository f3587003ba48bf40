//! A machine without a token is let in by a person, and by nobody else.

use bridge_proto::Secret;
use serde_json::{Value, json};

use crate::support::{FakeBridge, Response, World, header};

async fn post(world: &World, path: &str, body: &Value) -> Response {
    let headers = [header("Host", &world.host())];
    world.ask("POST", path, &headers, &body.to_string()).await
}

async fn begin(world: &World) -> Value {
    let body = json!({ "hostname": "box-7", "platform": "linux", "bridgeVersion": "v9" });
    let response = post(world, "/api/bridge/device/code", &body).await;
    assert_eq!(response.status, 200);
    response.json()
}

async fn poll(world: &World, grant: &Value) -> Response {
    let body = json!({ "deviceCode": grant["deviceCode"] });
    post(world, "/api/bridge/device/token", &body).await
}

async fn session(world: &World) -> (String, String) {
    let code = world.hub().create_login_code().await.unwrap();
    let path = format!("/login?code={}", code.expose());
    let response = world.ask("GET", &path, &[], "").await;
    let cookie = response.headers["set-cookie"].split(';').next().unwrap();
    header("Cookie", cookie)
}

/// The form of the page, sent by the hub's own page.
async fn decide(world: &World, grant: &Value, decision: &str) -> Response {
    let headers = [
        session(world).await,
        header("Origin", &format!("http://{}", world.host())),
        header("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let code = grant["userCode"].as_str().unwrap();
    let form = format!("code={code}&name=laptop&decision={decision}");
    world.ask("POST", "/bridge/activate", &headers, &form).await
}

#[tokio::test]
async fn a_machine_that_a_person_allows_gets_a_token_that_works_once() {
    let world = World::new().await;
    let grant = begin(&world).await;
    let page = format!("http://{}/bridge/activate", world.host());
    assert_eq!(grant["verificationUri"], page.as_str());
    assert_eq!(poll(&world, &grant).await.status, 202);
    assert_eq!(
        poll(&world, &grant).await.status,
        429,
        "asked at once again"
    );
    let path = format!(
        "/bridge/activate?code={}",
        grant["userCode"].as_str().unwrap()
    );
    let shown = world.ask("GET", &path, &[session(&world).await], "").await;
    assert_eq!(shown.status, 200);
    let text = String::from_utf8_lossy(&shown.body);
    assert!(text.contains("box-7"), "{text}");
    assert_eq!(
        world.hub().bridge_tokens().await.unwrap().len(),
        1,
        "the world's own"
    );
    assert_eq!(decide(&world, &grant, "allow").await.status, 200);
    let answer = loop {
        let answer = poll(&world, &grant).await;
        if answer.status != 429 {
            break answer;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!(answer.status, 200);
    let token = Secret::new(answer.json()["pairingToken"].as_str().unwrap());
    let names = world.hub().bridge_tokens().await.unwrap();
    assert!(
        names.iter().any(|token| token.name == "laptop"),
        "{names:?}"
    );
    let mut bridge = FakeBridge::connect(world.address(), &token, true)
        .await
        .unwrap();
    bridge.greet().await;
    let again = poll(&world, &grant).await;
    assert_eq!(
        (again.status, again.json()["error"].as_str()),
        (400, Some("expired_token"))
    );
}

#[tokio::test]
async fn a_denied_machine_is_told_so_and_gets_nothing() {
    let world = World::new().await;
    let grant = begin(&world).await;
    assert_eq!(decide(&world, &grant, "deny").await.status, 200);
    let answer = poll(&world, &grant).await;
    assert_eq!(
        (answer.status, answer.json()["error"].as_str()),
        (400, Some("access_denied"))
    );
    assert_eq!(world.hub().bridge_tokens().await.unwrap().len(), 1);
    assert_eq!(decide(&world, &grant, "allow").await.status, 404);
}

#[tokio::test]
async fn nobody_without_a_login_or_from_another_page_lets_a_machine_in() {
    let world = World::new().await;
    let grant = begin(&world).await;
    let code = grant["userCode"].as_str().unwrap();
    let form = format!("code={code}&name=x&decision=allow");
    let kind = header("Content-Type", "application/x-www-form-urlencoded");
    let session = session(&world).await;
    let own = header("Origin", &format!("http://{}", world.host()));
    for (headers, status) in [
        (vec![kind.clone()], 401),
        (vec![kind.clone(), own], 401),
        (vec![kind.clone(), session.clone()], 403),
        (
            vec![
                kind.clone(),
                session.clone(),
                header("Origin", "https://evil.example"),
            ],
            403,
        ),
        (vec![kind, session.clone(), header("Origin", "null")], 403),
    ] {
        let response = world.ask("POST", "/bridge/activate", &headers, &form).await;
        assert_eq!(response.status, status, "{headers:?}");
    }
    // Opening the address decides nothing.
    let path = format!("/bridge/activate?{form}");
    world.ask("GET", &path, &[session], "").await;
    assert_eq!(poll(&world, &grant).await.status, 202);
}

#[tokio::test]
async fn guessed_codes_and_floods_are_slowed_down() {
    let world = World::new().await;
    let session = session(&world).await;
    let mut statuses = Vec::new();
    for n in 0..12 {
        let path = format!("/bridge/activate?code=XXXX-{n:04}");
        let headers = [session.clone()];
        statuses.push(world.ask("GET", &path, &headers, "").await.status);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 404).count(), 10);
    assert!(statuses.ends_with(&[429, 429]), "{statuses:?}");
    let guess = json!({ "deviceCode": "ctrld_guessed" });
    let guessed = post(&world, "/api/bridge/device/token", &guess).await;
    assert_eq!(
        (guessed.status, guessed.json()["error"].as_str()),
        (400, Some("expired_token"))
    );
    let body = json!({ "hostname": "x".repeat(20_000) });
    let huge = post(&world, "/api/bridge/device/code", &body).await;
    assert_eq!(huge.status, 413);
    let odd = post(&world, "/api/bridge/device/code", &json!([])).await;
    assert_eq!(odd.status, 400);
    let mut last = 200;
    for _ in 0..11 {
        last = post(&world, "/api/bridge/device/code", &json!({}))
            .await
            .status;
    }
    assert_eq!(last, 429);
}
