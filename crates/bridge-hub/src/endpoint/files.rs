//! Result files over the API. Their content is an agent's, so a browser only ever downloads it.

use std::fmt::Write as _;

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::IntoResponse as _,
};
use serde_json::json;

use super::failure::{Answer, id};
use crate::hub::Hub;

/// `GET /api/v1/tasks/{id}/files`.
pub(crate) async fn list(State(hub): State<Hub>, Path(task): Path<String>) -> Answer {
    let files = hub.files(&id("task id", &task)?).await?;
    let told = json!({ "files": files.entries, "truncated": files.truncated });
    Ok(Json(told).into_response())
}

/// `DELETE /api/v1/tasks/{id}/files/{*path}`.
pub(crate) async fn delete(
    State(hub): State<Hub>,
    Path((task, path)): Path<(String, String)>,
) -> Answer {
    hub.delete_file(&id("task id", &task)?, &path).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `GET /api/v1/tasks/{id}/files/{*path}`.
pub(crate) async fn read(
    State(hub): State<Hub>,
    Path((task, path)): Path<(String, String)>,
) -> Answer {
    let file = hub.read_file(&id("task id", &task)?, &path).await?;
    let name = path.rsplit('/').next().unwrap_or(&path);
    let kind = HeaderValue::from_str(&file.content_type)
        .unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let headers: [(HeaderName, HeaderValue); 3] = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_DISPOSITION, attachment(name)),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; sandbox"),
        ),
    ];
    Ok((headers, file.bytes).into_response())
}

/// With the name in both ways of RFC 6266.
fn attachment(name: &str) -> HeaderValue {
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_graphic() && !r#""\%"#.contains(c) || c == ' ' {
                c
            } else {
                '_'
            }
        })
        .collect();
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    let value = format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}");
    HeaderValue::from_str(&value).unwrap_or(HeaderValue::from_static("attachment"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn download_names_cannot_break_out_of_their_header() {
        let value = attachment("a\"; x=\"é\r\n.html");
        assert_eq!(
            value.to_str().unwrap(),
            "attachment; filename=\"a_; x=____.html\"; \
             filename*=UTF-8''a%22%3B%20x%3D%22%C3%A9%0D%0A.html"
        );
    }
}
