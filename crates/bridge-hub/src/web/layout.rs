//! The frame around every page, and the small parts pages share: badges, icons, times.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bridge_proto::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::assets;

/// What a page is made of.
pub(crate) struct Page<'a> {
    /// In the browser's tab, in front of the product's name.
    pub(crate) title: &'a str,
    /// The script module of this page, if it has one.
    pub(crate) script: Option<&'static str>,
    /// Whether the top bar leads anywhere; not before a login.
    pub(crate) navigation: bool,
    /// Between the bars.
    pub(crate) main: Markup,
}

impl Page<'_> {
    /// The whole document.
    pub(crate) fn render(&self) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    title { (self.title) " · ctrlnode" }
                    meta name="viewport"
                        content="width=device-width, initial-scale=1, viewport-fit=cover, interactive-widget=resizes-content";
                    meta name="color-scheme" content="light dark";
                    meta name="theme-color" media="(prefers-color-scheme: light)" content="#f6f7f9";
                    meta name="theme-color" media="(prefers-color-scheme: dark)" content="#101217";
                    meta name="referrer" content="same-origin";
                    meta name="robots" content="noindex";
                    link rel="icon" type="image/svg+xml" href=(assets::url("favicon.svg"));
                    link rel="stylesheet" href=(assets::url("app.css"));
                    @if let Some(script) = self.script {
                        script type="module" src=(assets::url(script)) {}
                    }
                }
                body {
                    a.skip href="#main" { "Skip to content" }
                    header.bar {
                        div.bar-inner {
                            @if self.navigation {
                                a.brand href="/" aria-label="ctrlnode, start page" { (logo()) span { "ctrlnode" } }
                                a.button.primary.small href="/new" { (icon(Icon::Plus)) "New task" }
                            } @else {
                                span.brand { (logo()) span { "ctrlnode" } }
                            }
                        }
                    }
                    main #main tabindex="-1" { (self.main) }
                    div #toast .toast role="alert" hidden {}
                }
            }
        }
    }

    /// The document as a response.
    pub(crate) fn respond(&self, status: StatusCode) -> Response {
        html_response(status, self.render())
    }
}

/// Markup as a response, with the policy that forbids everything but our own files. Our own pages
/// may see where a request came from: without that, a browser sends forms with the origin `null`.
pub(crate) fn html_response(status: StatusCode, markup: Markup) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
    ];
    (status, headers, markup.into_string()).into_response()
}

/// Nothing from elsewhere, nothing inline, never in a frame.
pub(crate) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The colour of a badge or dot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing to say.
    Quiet,
    /// Works.
    Active,
    /// Wants a person.
    Attention,
    /// Went well.
    Good,
    /// Went wrong.
    Bad,
}

impl Tone {
    /// Its class name.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Active => "active",
            Self::Attention => "attention",
            Self::Good => "good",
            Self::Bad => "bad",
        }
    }
}

/// A word with a coloured dot.
pub(crate) fn badge(tone: Tone, text: &str) -> Markup {
    html! { span class={ "badge " (tone.class()) } { span.dot aria-hidden="true" {} (text) } }
}

/// A sentence in which backticks mark code.
pub(crate) fn with_code(text: &str) -> Markup {
    if text.matches('`').count() % 2 == 1 {
        return html! { (text) };
    }
    html! {
        @for (at, part) in text.split('`').enumerate() {
            @if at % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// A point in time, which the script turns into the reader's own clock.
pub(crate) fn time(at: Timestamp) -> Markup {
    let iso = at.to_string();
    let (day, rest) = iso.split_once('T').unwrap_or((&iso, ""));
    let minutes: String = rest.chars().take(5).collect();
    html! { time datetime=(iso) { (day) " " (minutes) " UTC" } }
}

/// A length of time for people: `850 ms`, `12 s`, `3 min 4 s`, `2 h 5 min`.
pub(crate) fn duration(millis: i64) -> String {
    let seconds = millis / 1000;
    match seconds {
        ..1 => format!("{} ms", millis.max(0)),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600.. => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A number of bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let (mut tenths, mut unit) = (bytes.saturating_add(50) / 100, 0);
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths = (tenths + 500) / 1000;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// The pictures of the page, drawn with lines in the colour of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Icon {
    Plus,
    Back,
    Send,
    Stop,
    Clip,
    Down,
    Check,
    Cross,
    Clock,
    Spin,
    Dash,
    File,
    Pencil,
    Terminal,
    Search,
    Globe,
    Thought,
    Gear,
    Trash,
    Shield,
    Question,
    List,
    Machine,
}

/// An icon; hidden from readers that cannot see it.
pub(crate) fn icon(icon: Icon) -> Markup {
    let path = match icon {
        Icon::Plus => "M12 5v14M5 12h14",
        Icon::Back => "M15 5l-7 7 7 7",
        Icon::Send => "M12 19V5M6 11l6-6 6 6",
        Icon::Stop => "M7 7h10v10H7z",
        Icon::Clip => {
            "M20 11.5l-8.2 8.2a5 5 0 0 1-7.1-7.1l8.5-8.5a3.3 3.3 0 0 1 4.7 4.7l-8.4 8.4a1.7 1.7 0 0 1-2.4-2.4l7.6-7.5"
        }
        Icon::Down => "M12 4v12M7 11l5 5 5-5M5 20h14",
        Icon::Check => "M5 12.5l4.5 4.5L19 7.5",
        Icon::Cross => "M7 7l10 10M17 7L7 17",
        Icon::Clock => "M12 7.5V12l3 2M21 12a9 9 0 1 1-18 0 9 9 0 0 1 18 0z",
        Icon::Spin => "M12 3a9 9 0 1 0 9 9",
        Icon::Dash => "M6 12h12",
        Icon::File => "M7 3h7l5 5v13H7zM14 3v5h5",
        Icon::Pencil => "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
        Icon::Terminal => "M4 5h16v14H4zM8 10l2.5 2L8 14M13 15h3",
        Icon::Search => "M16.5 16.5L21 21M18 11a7 7 0 1 1-14 0 7 7 0 0 1 14 0z",
        Icon::Globe => {
            "M21 12a9 9 0 1 1-18 0 9 9 0 0 1 18 0zM3 12h18M12 3c5 5 5 13 0 18M12 3c-5 5-5 13 0 18"
        }
        Icon::Thought => {
            "M9.5 18h5M10.5 21h3M8.5 14.5a6 6 0 1 1 7 0c-.6.6-1 1.2-1 2h-5c0-.8-.4-1.4-1-2z"
        }
        Icon::Gear => {
            "M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM12 3v3M12 18v3M3 12h3M18 12h3M5.6 5.600l2.1 2.100M16.3 16.300l2.1 2.100M5.6 18.400l2.1-2.100M16.3 7.700l2.1-2.1"
        }
        Icon::Trash => "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
        Icon::Shield => "M12 3l7.5 3v5.500c0 4.5-3 8-7.5 9.5-4.5-1.5-7.5-5-7.5-9.500V6z",
        Icon::Question => {
            "M9 9.500a3 3 0 1 1 4.5 2.600c-1 .6-1.5 1.2-1.5 2.400M12 18v.01M21 12a9 9 0 1 1-18 0 9 9 0 0 1 18 0z"
        }
        Icon::List => "M9 6h11M9 12h11M9 18h11M4.5 6h.01M4.5 12h.01M4.5 18h.01",
        Icon::Machine => "M4 5h16v11H4zM9 20h6M12 16v4",
    };
    let class = if icon == Icon::Spin {
        "icon spin"
    } else {
        "icon"
    };
    html! {
        svg class=(class) viewBox="0 0 24 24" width="18" height="18" fill="none" stroke="currentColor"
            stroke-width="1.75" stroke-linecap="round" stroke-linejoin="round"
            aria-hidden="true" focusable="false" {
            path d=(path) {}
        }
    }
}

fn logo() -> Markup {
    PreEscaped(LOGO.to_owned())
}

const LOGO: &str = include_str!("assets/logo.svg");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_read_well() {
        assert_eq!(
            [0, 999, 1000, 15_360, 999_960, 2_500_000, 3_000_000_000].map(size),
            [
                "0 B", "999 B", "1.0 kB", "15.4 kB", "1.0 MB", "2.5 MB", "3.0 GB"
            ]
        );
        assert_eq!(
            [850, 12_400, 184_000, 7_500_000].map(duration),
            ["850 ms", "12 s", "3 min 4 s", "2 h 5 min"]
        );
    }

    #[test]
    fn backticks_mark_code_and_everything_is_escaped() {
        assert_eq!(
            with_code("run `a <b>` now").into_string(),
            "run <code>a &lt;b&gt;</code> now"
        );
        assert_eq!(with_code("5` long").into_string(), "5` long");
    }

    #[test]
    fn times_are_readable_without_a_script() {
        let shown = time(Timestamp::from_millis(1_773_480_413_589)).into_string();
        assert_eq!(
            shown,
            "<time datetime=\"2026-03-14T09:26:53.589Z\">2026-03-14 09:26 UTC</time>"
        );
    }
}
