//! The paths there are, as metrics name them: a closed set, whatever clients ask for.

use hyper::{Method, StatusCode};

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Heal,
    Checkup,
    HeartRhythm,
    HealMany,
    CheckupMany,
    LeaveMany,
    User,
    UserHistory,
    UserStats,
    Online,
    OnlineUsers,
    OnlineAt,
    Concurrency,
    Watch,
    Events,
    Figures,
    FiguresWatch,
    Status,
    Export,
    Import,
    Snapshot,
    Livez,
    Healthz,
    Readyz,
    Metrics,
    Openapi,
    Docs,
    DocsFile,
    Page,
    PageFile,
    Client,
    /// None of them.
    Other,
}

/// How many there are.
pub(super) const ROUTES: usize = Route::ALL.len();

impl Route {
    pub const ALL: [Self; 32] = [
        Self::Heal,
        Self::Checkup,
        Self::HeartRhythm,
        Self::HealMany,
        Self::CheckupMany,
        Self::LeaveMany,
        Self::User,
        Self::UserHistory,
        Self::UserStats,
        Self::Online,
        Self::OnlineUsers,
        Self::OnlineAt,
        Self::Concurrency,
        Self::Watch,
        Self::Events,
        Self::Figures,
        Self::FiguresWatch,
        Self::Status,
        Self::Export,
        Self::Import,
        Self::Snapshot,
        Self::Livez,
        Self::Healthz,
        Self::Readyz,
        Self::Metrics,
        Self::Openapi,
        Self::Docs,
        Self::DocsFile,
        Self::Page,
        Self::PageFile,
        Self::Client,
        Self::Other,
    ];

    /// As the router takes it, and as the label of a metric.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Heal => "/heal/{user_id}",
            Self::Checkup => "/checkup/{user_id}",
            Self::HeartRhythm => "/heart_rhythm/{user_id}",
            Self::HealMany => "/v1/heal",
            Self::CheckupMany => "/v1/checkup",
            Self::LeaveMany => "/v1/leave",
            Self::User => "/v1/users/{user_id}",
            Self::UserHistory => "/v1/users/{user_id}/history",
            Self::UserStats => "/v1/users/{user_id}/stats",
            Self::Online => "/v1/online",
            Self::OnlineUsers => "/v1/online/users",
            Self::OnlineAt => "/v1/online/at",
            Self::Concurrency => "/v1/concurrency",
            Self::Watch => "/v1/watch",
            Self::Events => "/v1/events",
            Self::Figures => "/v1/figures",
            Self::FiguresWatch => "/v1/figures/watch",
            Self::Status => "/v1/status",
            Self::Export => "/v1/export",
            Self::Import => "/v1/import",
            Self::Snapshot => "/v1/admin/snapshot",
            Self::Livez => "/livez",
            Self::Healthz => "/healthz",
            Self::Readyz => "/readyz",
            Self::Metrics => "/metrics",
            Self::Openapi => "/openapi.json",
            Self::Docs => "/docs",
            Self::DocsFile => "/docs/{file}",
            Self::Page => "/",
            Self::PageFile => "/page/{file}",
            Self::Client => "/heartbeat.js",
            Self::Other => "other",
        }
    }

    /// That of a path.
    pub fn of(path: &str) -> Self {
        Self::ALL.into_iter().find(|route| route.serves(path)).unwrap_or(Self::Other)
    }

    fn serves(self, path: &str) -> bool {
        let Some((start, rest)) = self.path().split_once("/{") else { return path == self.path() };
        let Some((_, end)) = rest.split_once('}') else { return false };
        // The original three take one slash behind the id, and say what is missing.
        let is_original = matches!(self, Self::Heal | Self::Checkup | Self::HeartRhythm);
        let Some(rest) = path.strip_prefix(start) else { return false };
        if is_original && rest.is_empty() {
            return true;
        }
        let Some(value) = rest.strip_prefix('/').and_then(|rest| rest.strip_suffix(end)) else {
            return false;
        };
        let value = if is_original { value.strip_suffix('/').unwrap_or(value) } else { value };
        (is_original || !value.is_empty()) && !value.contains('/')
    }

    /// Whether its answers wait for something to happen, for hours, and nothing is wrong with that.
    pub const fn waits(self) -> bool {
        matches!(self, Self::Watch | Self::Events | Self::FiguresWatch)
    }

    /// Whether a GET goes over everybody.
    pub const fn is_over_everybody(self) -> bool {
        matches!(self, Self::OnlineUsers | Self::OnlineAt | Self::Concurrency)
    }

    /// The methods it takes, and the statuses it may be answered with: the series that are there from the start. Should
    /// another come, it is counted all the same.
    pub const fn expected(self) -> (&'static [Verb], &'static [&'static str]) {
        use Verb::{Delete, Get, Head, Post, Put};
        const ORIGINAL: &[&str] = &["200", "400", "408", "413", "500", "501", "503"];
        const MANY: &[&str] = &["200", "400", "408", "413", "415", "500", "501", "503"];
        const READ: &[&str] = &["200", "400", "500", "503"];
        const FIXED: &[&str] = &["200", "500"];
        match self {
            Self::Heal => (&[Put, Post, Delete], ORIGINAL),
            Self::Checkup | Self::HeartRhythm => (&[Get, Head], ORIGINAL),
            Self::HealMany | Self::CheckupMany | Self::LeaveMany | Self::Import => (&[Post], MANY),
            Self::User => (&[Get, Head, Delete], &["200", "400", "404", "500", "503"]),
            Self::UserHistory
            | Self::UserStats
            | Self::Online
            | Self::OnlineUsers
            | Self::Concurrency
            | Self::Status
            | Self::Export
            | Self::Figures
            | Self::FiguresWatch => (&[Get, Head], READ),
            Self::OnlineAt => (&[Get, Head, Post], MANY),
            Self::Watch => (&[Get, Head], &["200", "400", "500", "501", "503"]),
            Self::Events => (&[Get, Head], &["200", "400", "410", "500", "501", "503"]),
            Self::Snapshot => (&[Post], &["200", "400", "409", "500", "501", "503"]),
            Self::Readyz => (&[Get, Head], &["200", "500", "503"]),
            Self::Livez | Self::Healthz | Self::Metrics | Self::Openapi | Self::Docs => (&[Get, Head], FIXED),
            Self::DocsFile => (&[Get, Head], &["200", "404", "500"]),
            Self::Page | Self::Client => (&[Get, Head], &["200", "304", "500"]),
            Self::PageFile => (&[Get, Head], &["200", "304", "404", "500"]),
            Self::Other => (&[Get, Head, Put, Post, Delete, Verb::Other], &["400", "404", "500"]),
        }
    }
}

/// A request's method, of a closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    Head,
    Put,
    Post,
    Delete,
    Other,
}

/// How many there are.
pub(super) const VERBS: usize = Verb::ALL.len();

impl Verb {
    pub const ALL: [Self; 6] = [Self::Get, Self::Head, Self::Put, Self::Post, Self::Delete, Self::Other];

    pub fn of(method: &Method) -> Self {
        match *method {
            Method::GET => Self::Get,
            Method::HEAD => Self::Head,
            Method::PUT => Self::Put,
            Method::POST => Self::Post,
            Method::DELETE => Self::Delete,
            _ => Self::Other,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Put => "PUT",
            Self::Post => "POST",
            Self::Delete => "DELETE",
            Self::Other => "other",
        }
    }
}

/// The statuses we answer with.
const CODES: [(u16, &str); 14] = [
    (200, "200"),
    (204, "204"),
    (304, "304"),
    (400, "400"),
    (404, "404"),
    (405, "405"),
    (408, "408"),
    (409, "409"),
    (410, "410"),
    (413, "413"),
    (415, "415"),
    (500, "500"),
    (501, "501"),
    (503, "503"),
];

/// How many there are, with one for all others.
pub(super) const CODES_AND_OTHERS: usize = CODES.len() + 1;

/// Where in the list a status stands.
pub(super) fn code_index(status: StatusCode) -> usize {
    CODES.iter().position(|(code, _)| *code == status.as_u16()).unwrap_or(CODES.len())
}

/// The status at this place in the list.
pub(super) fn code_name(index: usize) -> &'static str {
    CODES.get(index).map_or("other", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_the_route_that_serves_it() {
        for (path, route) in [
            ("/heal/1", Route::Heal),
            ("/heal/", Route::Heal),
            ("/heal", Route::Heal),
            ("/heal/1/", Route::Heal),
            ("/heal/1//", Route::Other),
            ("/heals/1", Route::Other),
            ("/v1/users", Route::Other),
            ("/checkup/abc", Route::Checkup),
            ("/v1/heal", Route::HealMany),
            ("/v1/heal/", Route::Other),
            ("/v1/users/-5", Route::User),
            ("/v1/users/1/history", Route::UserHistory),
            ("/v1/users/-5/stats", Route::UserStats),
            ("/v1/users//stats", Route::Other),
            ("/v1/users/1/2/stats", Route::Other),
            ("/v1/users/1/", Route::Other),
            ("/v1/users/", Route::Other),
            ("/metrics", Route::Metrics),
            ("/docs", Route::Docs),
            ("/docs/", Route::Other),
            ("/docs/start.js", Route::DocsFile),
            ("/v1/online/at", Route::OnlineAt),
            ("/v1/online/1", Route::Other),
            ("/favicon.ico", Route::Other),
            ("other", Route::Other),
            ("", Route::Other),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }

    #[test]
    fn each_stands_where_its_number_says() {
        for (index, route) in Route::ALL.into_iter().enumerate() {
            assert_eq!(route as usize, index, "{route:?}");
        }
        for (index, verb) in Verb::ALL.into_iter().enumerate() {
            assert_eq!(verb as usize, index, "{verb:?}");
        }
        assert_eq!(
            [StatusCode::OK, StatusCode::IM_A_TEAPOT].map(code_index).map(code_name),
            ["200", "other"]
        );
    }
}
