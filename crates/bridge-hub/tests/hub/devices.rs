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

/// As soon as the machine may ask again.
async fn answered(world: &World, grant: &Value) -> Response {
    loop {
        let answer = poll(world, grant).await;
        if answer.status != 429 {
            return answer;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
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
    let answer = answered(&world, &grant).await;
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
    let again = answered(&world, &grant).await;
    assert_eq!(
        (again.status, again.json()["error"].as_str()),
        (400, Some("expired_token")),
        "it was used"
    );
}

#[tokio::test]
async fn an_answer_that_was_lost_is_given_again_with_the_same_token() {
    let world = World::new().await;
    let grant = begin(&world).await;
    assert_eq!(decide(&world, &grant, "allow").await.status, 200);
    let lost = answered(&world, &grant).await;
    let again = answered(&world, &grant).await;
    assert_eq!((lost.status, again.status), (200, 200));
    assert_eq!(lost.json(), again.json());
    assert_eq!(world.hub().bridge_tokens().await.unwrap().len(), 2);
    // Taken back, it is not made once more.
    let machines = world.hub().bridge_tokens().await.unwrap();
    let laptop = machines.iter().find(|token| token.name == "laptop");
    let laptop = bridge_proto::BridgeId::parse(&laptop.unwrap().id).unwrap();
    world.hub().revoke_bridge_token(&laptop).await.unwrap();
    let after = answered(&world, &grant).await;
    assert_ne!(after.status, 200);
    assert_eq!(world.hub().bridge_tokens().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_name_is_given_to_a_second_machine_only_on_the_persons_word() {
    let world = World::new().await;
    let mut first = begin(&world).await;
    assert_eq!(decide(&world, &first, "allow").await.status, 200);
    assert_eq!(answered(&world, &first).await.status, 200);
    first = begin(&world).await;
    let refused = decide(&world, &first, "allow").await;
    assert_eq!(refused.status, 409);
    let text = String::from_utf8_lossy(&refused.body).into_owned();
    assert!(
        text.contains("Another machine is called") && text.contains("laptop"),
        "{text}"
    );
    assert_eq!(
        poll(&world, &first).await.status,
        202,
        "nothing was decided"
    );
    let before = world.hub().bridge_tokens().await.unwrap();
    assert_eq!(decide(&world, &first, "replace").await.status, 200);
    let same = world.hub().bridge_tokens().await.unwrap();
    assert_eq!(before, same, "replaced when the new one comes");
    assert_eq!(answered(&world, &first).await.status, 200);
    let after = world.hub().bridge_tokens().await.unwrap();
    let laptops = |all: &[bridge_hub::TokenView]| -> Vec<String> {
        let called = all.iter().filter(|token| token.name == "laptop");
        called.map(|token| token.id.clone()).collect()
    };
    assert_eq!((laptops(&before).len(), laptops(&after).len()), (1, 1));
    assert_ne!(laptops(&before), laptops(&after));
}

#[tokio::test]
async fn the_page_says_when_the_name_of_a_machine_is_taken() {
    let world = World::new().await;
    world.hub().create_bridge_token("BOX-7").await.unwrap();
    let grant = begin(&world).await;
    let path = format!(
        "/bridge/activate?code={}",
        grant["userCode"].as_str().unwrap()
    );
    let shown = world.ask("GET", &path, &[session(&world).await], "").await;
    let text = String::from_utf8_lossy(&shown.body).into_owned();
    assert!(text.contains("is here already"), "{text}");
    assert!(text.contains(r#"value="box-7 2""#), "{text}");
}

#[tokio::test]
async fn marks_that_turn_text_round_are_not_shown() {
    let world = World::new().await;
    let body = json!({ "hostname": "gnp.\u{202e}evil\u{2066}", "platform": "l\u{200b}inux", "bridgeVersion": "v\u{200f}9" });
    let grant = post(&world, "/api/bridge/device/code", &body).await.json();
    let path = format!(
        "/bridge/activate?code={}",
        grant["userCode"].as_str().unwrap()
    );
    let shown = world.ask("GET", &path, &[session(&world).await], "").await;
    let text = String::from_utf8_lossy(&shown.body).into_owned();
    assert!(
        text.contains("gnp.evil") && text.contains("linux"),
        "{text}"
    );
    let marks = ['\u{202e}', '\u{2066}', '\u{200b}', '\u{200f}'];
    assert!(!text.contains(marks), "{text}");
    let named = world.hub().create_bridge_token("a\u{202e}b").await;
    assert!(named.is_err(), "a name with such a mark");
}

#[tokio::test]
async fn a_flood_from_one_place_does_not_lock_out_a_machine_in_another() {
    let world = World::new().await;
    let begin = async |from: &str| {
        let headers = [
            header("Host", &world.host()),
            header("X-Forwarded-For", from),
        ];
        let path = "/api/bridge/device/code";
        world.ask("POST", path, &headers, "{}").await.status
    };
    let mut last = 200;
    for n in 0..11 {
        // What a client says of itself stands before the proxy's own word.
        last = begin(&format!("198.51.100.{n}, 192.0.2.1")).await;
    }
    assert_eq!(last, 429);
    assert_eq!(begin("192.0.2.2").await, 200);
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
