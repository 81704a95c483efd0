//! The description of the interface in the `OpenAPI` format, version 3.1: `GET /openapi.json`.
//!
//! Built from declarations next to one another here, one a call, because the original three endpoints are served by a match
//! and not by handlers that could carry their own. What every call has stands once ([`Everywhere`]).
//!
//! `tests/openapi.rs` holds each declaration against the running service: paths, methods, parameters, statuses, and every member of
//! every answer.

#![allow(
    dead_code,
    reason = "the functions exist for what stands above them, and the types for their shapes"
)]

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Required, Response as Described, ResponseBuilder};
use utoipa::{Modify, OpenApi, ToSchema};

use super::admin::{Readiness, SnapshotReply};
use super::concurrency::ConcurrencyReply;
use super::error::{Error, JSON};
use super::figures::Figures;
use super::history::Page;
use super::online::{OnlineAt, OnlineUsers};
use super::status::Status;
use super::transfer::ImportReply;
use super::uptime::RangeStats;
use super::user::{Id, Profile};

/// `GET /openapi.json`
pub(super) async fn openapi() -> Response {
    match Description::openapi().to_json() {
        Ok(description) => ([(CONTENT_TYPE, JSON)], description).into_response(),
        Err(_) => Error::INTERNAL.into_response(),
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Heartbeat",
        description = "Who is online, who has gone, and every user's timeline of sessions. Times are whole Unix seconds; \
                       errors are {\"error\":\"…\"}; 503 on a write means: not acknowledged, repeat it. A parameter that a \
                       call does not know, or that is given twice, is refused by name.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    components(schemas(DocsFile, IdFormat, Order, PageFile, Refusal, SessionLine)),
    modifiers(&Everywhere),
    paths(
        heal,
        heal_by_post,
        leave_one,
        checkup,
        heart_rhythm,
        heal_many,
        checkup_many,
        leave_many,
        profile,
        forget,
        history,
        stats,
        online,
        online_users,
        online_at,
        online_at_of,
        concurrency,
        watch,
        events,
        figures,
        figures_watch,
        export,
        import,
        snapshot,
        livez,
        healthz,
        readyz,
        metrics,
        status,
        description,
        docs,
        docs_file,
        page,
        page_file,
        client
    )
)]
struct Description;

/// What every call has.
struct Everywhere;

impl Modify for Everywhere {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        for (path, item) in &mut openapi.paths.paths {
            let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
            for operation in operations.into_iter().flatten() {
                for (status, says) in REFUSALS {
                    operation.responses.responses.entry(status.into()).or_insert_with(|| refusal(says));
                }
                name_responses(operation);
                if path.starts_with("/v1/") {
                    add_id_format(operation);
                }
            }
        }
    }
}

/// Whatever is asked.
const REFUSALS: [(&str, &str); 3] = [
    ("400", "Something in the request is not what it should be"),
    ("500", "A bug of ours"),
    ("501", "A transfer encoding other than chunked"),
];

/// What the others say, where their calls do not.
const MEANINGS: [(&str, &str); 9] = [
    ("200", "Done"),
    ("404", "There is no such thing"),
    ("408", "The body did not arrive in time"),
    ("409", "Another one is under way"),
    ("410", "It is no longer held"),
    ("413", "The body is too large, or has too many ids"),
    ("415", "A body of another type"),
    ("501", "The service was started without this, or a transfer encoding other than chunked"),
    ("503", "Not now; repeat it in a moment. A write was not acknowledged"),
];

fn refusal(says: &str) -> RefOr<Described> {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Refusal"))).build();
    ResponseBuilder::new().description(says).content("application/json", content).build().into()
}

fn name_responses(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && response.description.is_empty()
            && let Some((_, says)) = MEANINGS.iter().find(|(known, _)| known == status)
        {
            response.description = (*says).into();
        }
    }
}

fn add_id_format(operation: &mut Operation) {
    let parameters = operation.parameters.get_or_insert_default();
    parameters
        .retain(|parameter| !matches!(parameter, RefOr::T(Parameter { name, .. }) if name == "id_format"));
    let id_format = ParameterBuilder::new()
        .name("id_format")
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some("How ids are written in the reply"))
        .schema(Some(Ref::from_schema_name("IdFormat")))
        .build();
    parameters.push(id_format.into());
}

/// `string` is for clients whose numbers cannot hold 64 bits.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase", default = "number")]
enum IdFormat {
    Number,
    String,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase", default = "asc")]
enum Order {
    Asc,
    Desc,
}

#[derive(ToSchema)]
enum DocsFile {
    #[schema(rename = "start.js")]
    Start,
    #[schema(rename = "swagger-ui-bundle.js")]
    Bundle,
    #[schema(rename = "swagger-ui.css")]
    Style,
    #[schema(rename = "favicon-32x32.png")]
    Icon,
}

/// Some of what the page loads; the others are its modules.
#[derive(ToSchema)]
enum PageFile {
    #[schema(rename = "page.css")]
    Style,
    #[schema(rename = "page.js")]
    Start,
    #[schema(rename = "uPlot.iife.min.js")]
    Plot,
    #[schema(rename = "uPlot.min.css")]
    PlotStyle,
    #[schema(rename = "icon.svg")]
    Icon,
}

/// A line of an export or an import.
#[derive(ToSchema)]
struct SessionLine {
    id: Id,
    online_at: u32,
    /// Of a live session its deadline.
    offline_at: u32,
}

/// An error: one sentence that says what to change.
#[derive(ToSchema)]
struct Refusal {
    error: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum OnlineOrOffline {
    Online,
    Offline,
}

#[derive(ToSchema)]
struct Reply {
    status: OnlineOrOffline,
}

/// As the original service has it: the id is a number.
#[derive(ToSchema)]
struct OriginalStatus {
    id: i64,
    status: OnlineOrOffline,
}

#[derive(ToSchema)]
struct UserStatus {
    id: Id,
    status: OnlineOrOffline,
}

#[derive(ToSchema)]
struct Row {
    online_at: u32,
    /// For the live session its deadline, which lies in the future.
    offline_at: u32,
}

#[derive(ToSchema)]
struct HeartRhythm {
    id: i64,
    /// Ascending.
    history: Vec<Row>,
}

/// At most 100,000 ids.
#[derive(ToSchema)]
struct Ids {
    #[schema(max_items = 100_000)]
    ids: Vec<Id>,
}

#[derive(ToSchema)]
struct Healed {
    healed: u64,
    opened: u64,
}

#[derive(ToSchema)]
struct Statuses {
    /// In the request's order.
    users: Vec<UserStatus>,
}

#[derive(ToSchema)]
struct Left {
    left: u64,
}

#[derive(ToSchema)]
struct Forgotten {
    /// Sessions; 0 for a user never seen.
    forgotten: u64,
}

#[derive(ToSchema)]
struct Online {
    online: u64,
    /// The second last swept.
    at: u32,
}

#[derive(ToSchema)]
struct Transition {
    event: OnlineOrOffline,
    id: i64,
    /// When the session began; or when it ended, for one that lapsed its deadline.
    at: u32,
    /// Of `offline` only: `lapsed`, `left` or `forgotten`.
    reason: Option<String>,
}

#[derive(ToSchema)]
struct Transitions {
    /// In the order in which they happened; that of one user is exact.
    events: Vec<Transition>,
    /// What the next call gives as `after`. There is always one.
    next: String,
}

#[derive(ToSchema)]
struct Live {
    live: bool,
}

macro_rules! calls {
    ($($name:ident: $method:ident $path:literal, $says:literal, ($($request:tt)*), [$($response:tt)*];)*) => {$(
        #[utoipa::path($method, path = $path, description = $says, $($request)* responses($($response)*))]
        fn $name() {}
    )*};
}

calls! {
    heal: put "/heal/{user_id}", "One heartbeat: the user is online for one ttl from now. A body is ignored.",
        (params(("user_id" = i64, Path)),),
        [(status = 200, body = Reply), (status = 408, body = Refusal), (status = 413, body = Refusal), (status = 503, body = Refusal)];
    heal_by_post: post "/heal/{user_id}", "The same as PUT.",
        (params(("user_id" = i64, Path)),),
        [(status = 200, body = Reply), (status = 408, body = Refusal), (status = 413, body = Refusal), (status = 503, body = Refusal)];
    leave_one: delete "/heal/{user_id}", "Ends the live session now. Repeating it changes nothing.",
        (params(("user_id" = i64, Path)),),
        [(status = 200, body = Reply), (status = 408, body = Refusal), (status = 413, body = Refusal), (status = 503, body = Refusal)];
    checkup: get "/checkup/{user_id}", "Whether the user is online; unknown users are offline.",
        (params(("user_id" = i64, Path)),),
        [(status = 200, body = OriginalStatus), (status = 408, body = Refusal), (status = 413, body = Refusal), (status = 503, body = Refusal)];
    heart_rhythm: get "/heart_rhythm/{user_id}", "The user's timeline; empty for unknown users.",
        (params(("user_id" = i64, Path)),),
        [(status = 200, body = HeartRhythm), (status = 408, body = Refusal), (status = 413, body = Refusal), (status = 503, body = Refusal)];
    heal_many: post "/v1/heal", "Heals everybody named.",
        (request_body(content((Ids = "application/json"), (String = "text/plain"), (Vec<u8> = "application/octet-stream")),
            description = "At most 100,000 ids: as JSON, one a line, or as 8-byte little-endian integers"),),
        [(status = 200, body = Healed), (status = 408, body = Refusal), (status = 413, body = Refusal),
         (status = 415, body = Refusal), (status = 503, body = Refusal)];
    checkup_many: post "/v1/checkup", "Says of everybody named whether they are online.",
        (request_body(content((Ids = "application/json"), (String = "text/plain"), (Vec<u8> = "application/octet-stream")),
            description = "At most 100,000 ids: as JSON, one a line, or as 8-byte little-endian integers"),),
        [(status = 200, body = Statuses), (status = 408, body = Refusal), (status = 413, body = Refusal),
         (status = 415, body = Refusal), (status = 503, body = Refusal)];
    leave_many: post "/v1/leave", "Ends the live sessions of everybody named.",
        (request_body(content((Ids = "application/json"), (String = "text/plain"), (Vec<u8> = "application/octet-stream")),
            description = "At most 100,000 ids: as JSON, one a line, or as 8-byte little-endian integers"),),
        [(status = 200, body = Left), (status = 408, body = Refusal), (status = 413, body = Refusal),
         (status = 415, body = Refusal), (status = 503, body = Refusal)];
    profile: get "/v1/users/{user_id}", "One user in a few numbers.",
        (params(("user_id" = i64, Path)),),
        [(status = 200, body = Profile), (status = 404, body = Refusal, description = "This user has never been seen"),
         (status = 503, body = Refusal)];
    forget: delete "/v1/users/{user_id}", "Removes the user and the whole timeline.",
        (params(("user_id" = i64, Path)),),
        [(status = 200, body = Forgotten), (status = 503, body = Refusal)];
    history: get "/v1/users/{user_id}/history", "The sessions that overlap a range, whole, in pages; and our outages in it. Empty for unknown users.",
        (params(("user_id" = i64, Path),
                ("from" = Option<u32>, Query, description = "Unix second; the beginning by default", minimum = 0, maximum = 4_294_967_295_u32),
                ("to" = Option<u32>, Query, description = "Unix second, not in the range itself; by default up to now", minimum = 0, maximum = 4_294_967_295_u32),
                ("limit" = Option<u32>, Query, description = "Sessions in a page, 1,000 by default", minimum = 1, maximum = 10_000),
                ("order" = Option<Order>, Query, description = "By when they opened"),
                ("after" = Option<String>, Query, description = "`next` of the page before"),
                ("merge_gap" = Option<u32>, Query, description = "Sessions with a gap of at most so many seconds are given as one", minimum = 0, maximum = 4_294_967_295_u32)),),
        [(status = 200, body = Page), (status = 503, body = Refusal)];
    stats: get "/v1/users/{user_id}/stats", "What a range comes to for one user. Nothing for unknown users.",
        (params(("user_id" = i64, Path),
                ("from" = Option<u32>, Query, description = "Unix second; the beginning by default", minimum = 0, maximum = 4_294_967_295_u32),
                ("to" = Option<u32>, Query, description = "Unix second, not in the range itself; now by default", minimum = 0, maximum = 4_294_967_295_u32)),),
        [(status = 200, body = RangeStats), (status = 503, body = Refusal)];
    online: get "/v1/online", "How many are online, as of the second last swept.",
        (), [(status = 200, body = Online), (status = 503, body = Refusal)];
    online_users: get "/v1/online/users", "A page of those who are online, by shard and id. Whoever comes or goes meanwhile may be in one or not.",
        (params(("limit" = Option<u32>, Query, description = "Users in a page, 1,000 by default", minimum = 1, maximum = 10_000),
                ("after" = Option<String>, Query, description = "`next` of the page before")),),
        [(status = 200, body = OnlineUsers), (status = 503, body = Refusal)];
    online_at: get "/v1/online/at", "A page of those who were online in a second, exactly; on the first page also how many. Goes over everybody.",
        (params(("t" = Option<u32>, Query, description = "Unix second that has begun; now by default", minimum = 0, maximum = 4_294_967_295_u32),
                ("limit" = Option<u32>, Query, description = "Users in a page, 1,000 by default", minimum = 1, maximum = 10_000),
                ("after" = Option<String>, Query, description = "`next` of the page before, which knows the second")),),
        [(status = 200, body = OnlineAt), (status = 503, body = Refusal)];
    online_at_of: post "/v1/online/at", "Who of those named was online in a second, in the request's order.",
        (params(("t" = Option<u32>, Query, description = "Unix second that has begun; now by default", minimum = 0, maximum = 4_294_967_295_u32)),
         request_body(content((Ids = "application/json"), (String = "text/plain"), (Vec<u8> = "application/octet-stream")),
             description = "At most 100,000 ids: as JSON, one a line, or as 8-byte little-endian integers"),),
        [(status = 200, body = OnlineAt), (status = 408, body = Refusal), (status = 413, body = Refusal),
         (status = 415, body = Refusal), (status = 503, body = Refusal)];
    concurrency: get "/v1/concurrency", "How many were online over a range, exactly, from the timelines. Goes over everybody.",
        (params(("from" = Option<u32>, Query, description = "Unix second; a day before `to` by default, at most 35 days", minimum = 0, maximum = 4_294_967_295_u32),
                ("to" = Option<u32>, Query, description = "Unix second, not in the range itself; now by default and at most", minimum = 0, maximum = 4_294_967_295_u32),
                ("step" = Option<u32>, Query, description = "Seconds of a point, at most 2,000 points; by default the smallest usual step that makes at most 288", minimum = 1, maximum = 3_024_000)),),
        [(status = 200, body = ConcurrencyReply), (status = 503, body = Refusal)];
    watch: get "/v1/watch", "Transitions as they happen, as server-sent events: first `snapshot`, then `online` and `offline`, each with the id to resume from. `reset` says that what was asked for is no longer held, `lagged` that the reader was too slow, `draining` that the service stops.",
        (params(("ids" = Option<String>, Query, description = "up to 1000 user ids, separated by commas; everybody without it"),
                ("after" = Option<String>, Query, description = "the id of the event seen last; the header Last-Event-ID wins over it")),),
        [(status = 200, content_type = "text/event-stream", body = String),
         (status = 501, body = Refusal), (status = 503, body = Refusal)];
    events: get "/v1/events", "Transitions by long poll.",
        (params(("after" = Option<String>, Query, description = "`next` of the call before; from now on without it"),
                ("limit" = Option<u32>, Query, description = "1 to 10000, 1000 by default"),
                ("wait" = Option<u32>, Query, description = "seconds to wait for the next one, 0 to 30, 0 by default")),),
        [(status = 200, body = Transitions), (status = 410, body = Refusal),
         (status = 501, body = Refusal), (status = 503, body = Refusal)];
    figures: get "/v1/figures", "The last hour, a point a second: of this run of the service.",
        (), [(status = 200, body = Figures), (status = 503, body = Refusal)];
    figures_watch: get "/v1/figures/watch", "The same as it happens, as server-sent events: `figures` once a second, a point with `users`, `ready`, `reasons`, `journal` and `snapshot`, the last two as /v1/status has them; `draining` when the service stops.",
        (), [(status = 200, content_type = "text/event-stream", body = String), (status = 503, body = Refusal)];
    export: get "/v1/export", "Everybody's sessions as NDJSON, one SessionLine a line. A live session has its deadline as offline_at.",
        (), [(status = 200, content_type = "application/x-ndjson", body = String), (status = 503, body = Refusal)];
    import: post "/v1/import", "Takes sessions as an export writes them, at most 1 KiB a line. Idempotent, not atomic.",
        (request_body(content = Option<String>, content_type = "application/x-ndjson"),),
        [(status = 200, body = ImportReply), (status = 408, body = Refusal), (status = 503, body = Refusal)];
    snapshot: post "/v1/admin/snapshot", "Takes a snapshot now.",
        (), [(status = 200, body = SnapshotReply), (status = 409, body = Refusal),
             (status = 501, body = Refusal, description = "The service keeps nothing on disk, or a transfer encoding other than chunked"),
             (status = 503, body = Refusal)];
    livez: get "/livez", "The process is up.",
        (), [(status = 200, body = Live)];
    healthz: get "/healthz", "The same as /livez.",
        (), [(status = 200, body = Live)];
    readyz: get "/readyz", "Whether heals are taken.",
        (), [(status = 200, body = Readiness), (status = 503, body = Readiness)];
    metrics: get "/metrics", "All metrics, as Prometheus reads them. Not here if the setting metrics-listen gives them an address of their own.",
        (), [(status = 200, content_type = "text/plain", body = String)];
    status: get "/v1/status", "What runs and how it is doing.",
        (), [(status = 200, body = Status), (status = 503, body = Refusal)];
    description: get "/openapi.json", "This description.",
        (), [(status = 200, content_type = "application/json")];
    docs: get "/docs", "A page to try all this.",
        (), [(status = 200, content_type = "text/html", body = String)];
    docs_file: get "/docs/{file}", "What that page loads. As gzip, but for its own script.",
        (params(("file" = DocsFile, Path)),),
        [(status = 200), (status = 404, body = Refusal)];
    page: get "/", "The live page.",
        (), [(status = 200, content_type = "text/html", body = String)];
    page_file: get "/page/{file}", "What that page loads.",
        (params(("file" = PageFile, Path)),),
        [(status = 200), (status = 404, body = Refusal)];
    client: get "/heartbeat.js", "A client for the pages of others: an ES module.",
        (), [(status = 200, content_type = "text/javascript", body = String)];
}
