//! What can be said of a page from the signature of its handler: what it takes and what it answers. The document is made
//! of this ([`super::document`]), so that it says what the handlers do, not what somebody remembered to write of them.
//!
//! An argument or an answer of a type that isn't described here is no page: it doesn't compile.

use super::people::GrantId;
use super::sign_in::{Me, Visitor};
use super::{Asked, Body, JobId, Oneself, StrangersBody};
use crate::authn::Peer;
use crate::caller::Caller;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::Sse;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;

/// Where the document keeps what is said once.
const SCHEMAS: &str = "/components/schemas";

/// The schemas of all bodies. What is sent and what is answered may differ for the same type, so they are two.
#[derive(Debug)]
pub(crate) struct Schemas {
    sent: SchemaGenerator,
    answered: SchemaGenerator,
}

impl Schemas {
    pub(crate) fn new() -> Self {
        let settings = || SchemaSettings::draft2020_12().with(|s| s.definitions_path = SCHEMAS.into());
        Self {
            sent: settings().for_deserialize().into_generator(),
            answered: settings().for_serialize().into_generator(),
        }
    }

    fn sent<T: JsonSchema>(&mut self) -> Value {
        self.sent.subschema_for::<T>().to_value()
    }

    pub(crate) fn answered<T: JsonSchema>(&mut self) -> Value {
        self.answered.subschema_for::<T>().to_value()
    }

    /// Every type that was named, by its name.
    pub(crate) fn named(mut self) -> Map<String, Value> {
        let mut all = self.answered.take_definitions(true);
        for (name, schema) in self.sent.take_definitions(true) {
            let other = all.insert(name.clone(), schema.clone());
            assert!(other.is_none_or(|other| other == schema), "{name} is sent and answered in different shapes");
        }
        all
    }
}

/// Who a page is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum For {
    /// Nobody has to say who they are.
    #[default]
    Anybody,
    /// Whoever is signed in, always as themselves.
    Oneself,
    /// Whoever is signed in, as themselves or as whom they act.
    Caller,
}

/// One answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said {
    pub(crate) description: &'static str,
    /// Its type, and its schema.
    pub(crate) content: Option<(&'static str, Value)>,
    /// Name, and what it says.
    pub(crate) headers: Vec<(&'static str, &'static str)>,
}

/// What a handler takes and answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Operation {
    pub(crate) whom: For,
    /// What stands in the path, in its order: `None` is text.
    pub(crate) in_path: Vec<Value>,
    pub(crate) query: Map<String, Value>,
    pub(crate) required: Vec<String>,
    pub(crate) body: Option<Value>,
    pub(crate) answers: BTreeMap<u16, Said>,
    pub(crate) refusals: BTreeSet<u16>,
}

impl Operation {
    pub(crate) fn refuses(&mut self, statuses: &[u16]) {
        self.refusals.extend(statuses);
    }

    fn takes(&mut self, body: Value) {
        self.body = Some(body);
        self.refuses(&[400, 408, 413, 429]);
    }

    fn json(&mut self, status: u16, schema: Value) {
        let content = Some(("application/json", schema));
        self.answers.insert(status, Said { description: "Done.", content, headers: Vec::new() });
    }
}

// --- arguments

/// An argument of a handler.
pub(crate) trait Part {
    fn describe(operation: &mut Operation, schemas: &mut Schemas);
}

impl<S> Part for State<S> {
    fn describe(_: &mut Operation, _: &mut Schemas) {}
}

/// How the connection came in is nothing that is sent.
impl Part for Extension<Peer> {
    fn describe(_: &mut Operation, _: &mut Schemas) {}
}

impl Part for HeaderMap {
    fn describe(_: &mut Operation, _: &mut Schemas) {}
}

impl Part for Visitor {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        // Another site's page signs nobody in.
        operation.refuses(&[403]);
    }
}

/// Not known; not let in, from another site's page, or with a credential for less; the store doesn't answer.
const OF_WHOEVER: &[u16] = &[401, 403, 503];

impl Part for Oneself {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.whom = For::Oneself;
        operation.refuses(OF_WHOEVER);
        // The header.
        operation.refuses(&[400]);
    }
}

impl Part for Caller {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.whom = For::Caller;
        operation.refuses(OF_WHOEVER);
        // The header.
        operation.refuses(&[400]);
    }
}

impl Part for Me {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        Caller::describe(operation, schemas);
    }
}

impl Part for JobId {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.in_path.push(schemas.sent::<u64>());
        operation.refuses(&[404]);
    }
}

impl Part for GrantId {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.in_path.push(schemas.sent::<u64>());
        operation.refuses(&[404]);
    }
}

impl Part for Path<String> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.in_path.push(schemas.sent::<String>());
        operation.refuses(&[400, 404]);
    }
}

impl<T: JsonSchema> Part for Asked<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        // Inline: its fields are parameters, and the type itself is nowhere.
        let schema: Schema = T::json_schema(&mut schemas.sent);
        let schema = schema.to_value();
        operation.query = schema["properties"].as_object().cloned().unwrap_or_default();
        let required = schema["required"].as_array().into_iter().flatten();
        operation.required = required.filter_map(Value::as_str).map(str::to_owned).collect();
        operation.refuses(&[400]);
    }
}

impl<T: JsonSchema> Part for Body<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.takes(schemas.sent::<T>());
    }
}

impl<T: JsonSchema> Part for StrangersBody<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        operation.takes(schemas.sent::<T>());
    }
}

// --- answers

/// What a handler answers.
pub(crate) trait Answered {
    fn describe(operation: &mut Operation, schemas: &mut Schemas);
}

impl<T: Answered, E> Answered for Result<T, E> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        T::describe(operation, schemas);
    }
}

impl Answered for &'static str {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        let content = Some(("text/plain; charset=utf-8", json!({ "type": "string" })));
        operation.answers.insert(200, Said { description: "A word.", content, headers: Vec::new() });
    }
}

impl<T: JsonSchema> Answered for Json<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        let schema = schemas.answered::<T>();
        operation.json(200, schema);
    }
}

/// Something was made.
pub(crate) struct Created<T>(pub(crate) T);

impl<T: serde::Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        (StatusCode::CREATED, Json(self.0)).into_response()
    }
}

impl<T: JsonSchema> Answered for Created<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        let schema = schemas.answered::<T>();
        operation.json(201, schema);
    }
}

impl<S> Answered for Sse<S> {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        let content = Some(("text/event-stream", json!({ "type": "string" })));
        operation
            .answers
            .insert(200, Said { description: "Events, as long as one may see them.", content, headers: Vec::new() });
    }
}

/// A response that its page made itself, of the kind `K`.
pub(crate) struct Made<K>(pub(crate) Response, PhantomData<K>);

impl<K> From<Response> for Made<K> {
    fn from(response: Response) -> Self {
        Self(response, PhantomData)
    }
}

impl<K> IntoResponse for Made<K> {
    fn into_response(self) -> Response {
        self.0
    }
}

/// Of which kind a response is that isn't plain JSON.
pub(crate) trait MadeKind {
    const STATUS: u16 = 200;
    const DESCRIPTION: &str;
    const HEADERS: &[(&str, &str)] = &[];
    fn content(schemas: &mut Schemas) -> Option<(&'static str, Value)>;
}

impl<K: MadeKind> Answered for Made<K> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        let content = K::content(schemas);
        operation
            .answers
            .insert(K::STATUS, Said { description: K::DESCRIPTION, content, headers: K::HEADERS.to_vec() });
    }
}

/// What tasks printed, byte for byte.
pub(crate) struct Output;

impl MadeKind for Output {
    const DESCRIPTION: &str = "What tasks printed, byte for byte.";
    const HEADERS: &[(&str, &str)] = &[("X-Stead-End", "`true` when nothing more may come.")];

    fn content(_: &mut Schemas) -> Option<(&'static str, Value)> {
        Some(("text/plain; charset=utf-8", json!({ "type": "string" })))
    }
}

/// A file, byte for byte.
pub(crate) struct Contents;

impl MadeKind for Contents {
    const DESCRIPTION: &str = "The file, byte for byte. A connection that breaks off was no whole file.";
    const HEADERS: &[(&str, &str)] = &[("X-Stead-Size", "Bytes of the whole file, when it was opened.")];

    fn content(_: &mut Schemas) -> Option<(&'static str, Value)> {
        Some(("application/octet-stream", json!({ "type": "string", "format": "binary" })))
    }
}

/// Numbers, as Prometheus reads them.
pub(crate) struct Figures;

impl MadeKind for Figures {
    const DESCRIPTION: &str = "Numbers, as Prometheus reads them.";

    fn content(_: &mut Schemas) -> Option<(&'static str, Value)> {
        Some(("text/plain; version=0.0.4; charset=utf-8", json!({ "type": "string" })))
    }
}

/// Records, one a line.
pub(crate) struct Records;

impl MadeKind for Records {
    const DESCRIPTION: &str = "Records as they lie in the files, one a line.";

    fn content(_: &mut Schemas) -> Option<(&'static str, Value)> {
        Some(("application/x-ndjson", json!({ "type": "string" })))
    }
}

/// JSON that also has the browser keep or forget a cookie.
pub(crate) struct WithCookie<T>(PhantomData<T>);

impl<T: JsonSchema> MadeKind for WithCookie<T> {
    const DESCRIPTION: &str = "Done.";
    const HEADERS: &[(&str, &str)] = &[("Set-Cookie", "What a browser keeps or forgets.")];

    fn content(schemas: &mut Schemas) -> Option<(&'static str, Value)> {
        Some(("application/json", schemas.answered::<T>()))
    }
}

/// On to another page.
pub(crate) struct Onward;

impl MadeKind for Onward {
    const STATUS: u16 = 303;
    const DESCRIPTION: &str = "On to the provider.";
    const HEADERS: &[(&str, &str)] = &[("Location", "The provider's page."), ("Set-Cookie", "Binds the browser.")];

    fn content(_: &mut Schemas) -> Option<(&'static str, Value)> {
        None
    }
}

/// A page for people.
pub(crate) struct ForPeople;

impl MadeKind for ForPeople {
    const DESCRIPTION: &str = "A page for people.";
    const HEADERS: &[(&str, &str)] = &[("Set-Cookie", "What a browser keeps or forgets.")];

    fn content(_: &mut Schemas) -> Option<(&'static str, Value)> {
        Some(("text/html; charset=utf-8", json!({ "type": "string" })))
    }
}

// --- handlers

/// A handler, as axum has it.
pub(crate) trait Described<T> {
    fn describe(operation: &mut Operation, schemas: &mut Schemas);
}

macro_rules! described {
    ($($part:ident),*) => {
        impl<H, F, A, M, $($part),*> Described<(M, $($part,)*)> for H
        where
            H: Fn($($part),*) -> F,
            F: Future<Output = A>,
            A: Answered,
            $($part: Part),*
        {
            fn describe(operation: &mut Operation, schemas: &mut Schemas) {
                $($part::describe(operation, schemas);)*
                A::describe(operation, schemas);
            }
        }
    };
}

impl<H, F, A> Described<((),)> for H
where
    H: Fn() -> F,
    F: Future<Output = A>,
    A: Answered,
{
    fn describe(operation: &mut Operation, schemas: &mut Schemas) {
        A::describe(operation, schemas);
    }
}

described!(P1);
described!(P1, P2);
described!(P1, P2, P3);
described!(P1, P2, P3, P4);
