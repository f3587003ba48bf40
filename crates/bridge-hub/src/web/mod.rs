//! The page: server-rendered HTML with small scripts on top, no build step, nothing from elsewhere.
//!
//! Reading order: [`conversation`] and [`run`] (events to what a person reads), [`items`] and [`question`] (that as HTML),
//! [`task`] (the page and its fragments), [`results`] (its files), [`home`], [`new_task`], [`message`] (login and errors),
//! [`activate`] (a machine is let in), [`layout`] (the frame around all), [`assets`] (styles and scripts).
//!
//! The server wraps [`routes`] in the login check: everything but `/assets/…` and `/login` needs a
//! session, and answers with [`login_page`] without one. `/login` and `/logout` are served by
//! `endpoint::login`: `GET /login?code=…` logs in, `POST /login` (form field `code`) too.

mod activate;
mod assets;
mod conversation;
mod diff;
mod home;
mod items;
mod layout;
mod message;
mod new_task;
mod outcome;
mod question;
mod results;
mod run;
mod task;

use axum::{Router, routing::get};
use bridge_proto::ctrlnode::device::PAGE_PATH;

pub(crate) use self::message::login_page;
use crate::Hub;

/// All pages.
pub(crate) fn routes() -> Router<Hub> {
    Router::new()
        .route("/", get(home::page))
        .route("/fragments/home", get(home::fragment))
        .route(PAGE_PATH, get(activate::page).post(activate::decision))
        .route("/new", get(new_task::page).post(new_task::create))
        .route("/tasks/{id}", get(task::page))
        .route("/tasks/{id}/fragment", get(task::fragment))
        .route("/tasks/{id}/files", get(task::files))
        .route("/assets/{name}", get(assets::serve))
        .fallback(message::not_found)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use axum::{
        Form,
        extract::{Path, Query, State},
        http::{HeaderMap, StatusCode, header},
    };
    use bridge_proto::{
        AgentId, BridgeId, ProviderKey, TaskId, Timestamp,
        model::{AgentProfile, AgentStatus, Health, HealthReason},
    };

    use super::*;
    use crate::view::{AgentView, Machine, TaskStatus, TaskSummary};

    /// The policy forbids these, so a page that has them is broken.
    pub(crate) fn assert_nothing_inline(html: &str) {
        let lower = html.to_lowercase();
        assert!(!lower.contains("<style"), "inline style");
        for (_, rest) in lower
            .match_indices("<script")
            .map(|(at, _)| lower.split_at(at))
        {
            let (tag, body) = rest.split_once('>').unwrap();
            assert!(
                tag.contains(" src=\"/assets/"),
                "script from elsewhere: {tag}"
            );
            assert!(body.starts_with("</script>"), "inline script");
        }
        for tag in lower
            .split('<')
            .skip(1)
            .map(|part| part.split('>').next().unwrap())
        {
            for attribute in [
                " style=",
                " onclick=",
                " onload=",
                " onerror=",
                " onsubmit=",
            ] {
                assert!(!tag.contains(attribute), "{attribute} in {tag}");
            }
            for address in [" src=\"http", " src=\"//", " srcset=", " background="] {
                assert!(!tag.contains(address), "{address} in {tag}");
            }
        }
    }

    fn agent(id: &str, health: Health) -> AgentView {
        let profile = AgentProfile {
            id: AgentId::parse(id).unwrap(),
            name: if id == "demo" {
                "Demo agent".into()
            } else {
                "Gemini".into()
            },
            provider: ProviderKey::parse(id).unwrap(),
            model: None,
            workspace: None,
            role: String::new(),
            description: String::new(),
            emoji: String::new(),
            from_filesystem: false,
        };
        AgentView {
            profile,
            status: AgentStatus::Idle,
            health,
            can: None,
            trouble: None,
        }
    }

    pub(crate) fn machines() -> Vec<Machine> {
        let fit = Health {
            available: true,
            reason: None,
            version: None,
            hint: None,
        };
        let unfit = Health {
            available: false,
            reason: Some(HealthReason::AuthRequired),
            version: None,
            hint: Some("run <gemini> once".into()),
        };
        let machine = |id: &str, online| Machine {
            id: BridgeId::parse(id).unwrap(),
            name: format!("{id}-box"),
            hostname: Some("box".into()),
            online,
            since: Timestamp::from_millis(1_773_480_413_589),
            version: Some("v0.1.0".into()),
            extended: true,
            providers: BTreeMap::new(),
            models: BTreeMap::new(),
            agents: Vec::new(),
        };
        let mut first = machine("m1", true);
        first.agents = vec![agent("demo", fit), agent("gemini", unfit)];
        vec![first, machine("m2", false)]
    }

    pub(crate) fn summary(status: TaskStatus) -> TaskSummary {
        TaskSummary {
            id: TaskId::parse("t1").unwrap(),
            title: "write a haiku".into(),
            agent: AgentId::parse("demo").unwrap(),
            provider: ProviderKey::parse("demo").unwrap(),
            machine: BridgeId::parse("m1").unwrap(),
            machine_name: "m1-box".into(),
            status,
            reason: None,
            created: Timestamp::from_millis(1_773_480_413_589),
            updated: Timestamp::from_millis(1_773_480_413_589),
        }
    }

    async fn body(response: axum::response::Response) -> String {
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20)
            .await
            .unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn pages_forbid_everything_that_is_not_ours() {
        for response in [
            login_page(Some("<b>no</b>"), "/"),
            message::not_found().await,
        ] {
            let policy = response.headers()[header::CONTENT_SECURITY_POLICY]
                .to_str()
                .unwrap();
            assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
            let html = body(response).await;
            assert_nothing_inline(&html);
            assert!(!html.contains("<b>"), "{html}");
        }
    }

    #[tokio::test]
    async fn the_login_page_says_how_to_get_in() {
        let response = login_page(None, "/tasks/t1");
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        let html = body(response).await;
        assert!(html.contains("ctrlnode hub login") && html.contains("name=\"code\""));
        assert!(html.contains("name=\"next\" value=\"/tasks/t1\""));
    }

    #[tokio::test]
    async fn a_new_hub_shows_its_pages_and_refuses_what_it_cannot_do() {
        let folder = tempfile::tempdir().unwrap();
        let running = crate::start(crate::HubConfig::new(folder.path().to_owned()))
            .await
            .unwrap();
        let hub = || State(running.hub());

        let html = body(home::page(hub(), HeaderMap::new()).await).await;
        assert_nothing_inline(&html);
        assert!(html.contains("Pair your first machine"));

        let html = body(new_task::page(hub(), Query(new_task::Like::default())).await).await;
        assert_nothing_inline(&html);
        assert!(html.contains("No machine is paired yet"));

        let gone = task::page(hub(), Path("nowhere".into())).await;
        assert_eq!(gone.status(), StatusCode::NOT_FOUND);
        assert_nothing_inline(&body(gone).await);

        let order = serde_json::json!({ "target": "m1/demo", "prompt": "keep <me>" });
        let order = Form(serde_json::from_value(order).unwrap());
        let refused = new_task::create(hub(), order).await;
        assert!(refused.status().is_client_error());
        assert!(body(refused).await.contains("keep &lt;me&gt;"));
        running.shutdown().await;
    }
}
