//! Who comes in, and how strict the answers are.

use bridge_hub::{HubConfig, StartError};
use serde_json::json;

use crate::support::{World, header};

#[tokio::test]
async fn a_request_for_another_host_is_refused() {
    let world = World::new().await;
    for host in ["evil.example", "evil.example:80", "127.0.0.1:1", ""] {
        for path in ["/", "/api/v1/bridges", "/login", "/ws/bridge"] {
            let headers = [header("Host", host), world.authorization()];
            let response = world.ask("GET", path, &headers, "").await;
            assert_eq!(
                (response.status, response.code()),
                (421, "host_not_allowed".into())
            );
        }
    }
    let port = world.address().port();
    let headers = [
        header("Host", &format!("localhost:{port}")),
        world.authorization(),
    ];
    assert_eq!(
        world
            .ask("GET", "/api/v1/bridges", &headers, "")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_machine_that_knocks_where_no_door_is_hears_where_it_is() {
    let world = World::new().await;
    let token = format!("Bearer {}", world.pairing.expose());
    let knocking = [
        header("Authorization", &token),
        header("Upgrade", "WebSocket"),
    ];
    let upgrades = [
        "/",
        "/foo",
        "/new",
        "/login",
        "/api/v1",
        "/api/v1/tasks",
        "/ws/bridge/",
        "/ws",
    ];
    let links = ["/link", "/foo/link", "/api/v1/link", "/ws/bridge//link"];
    let asked = upgrades.map(|path| ("GET", path));
    for (method, path) in asked.into_iter().chain(links.map(|path| ("POST", path))) {
        let headers = &knocking[..if method == "GET" { 2 } else { 1 }];
        let response = world.ask(method, path, headers, "").await;
        assert_eq!(
            (response.status, &*response.code()),
            (404, "no_door"),
            "{method} {path}"
        );
        let hint = response.json()["error"]["hint"].to_string();
        assert!(hint.contains("/ws/bridge"), "{hint}");
    }
    // Who does not ask as a machine does is asked to log in, also with an offer of HTTP/2.
    let offer = [header("Upgrade", "h2c")];
    for (method, path, headers) in [
        ("GET", "/foo", &offer[..]),
        ("GET", "/link", &[]),
        ("POST", "/foo", &[]),
    ] {
        let response = world.ask(method, path, headers, "").await;
        assert_eq!(response.status, 401, "{method} {path}");
    }
    assert_eq!(
        world.ask("POST", "/ws/bridge/link", &[], "").await.status,
        401
    );
}

#[tokio::test]
async fn a_change_from_another_origin_is_refused_even_with_a_good_token() {
    let world = World::new().await;
    let body = json!({ "name": "x" }).to_string();
    for origin in ["https://evil.example", "null", "http://localhost:1"] {
        let headers = [header("Origin", origin), world.authorization()];
        let response = world
            .ask("POST", "/api/v1/bridge-tokens", &headers, &body)
            .await;
        assert_eq!(
            (response.status, response.code()),
            (403, "origin_not_allowed".into())
        );
    }
    let own = format!("http://{}", world.host());
    let headers = [header("Origin", &own), world.authorization()];
    let response = world
        .ask("POST", "/api/v1/bridge-tokens", &headers, &body)
        .await;
    assert_eq!(response.status, 201);
}

#[tokio::test]
async fn a_request_that_names_two_hosts_or_two_origins_is_refused() {
    let world = World::new().await;
    let (own, origin) = (world.host(), format!("http://{}", world.host()));
    for (name, values, refusal) in [
        (
            "Host",
            [own.as_str(), "evil.example"],
            (421, "host_not_allowed"),
        ),
        ("Host", ["evil.example", &own], (421, "host_not_allowed")),
        ("Host", [&own, &own], (421, "host_not_allowed")),
        (
            "Origin",
            [&origin, "https://evil.example"],
            (403, "origin_not_allowed"),
        ),
        ("Origin", [&origin, &origin], (403, "origin_not_allowed")),
    ] {
        let [one, two] = values.map(|value| header(name, value));
        let headers = [one, two, world.authorization()];
        for method in ["GET", "POST"] {
            let response = world
                .ask(method, "/api/v1/api-tokens", &headers, "{}")
                .await;
            let code = response.code();
            assert_eq!((response.status, &*code), refusal, "{method} {headers:?}");
        }
    }
}

#[tokio::test]
async fn a_login_code_opens_the_page_once() {
    let world = World::new().await;
    let code = world.hub().create_login_code().await.unwrap();
    let path = format!("/login?code={}", code.expose());
    // A preview of the address does not use it up.
    assert_eq!(world.ask("HEAD", &path, &[], "").await.status, 401);
    let response = world.ask("GET", &path, &[], "").await;
    assert_eq!(
        (response.status, &*response.headers["location"]),
        (303, "/")
    );
    let cookie = &response.headers["set-cookie"];
    assert!(cookie.contains("; HttpOnly; SameSite=Strict; ") && !cookie.contains("Secure"));
    let session = header("Cookie", cookie.split(';').next().unwrap());

    assert_eq!(world.ask("GET", &path, &[], "").await.status, 401);
    assert_eq!(world.ask("GET", "/", &[], "").await.status, 401);
    // Who is logged in and opens a login address goes on, and uses up no code.
    let fresh = world.hub().create_login_code().await.unwrap();
    let fresh = format!("/login?code={}&next=/new", fresh.expose());
    for path in [&fresh, &fresh, &path] {
        let again = world
            .ask("GET", path, std::slice::from_ref(&session), "")
            .await;
        let to = if path == &fresh { "/new" } else { "/" };
        assert_eq!((again.status, &*again.headers["location"]), (303, to));
    }
    assert_eq!(world.ask("GET", &fresh, &[], "").await.status, 303);
    assert_eq!(
        world
            .ask("GET", "/", std::slice::from_ref(&session), "")
            .await
            .status,
        200
    );
    let bridges = world
        .ask("GET", "/api/v1/bridges", std::slice::from_ref(&session), "")
        .await;
    assert_eq!(bridges.status, 200);

    // The cookie alone changes nothing: a page of ours must stand behind the request.
    let cookie_only = [session.clone()];
    let refused = world
        .ask("POST", "/api/v1/login-codes", &cookie_only, "")
        .await;
    assert_eq!(
        (refused.status, refused.code()),
        (403, "origin_missing".into())
    );
    let own = header("Origin", &format!("http://{}", world.host()));
    let from_page = [session.clone(), own];
    assert_eq!(
        world
            .ask("POST", "/api/v1/login-codes", &from_page, "")
            .await
            .status,
        201
    );
    // What a browser sends for a form on a page that hides its address.
    let form = [
        session.clone(),
        header("Origin", "null"),
        header("Sec-Fetch-Site", "same-origin"),
    ];
    assert_eq!(world.ask("POST", "/logout", &form, "").await.status, 303);
    assert_eq!(world.ask("GET", "/", &[session], "").await.status, 401);
}

#[tokio::test]
async fn a_code_can_be_typed_into_the_form() {
    let world = World::new().await;
    let code = world.hub().create_login_code().await.unwrap();
    let form = [
        header("Content-Type", "application/x-www-form-urlencoded"),
        header("Origin", &format!("http://{}", world.host())),
    ];
    let response = world
        .ask("POST", "/login", &form, &format!("code={}", code.expose()))
        .await;
    assert_eq!(response.status, 303);
    // A visitor of a task comes back to it, also with the whole address as it was printed.
    let asked = world.ask("GET", "/tasks/t1?x=1", &[], "").await;
    let page = String::from_utf8(asked.body).unwrap();
    assert!(
        page.contains("name=\"next\" value=\"/tasks/t1?x=1\""),
        "{page}"
    );
    for (next, to) in [("/tasks/t1", "/tasks/t1"), ("//evil.example", "/")] {
        let code = world.hub().create_login_code().await.unwrap();
        let address = format!("http%3A%2F%2Fhub%2Flogin%3Fcode%3D{}", code.expose());
        let body = format!("code={address}&next={next}");
        let response = world.ask("POST", "/login", &form, &body).await;
        assert_eq!((response.status, &*response.headers["location"]), (303, to));
    }
}

#[tokio::test]
async fn behind_https_the_session_never_travels_in_the_clear() {
    let world =
        World::with(|config| config.public_origins = vec!["https://hub.example.org".into()]).await;
    let code = world.hub().create_login_code().await.unwrap();
    let path = format!("/login?code={}", code.expose());
    let response = world
        .ask("GET", &path, &[header("Host", "hub.example.org")], "")
        .await;
    assert!(response.headers["set-cookie"].ends_with("; Secure"));
}

#[tokio::test]
async fn guessing_login_codes_is_slowed_down() {
    let world = World::new().await;
    let mut last = world.ask("GET", "/login?code=wrong", &[], "").await;
    assert_eq!(last.status, 401);
    for _ in 0..10 {
        last = world.ask("GET", "/login?code=wrong", &[], "").await;
    }
    assert_eq!(last.status, 429);
    let wait: u64 = last.headers["retry-after"].parse().unwrap();
    assert!((1..=6).contains(&wait), "{wait}");
}

#[tokio::test]
async fn without_a_token_the_api_says_what_is_missing() {
    let world = World::new().await;
    let wrong = header("Authorization", "Bearer wrong");
    let pairing = header(
        "Authorization",
        &format!("Bearer {}", world.pairing.expose()),
    );
    for headers in [vec![], vec![wrong], vec![pairing]] {
        let response = world.ask("GET", "/api/v1/tasks", &headers, "").await;
        assert_eq!(
            (response.status, response.code()),
            (401, "not_logged_in".into())
        );
    }
}

#[tokio::test]
async fn a_revoked_api_token_is_worth_nothing() {
    let world = World::new().await;
    let made = world
        .post("/api/v1/api-tokens", &json!({ "name": "phone" }))
        .await
        .json();
    let phone = [header(
        "Authorization",
        &format!("Bearer {}", made["token"].as_str().unwrap()),
    )];
    assert_eq!(
        world.ask("GET", "/api/v1/tasks", &phone, "").await.status,
        200
    );
    let listed = world.get("/api/v1/api-tokens").await;
    assert!(
        !String::from_utf8(listed.body)
            .unwrap()
            .contains(made["token"].as_str().unwrap())
    );
    let path = format!("/api/v1/api-tokens/{}", made["id"].as_str().unwrap());
    let auth = [world.authorization()];
    assert_eq!(world.ask("DELETE", &path, &auth, "").await.status, 204);
    assert_eq!(world.ask("DELETE", &path, &auth, "").await.status, 404);
    assert_eq!(
        world.ask("GET", "/api/v1/tasks", &phone, "").await.status,
        401
    );
}

#[tokio::test]
async fn every_response_keeps_the_browser_strict() {
    let world = World::new().await;
    for (path, host) in [
        ("/", world.host()),
        ("/login", world.host()),
        ("/api/v1/bridges", world.host()),
        ("/api/v1/nothing", world.host()),
        ("/nothing", world.host()),
        ("/ws/bridge", world.host()),
        ("/", "evil.example".to_owned()),
    ] {
        let response = world.ask("GET", path, &[header("Host", &host)], "").await;
        let policy = &response.headers["content-security-policy"];
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("unsafe"));
        assert_eq!(response.headers["x-content-type-options"], "nosniff");
        assert!(["no-referrer", "same-origin"].contains(&&*response.headers["referrer-policy"]));
        assert!(!response.headers.contains_key("access-control-allow-origin"));
    }
}

#[tokio::test]
async fn every_refusal_of_the_api_is_json_with_a_code() {
    let world = World::new().await;
    let cases = [
        ("GET", "/api/v1/nothing", "", 404, "unknown_address"),
        ("GET", "/api/v1/tasks/none", "", 404, "unknown_task"),
        ("GET", "/api/v1/tasks/none/events", "", 404, "unknown_task"),
        (
            "GET",
            "/api/v1/tasks/none/events/page",
            "",
            404,
            "unknown_task",
        ),
        ("GET", "/api/v1/tasks/%0A", "", 400, "malformed"),
        ("GET", "/api/v1/tasks?limit=x", "", 400, "malformed"),
        ("POST", "/api/v1/tasks", "{", 400, "malformed"),
        ("POST", "/api/v1/tasks", "[]", 400, "malformed"),
        (
            "POST",
            "/api/v1/tasks",
            "{\"agent\":\"demo\",\"prompt\":\"x\"}",
            404,
            "unknown_agent",
        ),
        (
            "POST",
            "/api/v1/tasks",
            "{\"agent\":\"demo\",\"prompt\":\"x\",\"machine\":\"b1\",\"mode\":{\"mode\":\"repository\",\"path\":\"web\"}}",
            400,
            "malformed",
        ),
        ("POST", "/api/v1/tasks/none/cancel", "", 404, "unknown_task"),
        (
            "POST",
            "/api/v1/bridge-tokens",
            "{\"name\":\" \"}",
            400,
            "malformed",
        ),
    ];
    for (method, path, body, status, code) in cases {
        let response = world
            .ask(method, path, &[world.authorization()], body)
            .await;
        assert_eq!(
            (response.status, &*response.code()),
            (status, code),
            "{method} {path} {body}"
        );
    }
    let huge = "x".repeat(3 << 20);
    let response = world
        .ask(
            "POST",
            "/api/v1/bridge-tokens",
            &[world.authorization()],
            &huge,
        )
        .await;
    assert_eq!((response.status, &*response.code()), (413, "body"));
}

#[tokio::test]
async fn a_hub_others_can_reach_must_be_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = HubConfig::new(folder.path().join("hub"));
    config.listen = "0.0.0.0:0".parse().unwrap();
    assert!(matches!(
        bridge_hub::start(config.clone()).await,
        Err(StartError::NotLoopback { .. })
    ));
    assert!(!folder.path().join("hub").exists());
    config.listen = "127.0.0.1:0".parse().unwrap();
    config.lines = Some("0.0.0.0:0".parse().unwrap());
    assert!(matches!(
        bridge_hub::start(config.clone()).await,
        Err(StartError::LinesNotLoopback { .. })
    ));
    assert!(!folder.path().join("hub").exists());
    config.lines = None;
    config.public_origins = vec!["hub.example.org".into()];
    assert!(matches!(
        bridge_hub::start(config).await,
        Err(StartError::BadOrigin { .. })
    ));
}

#[tokio::test]
async fn what_bridges_ask_before_they_have_a_token_tells_nothing_of_the_machines() {
    let world = World::new().await;
    let _bridge = world.bridge(true).await;
    for (path, field) in [
        ("/api/bridge/version", "version"),
        ("/api/bridge/models", "providers"),
        ("/api/agent-types", "providerKeyByAgentType"),
    ] {
        let headers = [header("Host", &world.host())];
        let response = world.ask("GET", path, &headers, "").await;
        assert_eq!(response.status, 200, "{path}");
        let body = response.json();
        assert!(body.get(field).is_some(), "{path}: {body}");
        assert!(!body.to_string().contains("box"), "{path}: {body}");
    }
}
