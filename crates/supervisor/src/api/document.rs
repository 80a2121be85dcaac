//! The OpenAPI document: every page, made of the table of pages and of what their handlers take and answer. Nothing in
//! it is of a farm: it is the same wherever this release runs, and says nothing that isn't public.

use super::describe::{For, Made, MadeKind, Operation, Said, Schemas};
use super::{ACTING_AS, ApiError, Page, routes, worker_routes};
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// Made once: it doesn't change while the program runs.
static TEXT: LazyLock<String> = LazyLock::new(|| format!("{:#}\n", document()));

/// The document, as it is served and committed.
#[must_use]
pub fn openapi() -> &'static str {
    &TEXT
}

/// Marks the page itself.
pub(crate) struct Document;

impl MadeKind for Document {
    const DESCRIPTION: &str = "This document.";

    fn content(_: &mut Schemas) -> Option<(&'static str, Value)> {
        Some(("application/json", json!({ "type": "object" })))
    }
}

pub(super) async fn page() -> Made<Document> {
    let mut response = openapi().into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.into()
}

fn document() -> Value {
    let mut schemas = Schemas::new();
    let error = schemas.answered::<ApiError>();
    let mut paths = Map::new();
    for page in routes() {
        let operation = page.operation(&mut schemas);
        let methods = paths.entry(page.path).or_insert_with(|| json!({}));
        methods[page.method.to_lowercase()] = written(&page, operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Stead",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": env!("CARGO_PKG_LICENSE") },
            "description": about(),
        },
        "servers": [{ "url": "/", "description": "The farm's own address, or its socket." }],
        "security": security(),
        "paths": paths,
        "components": {
            "schemas": schemas.named(),
            "securitySchemes": schemes(),
            "parameters": { "SteadAs": stead_as() },
            "responses": { "Refused": refused(&error) },
        },
    })
}

fn about() -> String {
    let workers: Vec<String> = worker_routes().iter().map(|page| format!("`{} {}`", page.method, page.path)).collect();
    format!(
        "A job farm that runs every job as the right person. Every field of an answer is always there; what is absent \
         is `null`. Times are RFC 3339 in UTC.\n\nWhoever may not know of something gets the same answer as if it didn't \
         exist. Every refusal has the shape of `Problem`: `message` says what, `rule` which rule refused, `hint` what \
         would change it.\n\nWorkers have a socket of their own, whose pages are no part of this interface and change \
         with it: {}.",
        workers.join(", ")
    )
}

/// Any one of these.
fn security() -> Value {
    json!([{ "socketPeer": [] }, { "bearer": [] }, { "cookie": [] }])
}

fn schemes() -> Value {
    json!({
        "socketPeer": {
            "type": "http",
            "scheme": "x-socket-peer",
            "description": "On the farm's Unix socket: the kernel says whose connection it is, and nothing is sent.",
        },
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "A session (`POST /api/v1/login`), a token (`POST /api/v1/tokens`), or the token of a job. What \
                            it was made for bounds what it can do.",
        },
        "cookie": {
            "type": "apiKey",
            "in": "cookie",
            "name": "stead",
            "description": "What a browser was given when it signed in (`__Host-stead` behind TLS). What changes something \
                            also has to say that it comes from this site: `Origin` or `Sec-Fetch-Site`.",
        },
    })
}

fn stead_as() -> Value {
    json!({
        "name": ACTING_AS,
        "in": "header",
        "required": false,
        "schema": { "type": "string" },
        "description": "Act as this proxy user for this request alone. Needs a live grant; refused while another \
                        association is active. Pages that don't take it are always one's own (sessions, tokens, the \
                        password, acting itself), and refuse it unless it names whoever is signed in.",
    })
}

fn refused(error: &Value) -> Value {
    let schema = json!({ "type": "object", "required": ["error"], "properties": { "error": error } });
    json!({
        "description": "Not done, and why.",
        "headers": { "Retry-After": { "description": "Seconds, with 429.", "schema": { "type": "integer" } } },
        "content": { "application/json": { "schema": schema } },
    })
}

fn written(page: &Page, operation: Operation) -> Value {
    let mut out = json!({
        "operationId": page.name,
        "summary": page.summary,
        "tags": [page.tag()],
        "parameters": parameters(page, &operation),
        "responses": responses(&operation),
    });
    if operation.whom == For::Anybody {
        out["security"] = json!([]);
    }
    if let Some(schema) = operation.body {
        // An empty body is `{}`: who leaves everything out needn't send it.
        out["requestBody"] = json!({ "content": { "application/json": { "schema": schema } } });
    }
    out
}

fn parameters(page: &Page, operation: &Operation) -> Vec<Value> {
    let in_path = page.in_path().zip(&operation.in_path);
    let in_path =
        in_path.map(|(name, schema)| json!({ "name": name, "in": "path", "required": true, "schema": schema }));
    let query = operation.query.iter().map(|(name, schema)| {
        let mut schema = in_text(schema.clone());
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        let required = operation.required.contains(name);
        let mut out = json!({ "name": name, "in": "query", "required": required, "schema": schema });
        if let Some(text) = description {
            out["description"] = text;
        }
        out
    });
    let header = (operation.whom == For::Caller).then(|| json!({ "$ref": "#/components/parameters/SteadAs" }));
    in_path.chain(query).chain(header).collect()
}

/// What is in an address is there or not, but never `null`.
fn in_text(mut schema: Value) -> Value {
    if let Some(Value::Array(kinds)) = schema.get("type") {
        let kind = kinds.iter().find(|kind| *kind != "null").cloned().unwrap_or_default();
        schema["type"] = kind;
    }
    if schema.get("default").is_some_and(Value::is_null) {
        schema.as_object_mut().map(|schema| schema.remove("default"));
    }
    schema
}

fn responses(operation: &Operation) -> Value {
    let answers = operation.answers.iter().map(|(status, said)| (status.to_string(), answer(said)));
    let refusals = operation.refusals.iter();
    let refusals = refusals.map(|status| (status.to_string(), json!({ "$ref": "#/components/responses/Refused" })));
    answers.chain(refusals).collect::<Map<_, _>>().into()
}

fn answer(said: &Said) -> Value {
    let mut out = json!({ "description": said.description });
    if let Some((kind, schema)) = &said.content {
        out["content"] = json!({ *kind: { "schema": schema } });
    }
    for (name, text) in &said.headers {
        out["headers"][*name] = json!({ "description": text, "schema": { "type": "string" } });
    }
    out
}
