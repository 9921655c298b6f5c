//! JSON bodies in, strictly: unknown fields are refused by name, limits have their own answer.

use std::fmt::Formatter;
use std::marker::PhantomData;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Path, Query, Request};
use axum::http::StatusCode;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};

use super::ApiError;
use crate::app::App;

/// A request body of type `T`. `T` must deny unknown fields.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, app).await.map_err(unreadable)?;
        // Which is taken for an object whose fields come in order.
        if bytes.trim_ascii_start().starts_with(b"[") {
            let detail = "the body must be a JSON object, and is an array";
            return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_body", detail));
        }
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            let inner = error.into_inner();
            let place = if path == "." { String::new() } else { format!("{path}: ") };
            let code = if inner.is_data() { "invalid_body" } else { "malformed_json" };
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code, format!("{place}{inner}"))
        })?;
        json.end().map_err(|error| {
            let detail = error.to_string();
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "malformed_json", detail)
        })?;
        Ok(Self(value))
    }
}

/// A field that is an object. By itself, a struct also takes an array, as its fields in order.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, text: &mut Formatter<'_>) -> std::fmt::Result {
                text.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
            }
        }
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// For `deserialize_with`: an object and no array.
pub fn object<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Object::deserialize(deserializer).map(|Object(value)| value)
}

/// The same of a field that may be absent or null.
pub fn optional_object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let found = Option::<Object<T>>::deserialize(deserializer)?;
    Ok(found.map(|Object(value)| value))
}

/// The same of a list of objects.
pub fn objects<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let found = Vec::<Object<T>>::deserialize(deserializer)?;
    Ok(found.into_iter().map(|Object(value)| value).collect())
}

/// What a body that cannot be read is answered with.
pub fn unreadable(rejection: BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let limit = domain::limits::MAX_BODY_BYTES;
        let detail = format!("the request body is over {limit} bytes");
        return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail);
    }
    let detail = "the request body broke off, paused for too long, or did not end in time";
    ApiError::new(StatusCode::BAD_REQUEST, "unreadable_body", detail)
}

/// An id in a path. What is no id of the right kind is simply not there.
pub struct Id<T>(pub T);

impl<T: std::str::FromStr + Send> axum::extract::FromRequestParts<App> for Id<T> {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        app: &App,
    ) -> Result<Self, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, app)
            .await
            .map_err(|_| ApiError::not_found("object"))?;
        text.parse().map(Self).map_err(|_| ApiError::not_found("object"))
    }
}

/// A query string of type `T`. `T` must deny unknown fields.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned> axum::extract::FromRequestParts<App> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        app: &App,
    ) -> Result<Self, ApiError> {
        let Query(value) = Query::from_request_parts(parts, app).await.map_err(|rejection| {
            let detail = rejection.body_text();
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_query", detail)
        })?;
        Ok(Self(value))
    }
}

/// The request's `Idempotency-Key`, if it has one: text, and one only.
pub struct IdempotencyKey(pub Option<String>);

impl axum::extract::FromRequestParts<App> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        _: &App,
    ) -> Result<Self, ApiError> {
        let mut keys = parts.headers.get_all("idempotency-key").iter();
        let Some(key) = keys.next() else { return Ok(Self(None)) };
        let text = key.to_str().ok().filter(|_| keys.next().is_none());
        text.map(|key| Self(Some(key.to_owned()))).ok_or_else(|| {
            let detail = "there must be one Idempotency-Key, of printable ASCII";
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_idempotency_key", detail)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Size {
        rows: u16,
        #[serde(default)]
        cols: u16,
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Sizes {
        #[serde(deserialize_with = "object")]
        one: Size,
        #[serde(default, deserialize_with = "optional_object")]
        maybe: Option<Size>,
        #[serde(deserialize_with = "objects")]
        many: Vec<Size>,
    }

    fn read(one: &str, maybe: &str, many: &str) -> Result<Sizes, String> {
        let text = format!(r#"{{"one": {one}, {maybe} "many": {many}}}"#);
        let mut json = serde_json::Deserializer::from_str(&text);
        serde_path_to_error::deserialize(&mut json).map_err(|error| error.to_string())
    }

    #[test]
    fn an_array_is_no_object_wherever_it_stands() {
        let size = |rows, cols| Size { rows, cols };
        let all = read(r#"{"rows": 1}"#, r#""maybe": {"rows": 2, "cols": 3},"#, r#"[{"rows": 4}]"#);
        let expected = Sizes { one: size(1, 0), maybe: Some(size(2, 3)), many: vec![size(4, 0)] };
        assert_eq!(all, Ok(expected));
        let fine = r#"{"rows": 1}"#;
        assert_eq!(read(fine, "", "[]").map(|sizes| sizes.maybe), Ok(None));
        assert_eq!(read(fine, r#""maybe": null,"#, "[]").map(|sizes| sizes.maybe), Ok(None));
        for (one, maybe, many, place) in [
            ("[1, 2]", "", "[]", "one: "),
            (fine, r#""maybe": [1, 2],"#, "[]", "maybe: "),
            (fine, "", r#"[{"rows": 1}, [1, 2]]"#, "many[1]: "),
        ] {
            let error = read(one, maybe, many).expect_err("an array");
            assert!(error.starts_with(place) && error.contains("an object"), "{error}");
        }
        // What is wrong inside is still told by its place.
        let error = read(r#"{"rows": "x"}"#, "", "[]").expect_err("a text");
        assert!(error.starts_with("one.rows: "), "{error}");
        let error = read(r#"{"rows": 1, "depth": 2}"#, "", "[]").expect_err("unknown");
        assert!(error.contains("unknown field `depth`"), "{error}");
    }
}
