//! Styles, scripts and pictures, embedded in the binary. An address with the right content hash may
//! be kept for ever; any other address of the same file is checked again each time.

use axum::{
    extract::{Path, Query},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use rust_embed::{EmbeddedFile, RustEmbed};
use serde::Deserialize;

#[derive(RustEmbed)]
#[folder = "src/web/assets"]
struct Assets;

/// Where a file is found, with its content hash.
pub(crate) fn url(name: &str) -> String {
    match Assets::get(name) {
        Some(file) => format!("/assets/{name}?v={}", hash(&file)),
        None => format!("/assets/{name}"),
    }
}

/// `GET /assets/{name}`.
pub(crate) async fn serve(
    Path(name): Path<String>,
    Query(query): Query<Version>,
    headers: HeaderMap,
) -> Response {
    let Some(file) = Assets::get(&name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let hash = hash(&file);
    let tag = format!("\"{hash}\"");
    let caching = if query.v.as_deref() == Some(&*hash) {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let common = [
        (header::ETAG, tag.clone()),
        (header::CACHE_CONTROL, caching.to_owned()),
        (header::CONTENT_TYPE, content_type(&name).to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok());
    if known.is_some_and(|known| known.split(',').any(|one| one.trim() == tag)) {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    (common, file.data.into_owned()).into_response()
}

/// The query of an asset's address.
#[derive(Debug, Deserialize)]
pub(crate) struct Version {
    v: Option<String>,
}

fn hash(file: &EmbeddedFile) -> String {
    let hash = file.metadata.sha256_hash();
    let head = hash
        .iter()
        .take(8)
        .fold(0_u64, |head, byte| (head << 8) | u64::from(*byte));
    format!("{head:016x}")
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn fetch(version: Option<&str>, known: Option<&str>) -> Response {
        let mut headers = HeaderMap::new();
        if let Some(known) = known {
            headers.insert(header::IF_NONE_MATCH, known.parse().unwrap());
        }
        let query = Query(Version {
            v: version.map(str::to_owned),
        });
        serve(Path("app.css".into()), query, headers).await
    }

    #[tokio::test]
    async fn only_the_address_with_the_right_hash_is_kept_for_ever() {
        let address = url("app.css");
        let version = address.rsplit_once("?v=").unwrap().1;
        let right = fetch(Some(version), None).await;
        assert!(
            right.headers()[header::CACHE_CONTROL]
                .to_str()
                .unwrap()
                .contains("immutable")
        );
        let wrong = fetch(Some("0000"), None).await;
        assert_eq!(wrong.headers()[header::CACHE_CONTROL], "no-cache");
        assert_eq!(
            right.headers()[header::CONTENT_TYPE],
            "text/css; charset=utf-8"
        );
    }

    #[tokio::test]
    async fn an_unchanged_file_is_not_sent_again() {
        let tag = fetch(None, None).await.headers()[header::ETAG]
            .to_str()
            .unwrap()
            .to_owned();
        let again = fetch(None, Some(&format!("\"other\", {tag}"))).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    }

    #[test]
    fn every_file_has_a_type_and_none_needs_another_origin() {
        for name in Assets::iter() {
            assert_ne!(content_type(&name), "application/octet-stream", "{name}");
            let file = Assets::get(&name).unwrap();
            let text = String::from_utf8(file.data.into_owned()).unwrap();
            let outside = text.replace("http://www.w3.org/2000/svg", "");
            assert!(
                !outside.contains("http://") && !outside.contains("https://"),
                "{name}"
            );
            assert!(!text.contains("innerHTML"), "{name} writes HTML from text");
        }
    }
}
