//! Requests as bytes, all but the ids written once.

use std::io::Write as _;

/// `PUT /heal/{user_id}`.
#[derive(Debug, Clone)]
pub struct HealRequest {
    after_id: Vec<u8>,
}

impl HealRequest {
    /// Requests for the service that clients call `host` (`name:port`).
    pub fn new(host: &str) -> Self {
        Self { after_id: format!(" HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\n\r\n").into_bytes() }
    }

    /// Appends the request that heals `user`.
    pub fn write(&self, user: i64, out: &mut Vec<u8>) {
        out.extend_from_slice(b"PUT /heal/");
        write!(out, "{user}").expect("a Vec takes every byte");
        out.extend_from_slice(&self.after_id);
    }
}

/// `POST /v1/heal` with ids of 8 bytes, little-endian.
#[derive(Debug, Clone)]
pub struct BatchRequest {
    head: Vec<u8>,
}

impl BatchRequest {
    /// Requests of `ids` ids each.
    pub fn new(host: &str, ids: u32) -> Self {
        let bytes = u64::from(ids) * 8;
        let head = format!(
            "POST /v1/heal HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/octet-stream\r\ncontent-length: {bytes}\r\n\r\n"
        );
        Self { head: head.into_bytes() }
    }

    /// Appends the request that heals `users`: as many as the request is for.
    pub fn write(&self, users: impl Iterator<Item = i64>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        for user in users {
            out.extend_from_slice(&user.to_le_bytes());
        }
    }
}

/// `GET` of `path`, after which the service closes the connection.
pub fn get(host: &str, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heal_is_one_line_and_two_headers() {
        let mut out = Vec::new();
        HealRequest::new("localhost:3519").write(12_345, &mut out);
        assert_eq!(out, b"PUT /heal/12345 HTTP/1.1\r\nhost: localhost:3519\r\ncontent-length: 0\r\n\r\n");
    }

    #[test]
    fn a_batch_carries_eight_bytes_an_id() {
        let mut out = Vec::new();
        BatchRequest::new("localhost:3519", 2).write([1, -2].into_iter(), &mut out);
        let body = out.split_off(out.len() - 16);
        assert_eq!(body, [1, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        let head = String::from_utf8(out).unwrap();
        assert!(head.starts_with("POST /v1/heal HTTP/1.1\r\nhost: localhost:3519\r\n"), "{head}");
        assert!(head.ends_with("\r\ncontent-length: 16\r\n\r\n"), "{head}");
    }
}
