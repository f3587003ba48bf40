//! What is kept of tokens and login codes, and whom they let in.

use super::*;
use crate::access;

#[tokio::test]
async fn secrets_are_nowhere_in_the_files() {
    let world = World::new().await;
    let secret = access::new_secret("ctrla_").unwrap();
    let grant = GrantRecord {
        id: "g".into(),
        kind: GrantKind::ApiToken,
        name: "phone".into(),
        created: at(0),
        expires: None,
    };
    world
        .store
        .grant(grant, access::hash(&secret))
        .await
        .unwrap();
    let found = world
        .store
        .granted(GrantKind::ApiToken, access::hash(&secret), at(1))
        .await;
    assert_eq!(found.unwrap().as_deref(), Some("g"));
    let wrong = world
        .store
        .granted(GrantKind::Session, access::hash(&secret), at(1))
        .await;
    assert_eq!(wrong.unwrap(), None);
    for entry in std::fs::read_dir(world.folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let needle = secret.expose().as_bytes();
        assert!(!bytes.windows(needle.len()).any(|window| window == needle));
    }
    assert!(world.store.ungrant(GrantKind::ApiToken, "g").await.unwrap());
    let gone = world
        .store
        .granted(GrantKind::ApiToken, access::hash(&secret), at(1))
        .await;
    assert_eq!(gone.unwrap(), None);
}

#[tokio::test]
async fn a_login_code_is_good_once_and_for_its_time_only() {
    let world = World::new().await;
    let code = |id: &str, expires| GrantRecord {
        id: id.into(),
        kind: GrantKind::LoginCode,
        name: "login".into(),
        created: at(0),
        expires: Some(at(expires)),
    };
    world
        .store
        .grant(code("one", 600), TokenHash([7; 32]))
        .await
        .unwrap();
    world
        .store
        .grant(code("two", 600), TokenHash([8; 32]))
        .await
        .unwrap();
    assert!(
        world
            .store
            .take_login(TokenHash([7; 32]), at(1))
            .await
            .unwrap()
    );
    assert!(
        !world
            .store
            .take_login(TokenHash([7; 32]), at(1))
            .await
            .unwrap()
    );
    assert!(
        !world
            .store
            .take_login(TokenHash([8; 32]), at(600))
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn a_revoked_machine_cannot_come_back() {
    let world = World::new().await;
    let token = TokenHash([1; 32]);
    assert_eq!(
        world
            .store
            .bridge_by_token(token)
            .await
            .unwrap()
            .unwrap()
            .id,
        bridge("b1")
    );
    let b1 = bridge("b1");
    let revoke = || world.store.revoke_bridge(&b1, at(3));
    assert_eq!(revoke().await.unwrap(), Some(vec![task("t1")]));
    assert_eq!(revoke().await.unwrap(), None);
    let view = world.view("t1").await;
    assert_eq!(view.summary.status, TaskStatus::Failed);
    assert_eq!(
        view.summary.reason.as_deref(),
        Some("the machine was removed from the hub")
    );
    assert_eq!(world.store.bridge_by_token(token).await.unwrap(), None);
    assert_eq!(world.store.bridges().await.unwrap().len(), 1);
    assert_eq!(world.view("t1").await.summary.machine_name, "B1");
}
