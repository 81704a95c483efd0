//! Long answers, compressed for whoever asks.

#![cfg(feature = "service")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod wire;

use std::io::Read;

use flate2::read::GzDecoder;
use heartbeat::{UnixSeconds, UserId};
use rstest::rstest;
use wire::{NOON, Response, Service};

const DAY: u32 = 86_400;

/// User 7 with so many sessions, user 8 with one.
fn service(sessions: u32) -> Service {
    let service = Service::start();
    service.clock.advance(30 * DAY);
    for (user, count) in [(7, sessions), (8, 1)] {
        for n in 0..count {
            let online_at = UnixSeconds::new(NOON + 20 * n);
            service.engine.import(UserId::new(user), online_at, online_at.plus(5 + n % 7)).unwrap();
        }
    }
    service
}

fn ask(service: &Service, method: &str, target: &str, encodings: &str) -> Response {
    let mut client = service.connect();
    client.write(format!("{method} {target} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {encodings}\r\n\r\n"));
    client.response_to(method)
}

fn unpacked(response: &Response) -> String {
    assert_eq!(response.header("content-encoding"), Some("gzip"), "{response:?}");
    let mut text = String::new();
    GzDecoder::new(response.bytes.as_slice()).read_to_string(&mut text).unwrap();
    text
}

#[rstest]
fn a_long_answer_is_the_same_compressed(
    #[values("/heart_rhythm/7", "/heart_rhythm/%37/", "/v1/users/7/history", "/v1/export")] target: &str,
    #[values("gzip", "br, gzip;q=0.5", "GZIP", "*")] encodings: &str,
) {
    let service = service(2_000);
    let plain = service.call("GET", target);
    let packed = ask(&service, "GET", target, encodings);
    assert_eq!(unpacked(&packed), plain.body);
    assert!(
        packed.bytes.len() * 3 < plain.bytes.len(),
        "{} bytes of {}",
        packed.bytes.len(),
        plain.bytes.len()
    );
    assert_eq!(packed.status, 200);
    for name in ["content-type", "cache-control"] {
        assert_eq!(packed.header(name), plain.header(name), "{name}");
    }
    for response in [&plain, &packed] {
        let varies = response.headers.iter().filter(|(name, _)| name == "vary").collect::<Vec<_>>();
        assert_eq!(varies, [&("vary".to_owned(), "accept-encoding".to_owned())]);
    }
    assert_eq!(packed.header("content-length"), None);
}

#[rstest]
#[case::not_asked("/heart_rhythm/7", "identity")]
#[case::for_what_we_do_not_know("/v1/users/7/history", "br, zstd")]
#[case::asked_not_to("/heart_rhythm/7", "gzip;q=0")]
#[case::short("/heart_rhythm/8", "gzip")]
#[case::short_from_the_router("/v1/users/8/history", "gzip")]
#[case::one_user("/checkup/7", "gzip")]
#[case::another_part_of_the_service("/metrics", "gzip")]
#[case::an_error("/v1/users/x/history", "gzip")]
fn other_answers_are_as_they_were(#[case] target: &str, #[case] encodings: &str) {
    let service = service(2_000);
    let plain = service.call("GET", target);
    let same = ask(&service, "GET", target, encodings);
    assert_eq!((same.status, same.header("content-encoding")), (plain.status, None));
    assert_eq!(same.bytes.len() > 1_000, plain.bytes.len() > 1_000);
    if target != "/metrics" {
        assert_eq!(same.body, plain.body);
    }
}

/// 1,024 bytes are not more than 1 KiB.
#[test]
fn compression_begins_at_a_byte_more_than_a_kibibyte() {
    let service = Service::start();
    let mut seen = Vec::new();
    for ids in 25..35 {
        // 34 bytes a user, with an id of eight digits; the last one's id has as many digits as are wanted.
        for digits in 1..=10 {
            let body = format!("{}{}", "12345678\n".repeat(ids), "1".repeat(digits));
            let head = |encodings: &str| {
                let mut client = service.connect();
                client.write(format!(
                    "POST /v1/checkup HTTP/1.1\r\nHost: a\r\n{encodings}Content-Type: text/plain\r\n\
                     Content-Length: {}\r\n\r\n{body}",
                    body.len()
                ));
                client.response()
            };
            let length = head("").bytes.len();
            let is_packed = head("Accept-Encoding: gzip\r\n").header("content-encoding").is_some();
            assert_eq!(is_packed, length > 1_024, "{length} bytes");
            seen.push(length);
        }
    }
    assert!(seen.contains(&1_024) && seen.contains(&1_025), "{seen:?}");
}

#[rstest]
fn head_is_answered_as_get_is(
    #[values("/heart_rhythm/7", "/v1/users/7/history", "/v1/export", "/heart_rhythm/8")] target: &str,
    #[values("gzip", "identity")] encodings: &str,
) {
    let service = service(2_000);
    let headers = |method: &str| {
        let mut headers = ask(&service, method, target, encodings).headers;
        headers.retain(|(name, _)| name != "date" && name != "transfer-encoding");
        headers.sort();
        headers
    };
    assert_eq!(headers("HEAD"), headers("GET"));
    assert_eq!(ask(&service, "HEAD", target, encodings).bytes, b"");
}

/// RFC 9110 allows 406 there, but by then the heal has been taken: it would say that it was not.
#[test]
fn who_takes_no_encoding_at_all_is_answered_all_the_same() {
    let service = service(2_000);
    for target in ["/heart_rhythm/7", "/v1/users/7/history"] {
        let answer = ask(&service, "GET", target, "identity;q=0");
        assert_eq!((answer.status, answer.header("content-encoding")), (200, None), "{target}");
        assert_eq!(answer.body, service.get(target));
    }
}

/// It is not made before it is sent: others are answered meanwhile, by the same workers.
#[test]
fn an_export_is_compressed_as_it_goes() {
    let service = Service::start();
    service.clock.advance(30 * DAY);
    for user in 0..400_000 {
        service.engine.import(UserId::new(user), UnixSeconds::new(NOON), UnixSeconds::new(NOON + 9)).unwrap();
    }
    let mut client = service.connect();
    client.write("GET /v1/export HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    // While it goes on, the same worker answers others.
    let mut others: Vec<_> = (0..4).map(|_| service.connect()).collect();
    for other in &mut others {
        assert_eq!(other.call("GET", "/checkup/1").status, 200);
    }
    let export = client.response();
    assert_eq!(export.header("transfer-encoding"), Some("chunked"));
    assert_eq!(unpacked(&export).lines().count(), 400_000);
}
