//! Precedence, and every value that is refused, whichever way it comes.

use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use rstest::rstest;
use tempfile::NamedTempFile;

use super::*;

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn with_file(file: &NamedTempFile) -> Inputs {
    Inputs { config: Some(file.path().to_owned()), ..Inputs::default() }
}

fn with_variable(name: &str, value: &str) -> Inputs {
    Inputs { environment: vec![(name.into(), value.into())], ..Inputs::default() }
}

fn with_flag(name: &str, value: &str) -> Inputs {
    Inputs { flags: vec![(name.into(), value.into())], ..Inputs::default() }
}

fn shown(inputs: &Inputs, name: &str) -> (String, String) {
    let effective = inputs.load().unwrap();
    let (_, value, origin) = effective.iter().find(|(known, ..)| *known == name).unwrap();
    (value, origin.to_string())
}

fn refusal(inputs: &Inputs) -> String {
    let sentence = inputs.load().unwrap_err().to_string();
    assert!(!sentence.contains('\n'), "one line: {sentence}");
    sentence
}

#[test]
fn nothing_given_is_the_defaults() {
    let effective = Inputs::default().load().unwrap();
    assert!(effective.iter().all(|(_, _, origin)| *origin == Origin::Default));
    assert_eq!(effective.settings.ttl.as_seconds(), 7);
    assert_eq!(effective.settings.max_connections, 100_000);
    assert_eq!(effective.settings.idle_timeout, Duration::from_secs(75));
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file() {
    let file = file("ttl = \"3s\"\n");
    let mut inputs = with_file(&file);
    assert_eq!(shown(&inputs, "ttl"), ("3s".into(), format!("file:{}", file.path().display())));

    inputs.environment = vec![("HEARTBEAT_TTL".into(), "4s".into())];
    assert_eq!(shown(&inputs, "ttl"), ("4s".into(), "env HEARTBEAT_TTL".into()));

    inputs.flags = vec![("ttl".into(), "5s".into())];
    assert_eq!(shown(&inputs, "ttl"), ("5s".into(), "flag --ttl".into()));
}

#[test]
fn the_flag_names_the_file_before_the_variable_does() {
    let (one, other) = (file("ttl = \"3s\""), file("ttl = \"4s\""));
    let mut inputs = with_variable("HEARTBEAT_CONFIG", other.path().to_str().unwrap());
    assert_eq!(shown(&inputs, "ttl").0, "4s");

    inputs.config = Some(one.path().to_owned());
    assert_eq!(shown(&inputs, "ttl").0, "3s");
}

#[test]
fn a_file_can_hold_every_setting() {
    let file = file(
        r#"
        listen = ["127.0.0.1:1", "[::1]:2"]
        metrics-listen = ["127.0.0.1:3"]
        no-auth = true
        max-connections = 1_000
        header-timeout = "500ms"
        idle-timeout = "2m"
        drain-timeout = "0s"
        max-body-bytes = "1MiB"
        cors-origin = ["https://app.example.com", "http://localhost:8080"]
        ttl = "10s"
        grace = "2s"
        restart-grace = false
        max-users = 5
        retain = "30days"
        retain-sessions = 1_000
        events-held = 5_000
        data-dir = "/var/lib/heart beat"
        durability = "always"
        sync-interval = "250ms"
        snapshot-interval = "1h"
        snapshot-journal-bytes = "256MiB"
        segment-bytes = 1_048_576
        allow-unsafe-filesystem = true
        allow-future-journal = true
        threads = 3
        log = "info,heartbeat=debug"
        log-format = "pretty"
        "#,
    );
    let effective = with_file(&file).load().unwrap();
    let values: Vec<_> = effective.iter().map(|(_, value, _)| value).collect();
    let expected = [
        "127.0.0.1:1,[::1]:2",
        "127.0.0.1:3",
        "true",
        "1000",
        "500ms",
        "120s",
        "0s",
        "1MiB",
        "https://app.example.com,http://localhost:8080",
        "10s",
        "2s",
        "false",
        "5",
        "2592000s",
        "1000",
        "5000",
        "/var/lib/heart beat",
        "always",
        "250ms",
        "3600s",
        "256MiB",
        "1MiB",
        "true",
        "true",
        "3",
        "info,heartbeat=debug",
        "pretty",
    ];
    assert_eq!(values, expected);
}

#[rstest]
#[case("listen = \"127.0.0.1:1\"", "listen", "127.0.0.1:1")]
#[case("max-users = \"unlimited\"", "max-users", "unlimited")]
#[case("max-body-bytes = 4194304", "max-body-bytes", "4MiB")]
#[case("no-auth = \"true\"", "no-auth", "true")]
#[case("restart-grace = \"false\"", "restart-grace", "false")]
#[case("retain = \"forever\"", "retain", "forever")]
#[case("retain-sessions = \"unlimited\"", "retain-sessions", "unlimited")]
#[case("snapshot-journal-bytes = 67108864", "snapshot-journal-bytes", "64MiB")]
fn a_file_may_say_it_otherwise(#[case] line: &str, #[case] name: &str, #[case] value: &str) {
    assert_eq!(shown(&with_file(&file(line)), name).0, value);
}

#[rstest]
#[case("listen", "127.0.0.1:1, [::1]:2", "127.0.0.1:1,[::1]:2")]
#[case("max-connections", "50,000", "50000")]
#[case("max-connections", "10_000_000", "10000000")]
#[case("metrics-listen", "same port", "same port")]
#[case("metrics-listen", "127.0.0.1:9519,[::1]:9519", "127.0.0.1:9519,[::1]:9519")]
#[case("cors-origin", "none", "none")]
#[case("cors-origin", "*", "*")]
#[case("cors-origin", "https://App.Example.com", "https://app.example.com")]
#[case("cors-origin", "http://[::1]:8080, https://a:80", "http://[::1]:8080,https://a:80")]
#[case("cors-origin", "capacitor://localhost", "capacitor://localhost")]
#[case("ttl", "1s", "1s")]
#[case("ttl", "1day", "86400s")]
#[case("grace", "1day", "86400s")]
#[case("max-users", "1", "1")]
#[case("threads", "1024", "1024")]
#[case("max-body-bytes", "1KiB", "1KiB")]
#[case("max-body-bytes", "1GiB", "1GiB")]
#[case("header-timeout", "1ms", "1ms")]
#[case("no-auth", "false", "false")]
#[case("restart-grace", "false", "false")]
#[case("restart-grace", "true", "true")]
#[case("retain", "1s", "1s")]
#[case("retain", "100years", "3155760000s")]
#[case("retain", "forever", "forever")]
#[case("retain-sessions", "1", "1")]
#[case("retain-sessions", "unlimited", "unlimited")]
#[case("data-dir", "/", "/")]
#[case("data-dir", "a,b", "a,b")]
#[case("data-dir", "Über/データ", "Über/データ")]
#[case("durability", "process", "process")]
#[case("durability", "interval", "interval")]
#[case("durability", "always", "always")]
#[case("sync-interval", "10ms", "10ms")]
#[case("sync-interval", "1h", "3600s")]
#[case("snapshot-interval", "1s", "1s")]
#[case("snapshot-interval", "1day", "86400s")]
#[case("snapshot-journal-bytes", "64MiB", "64MiB")]
#[case("snapshot-journal-bytes", "256GiB", "256GiB")]
#[case("segment-bytes", "16KiB", "16KiB")]
#[case("segment-bytes", "20480", "20KiB")]
#[case("segment-bytes", "1GiB", "1GiB")]
#[case("allow-unsafe-filesystem", "true", "true")]
#[case("allow-future-journal", "true", "true")]
#[case("log", "off", "off")]
#[case("log", "WARN,heartbeat::http=trace", "WARN,heartbeat::http=trace")]
fn edges_that_are_taken(#[case] name: &str, #[case] given: &str, #[case] value: &str) {
    assert_eq!(shown(&with_flag(name, given), name).0, value);
    let variable = Setting::find(name).unwrap().variable();
    assert_eq!(shown(&with_variable(&variable, given), name).0, value);
}

#[rstest]
#[case("listen", "localhost")]
#[case("listen", "3519")]
#[case("listen", "127.0.0.1:70000")]
#[case("listen", "127.0.0.1:1,")]
#[case("metrics-listen", "other port")]
#[case("cors-origin", "app.example.com")]
#[case("cors-origin", "https://app.example.com/")]
#[case("cors-origin", "https://app.example.com/page")]
#[case("cors-origin", "https://app.example.com:443")]
#[case("cors-origin", "http://localhost:80")]
#[case("cors-origin", "https://*.example.com")]
#[case("cors-origin", "https://user@example.com")]
#[case("cors-origin", "https://")]
#[case("cors-origin", "https://a b")]
#[case("cors-origin", "null")]
#[case("cors-origin", "*,https://app.example.com")]
#[case("cors-origin", "https://a,")]
#[case("ttl", "0s")]
#[case("ttl", "86401s")]
#[case("ttl", "1500ms")]
#[case("ttl", "7")]
#[case("ttl", "-7s")]
#[case("grace", "0")]
#[case("grace", "2days")]
#[case("grace", "1500ms")]
#[case("max-users", "0")]
#[case("max-users", "many")]
#[case("threads", "0")]
#[case("threads", "1025")]
#[case("max-connections", "0")]
#[case("max-connections", "10,000,001")]
#[case("header-timeout", "0s")]
#[case("idle-timeout", "2days")]
#[case("drain-timeout", "soon")]
#[case("max-body-bytes", "1023")]
#[case("max-body-bytes", "2GiB")]
#[case("max-body-bytes", "4M")]
#[case("no-auth", "maybe")]
#[case("restart-grace", "off")]
#[case("retain", "0s")]
#[case("retain", "101years")]
#[case("retain", "1500ms")]
#[case("retain", "30")]
#[case("retain", "never")]
#[case("retain-sessions", "0")]
#[case("retain-sessions", "forever")]
#[case("data-dir", "caf\u{fffd}")]
#[case("durability", "Always")]
#[case("durability", "alwyas")]
#[case("sync-interval", "9ms")]
#[case("sync-interval", "3601s")]
#[case("sync-interval", "1")]
#[case("snapshot-interval", "999ms")]
#[case("snapshot-interval", "86401s")]
#[case("snapshot-journal-bytes", "16383")]
#[case("snapshot-journal-bytes", "257GiB")]
#[case("snapshot-journal-bytes", "1TiB")]
#[case("segment-bytes", "12KiB")]
#[case("segment-bytes", "16385")]
#[case("segment-bytes", "100MB")]
#[case("segment-bytes", "1048580KiB")]
#[case("allow-unsafe-filesystem", "yes")]
#[case("allow-future-journal", "1")]
#[case("log", "inof")]
#[case("log", "heartbeat=loud")]
#[case("log-format", "xml")]
fn a_bad_value_is_named_with_its_origin_and_the_remedy(#[case] name: &str, #[case] value: &str) {
    let setting = Setting::find(name).unwrap();
    let file = file(&format!("{name} = {value:?}"));
    let ways = [
        (with_flag(name, value), format!("flag --{name}")),
        (with_variable(&setting.variable(), value), format!("env {}", setting.variable())),
        (with_file(&file), format!("file:{}", file.path().display())),
    ];
    for (inputs, origin) in ways {
        let expected = format!("{name} cannot be `{value}` ({origin}): write {}", setting.expected);
        assert_eq!(refusal(&inputs), expected);
    }
}

#[test]
fn an_empty_value_is_none_for_every_setting() {
    for setting in Setting::all() {
        let expected =
            format!("{} has no value (flag --{}): write {}", setting.name, setting.name, setting.expected);
        assert_eq!(refusal(&with_flag(setting.name, "")), expected);
    }
}

#[rstest]
#[case("ttl = 7", "ttl cannot be `7`")]
#[case("ttl = 7.5", "ttl cannot be `7.5`")]
#[case("ttl = [\"7s\"]", "ttl cannot be `[\"7s\"]`")]
#[case("log = true", "log cannot be `true`")]
#[case("listen = []", "listen has no value")]
#[case("listen = [1]", "listen cannot be `[1]`")]
#[case("[ttl]\nseconds = 7", "ttl cannot be `")]
#[case("no-auth = 1", "no-auth cannot be `1`")]
#[case("data-dir = [\"a\", \"b\"]", "data-dir cannot be `[\"a\", \"b\"]`")]
#[case("data-dir = \"a\\u0000b\"", "data-dir cannot be `a\\u{0}b`")]
#[case("sync-interval = 1", "sync-interval cannot be `1`")]
#[case("durability = true", "durability cannot be `true`")]
#[case("restart-grace = 0", "restart-grace cannot be `0`")]
fn a_value_of_the_wrong_type_is_refused(#[case] line: &str, #[case] sentence: &str) {
    let said = refusal(&with_file(&file(line)));
    assert!(said.starts_with(sentence), "{said}");
}

/// A mistake does not wait until the value above it is taken away.
#[test]
fn a_bad_value_is_refused_even_if_another_takes_precedence() {
    let mut inputs = with_variable("HEARTBEAT_TTL", "soon");
    inputs.flags = vec![("ttl".into(), "7s".into())];
    assert!(refusal(&inputs).starts_with("ttl cannot be `soon` (env HEARTBEAT_TTL)"));
}

#[test]
fn a_long_value_is_shortened_and_stays_on_one_line() {
    let said = refusal(&with_flag("ttl", &"a\nb".repeat(1_000)));
    assert!(said.starts_with("ttl cannot be `a\\nba\\nb"), "{said}");
    assert!(said.len() < 400, "{said}");
}

#[rstest]
#[case("max_users = 3", "`max_users` is not a setting", "write max-users")]
#[case("tll = \"7s\"", "`tll` is not a setting", "write ttl")]
#[case("log_format = \"json\"", "`log_format` is not a setting", "write log-format")]
#[case("data_dir = \"x\"", "`data_dir` is not a setting", "write data-dir")]
#[case("segment-byte = 1", "`segment-byte` is not a setting", "write segment-bytes")]
fn an_unknown_key_is_refused_with_the_nearest(#[case] line: &str, #[case] what: &str, #[case] remedy: &str) {
    let said = refusal(&with_file(&file(line)));
    assert!(said.starts_with(what) && said.contains("(file:") && said.contains(remedy), "{said}");
}

#[rstest]
#[case("HEARTBEAT_TLL", "write HEARTBEAT_TTL")]
#[case("HEARTBEAT_ttl", "write HEARTBEAT_TTL")]
#[case("HEARTBEAT_NOAUTH", "write HEARTBEAT_NO_AUTH")]
#[case("HEARTBEAT_MAX_CONNECTION", "write HEARTBEAT_MAX_CONNECTIONS")]
#[case("HEARTBEAT_CONFG", "write HEARTBEAT_CONFIG")]
#[case("HEARTBEAT_DATADIR", "write HEARTBEAT_DATA_DIR")]
#[case("HEARTBEAT_DURABLITY", "write HEARTBEAT_DURABILITY")]
#[case("HEARTBEAT_RETAIN_SESSION", "write HEARTBEAT_RETAIN_SESSIONS")]
#[case("HEARTBEAT_ALLOW_UNSAFE_FILE_SYSTEM", "write HEARTBEAT_ALLOW_UNSAFE_FILESYSTEM")]
fn a_misspelt_variable_is_refused_with_the_nearest(#[case] name: &str, #[case] remedy: &str) {
    let said = refusal(&with_variable(name, "7s"));
    assert!(said.starts_with(&format!("`{name}` is not a setting (env {name})")), "{said}");
    assert!(said.contains(remedy), "{said}");
}

#[rstest]
#[case("HEARTBEAT_PORT")]
#[case("HEARTBEAT_PORT_3519_TCP_ADDR")]
#[case("HEARTBEAT_SERVICE_PORT_HTTP")]
#[case("HEARTBEAT_REDIS_PORT")]
#[case("HEARTBEAT_DATABASE_URL")]
#[case("TTL")]
fn a_variable_that_is_not_ours_is_left_alone(#[case] name: &str) {
    assert!(with_variable(name, "tcp://10.0.0.1:3519").load().is_ok());
}

#[rstest]
#[case("0.0.0.0:3519")]
#[case("[::]:3519")]
#[case("192.0.2.1:3519")]
#[case("127.0.0.1:1,192.0.2.1:3519")]
fn another_address_than_loopback_needs_leave(#[case] listen: &str) {
    let mut inputs = with_flag("listen", listen);
    let said = refusal(&inputs);
    assert!(said.contains("(flag --listen)") && said.contains("--no-auth"), "{said}");

    inputs.environment = vec![("HEARTBEAT_NO_AUTH".into(), "true".into())];
    assert!(inputs.load().is_ok());
}

#[test]
fn so_do_metrics_on_one() {
    let said = refusal(&with_flag("metrics-listen", "127.0.0.1:1,0.0.0.0:9519"));
    assert!(said.starts_with("metrics-listen cannot be `0.0.0.0:9519` (flag --metrics-listen)"), "{said}");
}

#[test]
fn metrics_have_an_address_of_their_own_or_none() {
    let mut inputs = with_flag("metrics-listen", "127.0.0.1:3519");
    let said = refusal(&inputs);
    assert!(said.starts_with("metrics-listen cannot be `127.0.0.1:3519` (flag --metrics-listen)"), "{said}");

    inputs.flags = vec![
        ("listen".into(), "127.0.0.1:0".into()),
        ("metrics-listen".into(), "127.0.0.1:0,127.0.0.1:3519".into()),
    ];
    assert!(inputs.load().is_ok());
}

#[rstest]
#[case("127.8.8.8:1")]
#[case("[::1]:1")]
#[case("[::ffff:127.0.0.1]:1")]
fn loopback_needs_none(#[case] listen: &str) {
    assert!(with_flag("listen", listen).load().is_ok());
}

/// Else every snapshot would make the next one due.
#[test]
fn a_snapshot_is_due_no_sooner_than_a_segment_is_full() {
    let mut inputs = with_flag("snapshot-journal-bytes", "16MiB");
    assert_eq!(
        refusal(&inputs),
        "snapshot-journal-bytes cannot be `16MiB` (flag --snapshot-journal-bytes), which is less than one segment, \
         `64MiB` (default): write at least 64MiB, or a smaller segment-bytes"
    );

    inputs.environment = vec![("HEARTBEAT_SEGMENT_BYTES".into(), "16388KiB".into())];
    assert_eq!(
        refusal(&inputs),
        "snapshot-journal-bytes cannot be `16MiB` (flag --snapshot-journal-bytes), which is less than one segment, \
         `16388KiB` (env HEARTBEAT_SEGMENT_BYTES): write at least 16388KiB, or a smaller segment-bytes"
    );

    inputs.environment = vec![("HEARTBEAT_SEGMENT_BYTES".into(), "16MiB".into())];
    assert!(inputs.load().is_ok());
}

/// Every size that `segment-bytes` can have goes with the default of the other.
#[test]
fn the_largest_segment_needs_no_second_setting() {
    assert!(with_flag("segment-bytes", "1GiB").load().is_ok());
}

/// Shown in full it would name another directory.
#[test]
fn a_data_directory_that_is_not_utf_8_is_refused() {
    let value = OsString::from_vec(b"caf\xe9".into());
    let environment = vec![("HEARTBEAT_DATA_DIR".into(), value)];
    let said = refusal(&Inputs { environment, ..Inputs::default() });
    assert!(said.starts_with("data-dir cannot be `caf\u{fffd}` (env HEARTBEAT_DATA_DIR)"), "{said}");
}

#[test]
fn a_missing_file_is_a_bad_value_of_config() {
    let said = refusal(&with_variable("HEARTBEAT_CONFIG", "/nonexistent/heartbeat.toml"));
    assert!(
        said.starts_with("config cannot be `/nonexistent/heartbeat.toml` (env HEARTBEAT_CONFIG)"),
        "{said}"
    );
    assert!(refusal(&with_variable("HEARTBEAT_CONFIG", "")).starts_with("config has no value"));
}

/// Or a device that never ends, given by mistake, would fill the memory.
#[test]
fn a_file_larger_than_any_of_settings_is_not_read_to_its_end() {
    let said = refusal(&with_file(&file(&format!("#{}", " ".repeat(1 << 20)))));
    assert!(said.contains(", it is larger than 1 MiB: write the path of"), "{said}");
    assert!(with_file(&file(&format!("#{}", " ".repeat((1 << 20) - 1)))).load().is_ok());
}

#[test]
fn a_file_that_is_not_toml_is_refused_with_its_line() {
    let said = refusal(&with_file(&file("ttl = \"7s\"\n\nlisten = [\n")));
    assert!(said.contains("line ") && said.contains("is not TOML"), "{said}");
    let said = refusal(&with_file(&file("ttl = \"7s\"\ngrace 3s\n")));
    assert!(said.contains("line 2 is not TOML"), "{said}");
}

#[test]
fn differences_are_told_by_name() {
    let one = Inputs::default().load().unwrap();
    let other = with_flag("ttl", "9s").load().unwrap();
    assert_eq!(one.differences(&other), ["ttl"]);
}
