//! Origins of web pages, as browsers write them: `https://app.example.com`.

use hyper::Uri;

/// Whose pages may call the service from a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsOrigins {
    /// Everybody's.
    Any,
    /// Those of these origins, each as a browser sends it.
    These(Vec<String>),
}

/// The ports that a browser leaves out.
const DEFAULT_PORTS: [(&str, u16); 2] = [("http", 80), ("https", 443)];

impl CorsOrigins {
    /// `*`, or origins separated by commas; `None` of anything else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let these = text.split(',').map(|origin| parse_origin(origin.trim()));
        these.collect::<Option<_>>().map(Self::These)
    }

    pub(super) fn show(&self) -> String {
        match self {
            Self::Any => "*".into(),
            Self::These(these) => these.join(","),
        }
    }
}

/// Scheme and host in lower case, the port unless it is the scheme's own. One that a browser would never send would allow nobody,
/// without a word.
fn parse_origin(text: &str) -> Option<String> {
    let (scheme, host) = text.split_once("://")?;
    let uri: Uri = text.parse().ok()?;
    let authority = uri.authority()?;
    let has_default_port = DEFAULT_PORTS
        .iter()
        .any(|(known, port)| scheme.eq_ignore_ascii_case(known) && authority.port_u16() == Some(*port));
    // No path, not even a slash, no query, no user.
    let is_origin =
        authority.as_str() == host && !host.contains('@') && !host.ends_with(':') && !host.contains('*');
    (is_origin && !authority.host().is_empty() && !has_default_port).then(|| text.to_ascii_lowercase())
}
