//! The OpenAPI document is what is committed, is whole, and is true: whatever any test of this crate sends and gets is
//! held against it ([`holds`]).

use super::{ADA, Supervised, operator, tcp};
use crate::api::{openapi, routes};
use crate::authn::Peer;
use axum::http::StatusCode;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::LazyLock;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(openapi()).expect("json"));

/// A file of `docs/` that is made of the code: it is as committed, or made anew with `STEAD_UPDATE=1`.
pub(crate) fn is_committed(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    if std::env::var_os("STEAD_UPDATE").is_some() {
        std::fs::write(&path, text).expect("written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == text, "docs/{name} is not what the code says: STEAD_UPDATE=1 writes it anew; then look at it");
}

/// Method and path of each operation, and the operation.
pub(crate) fn operations() -> Vec<(String, &'static str, &'static Value)> {
    let paths = DOCUMENT["paths"].as_object().expect("paths");
    let of = |(path, methods): (&'static String, &'static Value)| {
        let methods = methods.as_object().expect("methods");
        methods.iter().map(move |(method, operation)| (method.to_uppercase(), path.as_str(), operation))
    };
    paths.iter().flat_map(of).collect()
}

#[test]
fn the_document_is_the_committed_one() {
    is_committed("openapi.json", openapi());
}

#[tokio::test]
async fn every_page_is_in_the_document_and_the_document_has_no_other() {
    let pages: BTreeSet<_> = routes().iter().map(|page| (page.method.to_owned(), page.path)).collect();
    let documented: BTreeSet<_> = operations().into_iter().map(|(method, path, _)| (method, path)).collect();
    assert_eq!(pages, documented);
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    for (method, path, _) in operations() {
        let status = farm.status(tcp(), &method, &path.replace("{id}", "1").replace("{name}", "x")).await;
        assert!(
            status != StatusCode::NOT_FOUND && status != StatusCode::METHOD_NOT_ALLOWED,
            "{method} {path}: {status}"
        );
    }
}

#[tokio::test]
async fn anybody_may_read_it_and_it_is_of_no_farm() {
    let dir = tempfile::tempdir().expect("dir");
    let farm = Supervised::start(dir.path()).await;
    for peer in [tcp(), Peer::Unix { uid: ADA }, Peer::Unix { uid: operator() }] {
        let (status, bytes) = farm.call(peer, "GET", "/api/v1/openapi.json", Value::Null).await;
        assert_eq!((status, String::from_utf8_lossy(&bytes).as_ref()), (StatusCode::OK, openapi()));
    }
}

#[test]
fn it_is_whole() {
    let mut names = BTreeSet::new();
    for (method, path, operation) in operations() {
        let at = format!("{method} {path}");
        assert!(names.insert(operation["operationId"].as_str().expect("a name")), "{at}: two of one name");
        let named: Vec<_> = parameters(operation, "path").map(|p| p["name"].as_str().expect("name")).collect();
        let in_path: Vec<_> = path.split('/').filter_map(|p| p.strip_prefix('{')?.strip_suffix('}')).collect();
        assert_eq!(named, in_path, "{at}: every name in the path is an argument of its handler");
        assert!(operation["summary"].as_str().is_some_and(|s| s.ends_with('.')), "{at}");
        assert!(operation["responses"].as_object().is_some_and(|r| r.keys().any(|s| s < &"400".to_owned())), "{at}");
    }
    let mut refs = Vec::new();
    references(&DOCUMENT, &mut refs);
    assert!(refs.len() > 100, "{}", refs.len());
    for to in refs {
        assert!(DOCUMENT.pointer(to.trim_start_matches('#')).is_some(), "{to} is nowhere");
    }
}

fn references<'a>(value: &'a Value, out: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            out.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|value| references(value, out));
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, out)),
        _ => {}
    }
}

fn parameters(operation: &'static Value, place: &'static str) -> impl Iterator<Item = &'static Value> {
    operation["parameters"].as_array().into_iter().flatten().filter(move |p| p["in"] == place)
}

// --- what the tests send and get, held against the document

/// Panics where an answer isn't one that the document has for the page, or a body that was taken isn't one.
pub(crate) fn holds(method: &str, path: &str, sent: &Value, status: StatusCode, kind: Option<&str>, answer: &[u8]) {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    // Those of Linkis's interface have shapes of their own.
    if path.starts_with("/api/rest_j/") {
        return;
    }
    let Some((_, template, operation)) = operations().into_iter().find(|(m, t, _)| m == method && matches(t, path))
    else {
        // Pages that aren't there are asked for, too.
        assert!(status.is_client_error(), "{method} {path}: {status} from a page that is in no document");
        return;
    };
    let at = format!("{method} {template}");
    let said = &operation["responses"][status.as_str()];
    assert!(!said.is_null(), "{at}: the document has no {status}: {}", String::from_utf8_lossy(answer));
    let said = resolved(said);
    let Some(kinds) = said["content"].as_object() else {
        assert!(answer.is_empty(), "{at}: {status} should be empty");
        return;
    };
    let kind = kind.unwrap_or_else(|| panic!("{at}: of no type"));
    let content = kinds.get(kind).unwrap_or_else(|| panic!("{at}: {status} is {kind}, which the document hasn't"));
    if kind == "application/json" {
        let answer: Value = serde_json::from_slice(answer).unwrap_or_else(|e| panic!("{at}: {e}"));
        if let Err(wrong) = fits(&answer, &content["schema"]) {
            panic!("{at}: {status}: {wrong} in {answer}");
        }
    }
    if status.is_success() {
        taken(&at, operation, query, sent);
    }
}

/// What was understood is what the document has.
fn taken(at: &str, operation: &'static Value, query: &str, sent: &Value) {
    let names: Vec<_> = parameters(operation, "query").map(|p| p["name"].as_str().expect("name")).collect();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let name = pair.split('=').next().unwrap_or_default();
        assert!(names.contains(&name), "{at}: the document has no {name:?} in the query: {names:?}");
    }
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    let body = if sent.is_null() { Value::Object(Map::new()) } else { sent.clone() };
    if !schema.is_null()
        && let Err(wrong) = fits(&body, schema)
    {
        panic!("{at}: it was taken, but {wrong} in {body}");
    }
}

fn matches(template: &str, path: &str) -> bool {
    let (mut parts, mut named) = (path.split('/'), template.split('/'));
    let all = named.by_ref().all(|name| parts.next().is_some_and(|part| part == name || name.starts_with('{')));
    all && parts.next().is_none()
}

fn resolved(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(to) => resolved(DOCUMENT.pointer(to.trim_start_matches('#')).expect("a reference")),
        None => value,
    }
}

/// Whether a value is as its schema says: as much of JSON Schema as the document uses. Stricter in one way: a field
/// that the schema doesn't have is wrong.
fn fits(value: &Value, schema: &'static Value) -> Result<(), String> {
    let schema = resolved(schema);
    for choices in ["anyOf", "oneOf"].iter().filter_map(|word| schema[*word].as_array()) {
        let tried: Vec<_> = choices.iter().map(|choice| fits(value, choice)).collect();
        if tried.iter().all(Result::is_err) {
            return Err(tried.into_iter().filter_map(Result::err).collect::<Vec<_>>().join(", or "));
        }
    }
    if let Some(constant) = schema.get("const")
        && constant != value
    {
        return Err(format!("{value} is not {constant}"));
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        return Err(format!("{value} is none of {words:?}"));
    }
    is_of_type(value, &schema["type"])?;
    match value {
        Value::Object(fields) => fields_fit(fields, schema),
        Value::Array(values) if schema.get("items").is_some() => {
            values.iter().try_for_each(|value| fits(value, &schema["items"]))
        }
        _ => Ok(()),
    }
}

fn is_of_type(value: &Value, kind: &Value) -> Result<(), String> {
    let is = |word: &str| match word {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    };
    let fits = match kind {
        Value::String(word) => is(word),
        Value::Array(words) => words.iter().filter_map(Value::as_str).any(is),
        _ => true,
    };
    if fits { Ok(()) } else { Err(format!("{value} is no {kind}")) }
}

fn fields_fit(fields: &Map<String, Value>, schema: &'static Value) -> Result<(), String> {
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            return Err(format!("there is no {name}"));
        }
    }
    let Some(known) = schema["properties"].as_object() else { return Ok(()) };
    for (name, value) in fields {
        match known.get(name) {
            Some(schema) => fits(value, schema).map_err(|wrong| format!("{name}: {wrong}"))?,
            None => return Err(format!("the document has no field {name}")),
        }
    }
    Ok(())
}

#[test]
fn what_the_document_has_not_is_noticed() {
    let held = |status: u16, answer: &str| {
        let (status, answer) = (StatusCode::from_u16(status).expect("status"), answer.to_owned());
        let kind = Some("application/json");
        std::panic::catch_unwind(|| holds("GET", "/api/v1/workers", &Value::Null, status, kind, answer.as_bytes()))
    };
    let worker = r#"{"name":"w","state":"idle","mode":"user","proxy_account":null,"owner":null,"slots":1,"used":0,"settings":"local","reason":null,"labels":[],"cores":1,"memory":1,"load":0.5,"last_seen_at":"t"}"#;
    assert!(held(200, &format!("[{worker}]")).is_ok());
    for wrong in [
        worker.to_owned(),
        format!("[{}]", worker.replace(r#""slots":1"#, r#""slots":"1""#)),
        format!("[{}]", worker.replace(r#""slots":1,"#, "")),
        format!("[{}]", worker.replace(r#""slots""#, r#""more":1,"slots""#)),
    ] {
        assert!(held(200, &wrong).is_err(), "{wrong}");
    }
    assert!(held(418, "[]").is_err());
}
