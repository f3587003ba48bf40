//! The page where the owner of the hub lets a machine in: enter the code it shows, see which
//! machine it is, allow or deny it. Nothing happens by opening an address.

use axum::{
    Form,
    extract::{Extension, Query, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use bridge_proto::ctrlnode::device::{DeviceRequest, PAGE_PATH};
use maud::{Markup, html};
use serde::Deserialize;

use super::{
    layout::Page,
    message::{self, sentence},
};
use crate::{Hub, error::HubError, hub_devices::Wish, listener::Visitor};

/// The code, in the address or the form.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Typed {
    #[serde(default)]
    code: String,
}

/// `GET /bridge/activate`, with or without `?code=…`.
pub(crate) async fn page(
    State(hub): State<Hub>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    Query(Typed { code }): Query<Typed>,
) -> Response {
    if code.trim().is_empty() {
        return respond(StatusCode::OK, enter(None));
    }
    match hub.look_at_device(visitor.source(&headers), &code).await {
        Ok((request, free)) => respond(StatusCode::OK, decide(&code, &request, &free)),
        Err(error) => refused(&error),
    }
}

/// What the person decided.
#[derive(Debug, Deserialize)]
pub(crate) struct Decided {
    code: String,
    #[serde(default)]
    name: String,
    decision: String,
}

/// `POST /bridge/activate`.
pub(crate) async fn decision(
    State(hub): State<Hub>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    Form(form): Form<Decided>,
) -> Response {
    let Decided {
        code,
        name,
        decision,
    } = form;
    let wish = match decision.as_str() {
        "allow" => Wish::Allow { name },
        "replace" => Wish::Replace { name },
        "deny" => Wish::Deny,
        _ => return respond(StatusCode::BAD_REQUEST, enter(Some("nothing was decided"))),
    };
    let allowed = wish != Wish::Deny;
    let from = visitor.source(&headers);
    match hub.decide_device(from, &code, wish).await {
        Ok(()) => respond(StatusCode::OK, done(allowed)),
        Err(HubError::NameTaken { name }) => respond(StatusCode::CONFLICT, taken(&code, &name)),
        Err(error) => refused(&error),
    }
}

fn refused(error: &HubError) -> Response {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status.is_server_error() {
        return message::problem(error);
    }
    let page = respond(status, enter(Some(&error.to_string())));
    crate::endpoint::failure::with_wait(page, error)
}

fn enter(problem: Option<&str>) -> Markup {
    html! {
        div.notice {
            h1 { "Let a machine in" }
            @if let Some(problem) = problem { p.alert.bad role="alert" { (sentence(problem)) } }
            p { "Enter the code that " code { "ctrlnode login" } " shows on the machine." }
            form.reply method="get" action=(PAGE_PATH) {
                label.sr for="code" { "Code of the machine" }
                input #code name="code" required autocomplete="off" autocapitalize="characters" placeholder="BCDF-GHJK";
                button.button.primary type="submit" { "Continue" }
            }
            p.hint { "A code is good for ten minutes." }
        }
    }
}

/// `free` is a name that no machine has yet: its own, where that is one.
fn decide(code: &str, request: &DeviceRequest, free: &str) -> Markup {
    let DeviceRequest {
        hostname,
        platform,
        bridge_version,
    } = request;
    html! {
        div.notice {
            h1 { "Let this machine in?" }
            p { "It calls itself " strong { (hostname) } " (" (platform) ", bridge " (bridge_version) ")." }
            p { "Allow it only if you have just started " code { "ctrlnode login" } " there yourself and it shows this code: " strong { (code) } ". Tasks and files you send to it can be read there." }
            @if free != hostname {
                p.alert.attention { "A machine called " strong { (hostname) } " is here already. If this is that machine, call it the same and it is replaced after you were asked; otherwise it needs another name." }
            }
            form.reply method="post" action=(PAGE_PATH) {
                input type="hidden" name="code" value=(code);
                label.sr for="name" { "What to call it" }
                input #name name="name" value=(free) maxlength="100" required autocomplete="off";
                button.button.primary type="submit" name="decision" value="allow" { "Allow" }
                button.button type="submit" name="decision" value="deny" { "Deny" }
            }
        }
    }
}

/// The person chose the name of another machine.
fn taken(code: &str, name: &str) -> Markup {
    let again = format!(
        "{PAGE_PATH}?code={}",
        code.replace([' ', '&', '#', '+', '%'], "")
    );
    html! {
        div.notice {
            h1 { "Replace a machine?" }
            p.alert.bad role="alert" { "Another machine is called " strong { (name) } "." }
            p { "Replaced, it loses its token, is disconnected, and what runs there is ended in the books of this hub. That happens when the new machine comes for its own token." }
            form.reply method="post" action=(PAGE_PATH) {
                input type="hidden" name="code" value=(code);
                input type="hidden" name="name" value=(name);
                a.button.primary href=(again) { "Choose another name" }
                button.button type="submit" name="decision" value="replace" { "Replace it" }
            }
        }
    }
}

fn done(allowed: bool) -> Markup {
    html! {
        div.notice {
            @if allowed {
                h1 { "The machine is let in" }
                p { "It gets its token within seconds. Start the bridge there with " code { "ctrlnode" } "." }
            } @else {
                h1 { "The machine is not let in" }
                p { "It is told so, and gets no token." }
            }
            p { a.button href="/" { "To the start page" } }
        }
    }
}

fn respond(status: StatusCode, main: Markup) -> Response {
    Page {
        title: "Let a machine in",
        script: None,
        navigation: true,
        main,
    }
    .respond(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::tests::assert_nothing_inline;

    #[test]
    fn what_a_machine_says_of_itself_is_escaped() {
        let request = DeviceRequest {
            hostname: "<script>alert(1)</script>".into(),
            platform: "\"><img src=x>".into(),
            bridge_version: "v1".into(),
        };
        let html = decide("\"><b>", &request, "\"><b>").into_string();
        assert_nothing_inline(&html);
        assert!(!html.contains("<script") && !html.contains("<img") && !html.contains("<b>"));
        let html = taken("\"><b>&x#", "<script>x</script>").into_string();
        assert_nothing_inline(&html);
        assert!(!html.contains("<script") && !html.contains("<b>"), "{html}");
        assert_nothing_inline(&enter(Some("no")).into_string());
    }
}
