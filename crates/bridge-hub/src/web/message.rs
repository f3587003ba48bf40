//! Pages that say one thing: how to log in, what is not there, what went wrong.

use axum::{http::StatusCode, response::Response};
use maud::{Markup, html};

use super::layout::{Page, with_code};
use crate::error::HubError;

/// What a visitor without a session sees; `problem` says why the last try failed, `next` is the
/// path to go on to.
pub(crate) fn login_page(problem: Option<&str>, next: &str) -> Response {
    let main = html! {
        div.notice {
            h1 { "Please log in" }
            @if let Some(problem) = problem { p.alert.bad role="alert" { (sentence(problem)) } }
            p { "This page belongs to whoever runs the hub. To open it, use an address with a login code:" }
            ul.ways {
                li {
                    strong { "Started with " code { "ctrlnode up" } "?" }
                    " Open the address it printed; the code in it works once."
                }
                li {
                    strong { "Otherwise," }
                    " or for a fresh code, run " code { "ctrlnode hub login" } " where the hub runs and open the address it prints on this device, or paste it here."
                }
            }
            form.reply method="post" action="/login" {
                label.sr for="code" { "Login code, or the address with it" }
                input #code name="code" type="password" required autocomplete="off" placeholder="Login code or address";
                input type="hidden" name="next" value=(next);
                button.button.primary type="submit" { "Log in" }
            }
            p.hint { "A code works once and for ten minutes. This browser then stays logged in for a month." }
        }
    };
    Page {
        title: "Log in",
        script: None,
        navigation: false,
        main,
    }
    .respond(StatusCode::UNAUTHORIZED)
}

/// For addresses that lead nowhere.
pub(crate) async fn not_found() -> Response {
    say(
        StatusCode::NOT_FOUND,
        "Nothing here",
        &html! { p { "This address leads nowhere. Old tasks are removed after a while." } },
    )
}

/// For what the hub refused or could not do.
pub(crate) fn problem(error: &HubError) -> Response {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let head = match status.as_u16() {
        404 => "Nothing here",
        400..=499 => "That did not work",
        _ => "Something went wrong",
    };
    let body = html! {
        p { (sentence(&error.to_string())) }
        @if let Some(hint) = error.hint() { p.hint { (with_code(&sentence(hint))) } }
    };
    say(status, head, &body)
}

/// A fragment of an error message as a sentence.
pub(crate) fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        let end = if text.ends_with(['.', '!', '?']) {
            ""
        } else {
            "."
        };
        format!("{}{}{end}", first.to_uppercase(), letters.as_str())
    })
}

fn say(status: StatusCode, head: &str, body: &Markup) -> Response {
    let main = html! {
        div.notice {
            p.code-number { (status.as_u16()) }
            h1 { (head) }
            (body)
            p { a.button href="/" { "To the start page" } }
        }
    };
    Page {
        title: head,
        script: None,
        navigation: true,
        main,
    }
    .respond(status)
}
