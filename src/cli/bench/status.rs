//! What the service says about itself: `GET /v1/status`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::lane::connect;
use super::request;
use super::response::Responses;

/// A service under full load answers late; one that takes longer than this is shown without figures.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Figures of the service; what it does not tell is `None`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Its version.
    pub version: Option<String>,
    /// Users known.
    pub users: Option<u64>,
    /// Users online.
    pub online: Option<u64>,
    /// Sessions stored.
    pub sessions: Option<u64>,
    /// Bytes in its data directory.
    pub disk_bytes: Option<u64>,
    process: Option<Process>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Process {
    cpu_seconds: Option<f64>,
    resident_bytes: Option<u64>,
}

impl Status {
    /// Processor time used since it started.
    pub fn cpu_seconds(&self) -> Option<f64> {
        self.process.as_ref()?.cpu_seconds
    }

    /// Memory in use.
    pub fn resident_bytes(&self) -> Option<u64> {
        self.process.as_ref()?.resident_bytes
    }
}

/// Asks the service at `to`, which clients call `host`.
///
/// # Errors
/// When nobody answers there. Somebody who answers anything but a status is taken for a service that has no figures.
pub async fn ask(to: SocketAddr, host: &str) -> anyhow::Result<Status> {
    let answer = timeout(ANSWER_WITHIN, exchange(to, host)).await;
    let body = answer
        .unwrap_or_else(|elapsed| Err(elapsed.into()))
        .with_context(|| format!("http://{host} does not answer"))?;
    Ok(serde_json::from_slice(&body).unwrap_or_default())
}

async fn exchange(to: SocketAddr, host: &str) -> anyhow::Result<Vec<u8>> {
    let mut stream = connect(to).await?;
    stream.write_all(&request::get(host, "/v1/status")).await?;
    let mut responses = Responses::default();
    loop {
        if stream.read_buf(responses.room()).await? == 0 {
            bail!(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        if let Some(response) = responses.take()? {
            let found = response.status == 200;
            return Ok(if found { response.body.to_vec() } else { Vec::new() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_status_is_read() {
        let status: Status = serde_json::from_str(
            r#"{"version":"0.1.0","uptime_seconds":5,"users":7,"online":3,"at":1638360000,"sessions":9,
                "heals":{"opened":9,"extended":1,"unchanged":0,"refused":0,"invalid":0},"connections":2,
                "process":{"cpu_seconds":1.25,"resident_bytes":4096,"open_files":12},"disk_bytes":0}"#,
        )
        .unwrap();
        assert_eq!((status.users, status.online, status.sessions), (Some(7), Some(3), Some(9)));
        assert_eq!((status.cpu_seconds(), status.resident_bytes()), (Some(1.25), Some(4096)));
        assert_eq!((status.version.as_deref(), status.disk_bytes), (Some("0.1.0"), Some(0)));
    }

    #[test]
    fn what_is_missing_is_unknown() {
        let status: Status = serde_json::from_str(r#"{"online":3,"process":{},"disk_bytes":null}"#).unwrap();
        assert_eq!(
            status,
            Status { online: Some(3), process: Some(Process::default()), ..Status::default() }
        );
        assert_eq!((status.cpu_seconds(), status.disk_bytes), (None, None));
    }
}
