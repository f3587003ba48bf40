//! The repository of a task: asked from the machine, told over the API.

use bridge_hub::{HubError, Mode, NewTask};
use serde_json::json;

use crate::support::World;

#[tokio::test]
async fn the_state_and_the_diffs_of_a_repository_come_from_the_machine() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    let mode = Mode::Repository {
        path: "/b/code/web".into(),
    };
    let new = NewTask {
        mode,
        ..world.new_task("Fix")
    };
    let task = world.hub().create(new).await.unwrap();
    bridge.expect("dispatch_task").await;

    let path = format!("/api/v1/tasks/{task}/git");
    let answer = async {
        let asked = bridge.expect("git_status").await;
        assert_eq!(asked["path"], "/b/code/web");
        bridge
            .say(&json!({
                "action": "git_status_response", "requestId": asked["requestId"],
                "isRepo": true, "root": "/b/code/web", "branch": "main", "detached": false,
                "upstream": null, "ahead": 0, "behind": 0, "branches": ["main"], "error": null,
                "files": [{ "path": "größe \"x\"", "staged": "?", "unstaged": "?", "untracked": true,
                    "conflicted": false, "added": 0, "deleted": 0, "binary": false }],
            }))
            .await;
    };
    let (response, ()) = tokio::join!(world.get(&path), answer);
    let repository = &response.json()["repository"];
    assert_eq!(repository["branch"], "main");
    assert_eq!(repository["files"][0]["path"], "größe \"x\"");

    let path = format!("{path}/diff?file=gr%C3%B6%C3%9Fe%20%22x%22&untracked=true");
    let answer = async {
        let asked = bridge.expect("git_diff").await;
        assert_eq!(asked["filePath"], "größe \"x\"");
        assert_eq!(asked["untracked"], true);
        bridge
            .say(&json!({
                "action": "git_diff_response", "requestId": asked["requestId"],
                "filePath": asked["filePath"], "diff": "+<b>\n", "error": null,
            }))
            .await;
    };
    let (response, ()) = tokio::join!(world.get(&path), answer);
    assert_eq!(response.json()["diff"], "+<b>\n");
    assert!(response.headers["content-type"].starts_with("application/json"));

    let answer = async {
        let asked = bridge.expect("git_diff").await;
        bridge
            .say(&json!({
                "action": "git_diff_response", "requestId": asked["requestId"], "error": "INVALID_PATH",
            }))
            .await;
    };
    let (response, ()) = tokio::join!(world.get(&path), answer);
    assert_eq!(
        (response.status, response.code()),
        (409, "git_refused".into())
    );

    let hub = world.hub();
    let asking = tokio::spawn(async move { hub.git_status(&task).await });
    bridge.expect("git_status").await;
    drop(bridge);
    assert!(matches!(
        asking.await.unwrap(),
        Err(HubError::MachineOffline { .. })
    ));
}

#[tokio::test]
async fn a_task_in_its_own_folder_has_no_repository_and_nobody_is_asked() {
    let world = World::new().await;
    let mut bridge = world.bridge(true).await;
    let run = world.task(&mut bridge).await;
    assert_eq!(world.hub().git_status(&run.task).await.unwrap(), None);
    let diff = world.hub().git_diff(&run.task, "a", false).await;
    assert!(matches!(diff, Err(HubError::GitRefused { .. })));
}
