//! Errors as every viewer gets them: `{"error": {"code", "message", "hint"}}`.

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Query, Request},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::error::HubError;

/// What handlers of the API give.
pub(crate) type Answer = Result<Response, Failure>;

/// An error on its way to a response.
#[derive(Debug)]
pub(crate) struct Failure(HubError);

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self(error)
    }
}

impl axum::response::IntoResponse for Failure {
    fn into_response(self) -> Response {
        response(&self.0)
    }
}

/// The response for an error.
pub(crate) fn response(error: &HubError) -> Response {
    if error.status() >= 500 {
        tracing::error!(error = error as &dyn std::error::Error, "a request failed");
    }
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let refused = refusal(status, error.code(), &error.to_string(), error.hint());
    with_wait(refused, error)
}

/// The response with the header that says when to try again, where the error knows it.
pub(crate) fn with_wait(mut response: Response, error: &HubError) -> Response {
    if let HubError::TooManyLogins { wait } = error {
        let seconds = HeaderValue::from(wait.as_secs().max(1));
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

/// The response for something that went wrong before the hub was asked.
pub(crate) fn refusal(
    status: StatusCode,
    code: &str,
    message: &str,
    hint: Option<&str>,
) -> Response {
    let body = json!({ "error": { "code": code, "message": message, "hint": hint } });
    (status, Json(body)).into_response()
}

/// A JSON body, or an error in JSON; an empty body is an empty object.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|rejection| {
                refusal(
                    rejection.status(),
                    "body",
                    &rejection.body_text().to_lowercase(),
                    None,
                )
            })?;
        let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(bytes)
            .map(Self)
            .map_err(|error| response(&malformed("request body", &error.to_string())))
    }
}

/// What stands behind the `?` of an address, or an error in JSON.
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(rejection) => Err(response(&malformed(
                "query",
                &rejection.body_text().to_lowercase(),
            ))),
        }
    }
}

/// A value of the viewer's that cannot be read.
pub(crate) fn malformed(what: &'static str, reason: &str) -> HubError {
    HubError::Malformed {
        what,
        reason: reason.to_owned(),
    }
}

/// Reads an id of the path.
pub(crate) fn id<T: std::str::FromStr>(what: &'static str, text: &str) -> Result<T, Failure>
where
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|error: T::Err| malformed(what, &error.to_string()).into())
}
