//! The description of the interface in the `OpenAPI` format, version 3.1: `GET /openapi.json`.
//!
//! Built from declarations next to one another here, one a call, because the original three endpoints are served by a match
//! and not by handlers that could carry their own. A test asks the running service for each of them.

// The functions exist for what stands above them, and the types for their shapes.
#![allow(dead_code)]

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use utoipa::{OpenApi, ToSchema};

use super::admin::{Readiness, SnapshotReply};
use super::error::{Error, JSON};
use super::status::Status;
use super::transfer::ImportReply;
use super::user::Profile;

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
                       errors are {\"error\":\"…\"}; 503 on a write means: not acknowledged, repeat it."
    ),
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
        online,
        watch,
        events,
        export,
        import,
        snapshot,
        livez,
        healthz,
        readyz,
        metrics,
        status,
        description
    )
)]
struct Description;

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

#[derive(ToSchema)]
struct UserStatus {
    id: i64,
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

/// At most 100,000 ids. Also `text/plain`, one id a line, and `application/octet-stream`, 8-byte little-endian integers.
#[derive(ToSchema)]
struct Ids {
    /// Numbers, or decimal strings.
    ids: Vec<i64>,
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
    heal: put "/heal/{user_id}", "One heartbeat: the user is online for one ttl from now.",
        (params(("user_id" = i64, Path)),),
        [(status = 200, body = Reply), (status = 400, body = Refusal), (status = 503, body = Refusal)];
    heal_by_post: post "/heal/{user_id}", "The same as PUT.",
        (params(("user_id" = i64, Path)),),
        [(status = 200, body = Reply), (status = 400, body = Refusal), (status = 503, body = Refusal)];
    leave_one: delete "/heal/{user_id}", "Ends the live session now. Repeating it changes nothing.",
        (params(("user_id" = i64, Path)),),
        [(status = 200, body = Reply), (status = 400, body = Refusal), (status = 503, body = Refusal)];
    checkup: get "/checkup/{user_id}", "Whether the user is online; unknown users are offline.",
        (params(("user_id" = i64, Path)),),
        [(status = 200, body = UserStatus), (status = 400, body = Refusal), (status = 503, body = Refusal)];
    heart_rhythm: get "/heart_rhythm/{user_id}", "The user's timeline; empty for unknown users.",
        (params(("user_id" = i64, Path)),),
        [(status = 200, body = HeartRhythm), (status = 400, body = Refusal), (status = 503, body = Refusal)];
    heal_many: post "/v1/heal", "Heals everybody named.",
        (request_body = Ids,),
        [(status = 200, body = Healed), (status = 400, body = Refusal), (status = 413, body = Refusal),
         (status = 415, body = Refusal), (status = 503, body = Refusal)];
    checkup_many: post "/v1/checkup", "Says of everybody named whether they are online.",
        (params(("id_format" = Option<String>, Query, description = "number or string")), request_body = Ids,),
        [(status = 200, body = Statuses), (status = 400, body = Refusal), (status = 413, body = Refusal),
         (status = 415, body = Refusal), (status = 503, body = Refusal)];
    leave_many: post "/v1/leave", "Ends the live sessions of everybody named.",
        (request_body = Ids,),
        [(status = 200, body = Left), (status = 400, body = Refusal), (status = 413, body = Refusal),
         (status = 415, body = Refusal), (status = 503, body = Refusal)];
    profile: get "/v1/users/{user_id}", "One user in a few numbers.",
        (params(("user_id" = i64, Path), ("id_format" = Option<String>, Query, description = "number or string")),),
        [(status = 200, body = Profile), (status = 400, body = Refusal), (status = 404, body = Refusal), (status = 503, body = Refusal)];
    forget: delete "/v1/users/{user_id}", "Removes the user and the whole timeline.",
        (params(("user_id" = i64, Path)),),
        [(status = 200, body = Forgotten), (status = 400, body = Refusal), (status = 503, body = Refusal)];
    online: get "/v1/online", "How many are online, as of the second last swept.",
        (), [(status = 200, body = Online), (status = 503, body = Refusal)];
    watch: get "/v1/watch", "Transitions as they happen, as server-sent events: first `snapshot`, then `online` and `offline`, each with the id to resume from. `reset` says that what was asked for is no longer held, `lagged` that the reader was too slow, `draining` that the service stops.",
        (params(("ids" = Option<String>, Query, description = "up to 1000 user ids, separated by commas; everybody without it"),
                ("after" = Option<String>, Query, description = "the id of the event seen last; the header Last-Event-ID wins over it"),
                ("id_format" = Option<String>, Query, description = "number or string")),),
        [(status = 200, content_type = "text/event-stream", body = String), (status = 400, body = Refusal),
         (status = 501, body = Refusal), (status = 503, body = Refusal)];
    events: get "/v1/events", "Transitions by long poll.",
        (params(("after" = Option<String>, Query, description = "`next` of the call before; from now on without it"),
                ("limit" = Option<u32>, Query, description = "1 to 10000, 1000 by default"),
                ("wait" = Option<u32>, Query, description = "seconds to wait for the next one, 0 to 30, 0 by default"),
                ("id_format" = Option<String>, Query, description = "number or string")),),
        [(status = 200, body = Transitions), (status = 400, body = Refusal), (status = 410, body = Refusal),
         (status = 501, body = Refusal), (status = 503, body = Refusal)];
    export: get "/v1/export", "Everybody's sessions as NDJSON, one a line: {\"id\",\"online_at\",\"offline_at\"}. A live session has its deadline as offline_at.",
        (params(("id_format" = Option<String>, Query, description = "number or string")),),
        [(status = 200, content_type = "application/x-ndjson", body = String), (status = 503, body = Refusal)];
    import: post "/v1/import", "Takes sessions as an export writes them, at most 1 KiB a line. Idempotent, not atomic.",
        (request_body(content = String, content_type = "application/x-ndjson"),),
        [(status = 200, body = ImportReply), (status = 503, body = Refusal)];
    snapshot: post "/v1/admin/snapshot", "Takes a snapshot now. 501 if the service keeps nothing on disk.",
        (), [(status = 200, body = SnapshotReply), (status = 409, body = Refusal), (status = 500, body = Refusal),
             (status = 501, body = Refusal), (status = 503, body = Refusal)];
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
}
