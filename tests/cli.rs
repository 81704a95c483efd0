//! The binary from outside: exit codes, the one sentence on stderr, help, signals.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod process;

use std::io::Write;
use std::net::TcpListener;

use assert_cmd::Command;
use rstest::rstest;
use tempfile::NamedTempFile;

/// The binary with nothing in its environment.
fn heartbeat(args: &[&str]) -> Command {
    let mut command = Command::new(process::BINARY);
    command.env_clear().args(args);
    command
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// Exit code and the only line on stderr of a command that prints nothing else.
fn refused(command: &mut Command) -> (i32, String) {
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.lines().count(), 1, "one sentence: {stderr}");
    assert!(output.stdout.is_empty());
    (output.status.code().unwrap(), stderr.trim_end().to_owned())
}

fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_bad_flag_value_is_78() {
    let ttl = "heartbeat: ttl cannot be `7` (flag --ttl): write whole seconds with a unit, from 1s to 1day, such as 7s";
    for args in [
        &["--ttl", "7"][..],
        &["serve", "--ttl=7"],
        &["config", "--ttl", "7"],
        &["config", "--check", "--ttl", "7"],
    ] {
        assert_eq!(refused(&mut heartbeat(args)), (78, ttl.into()), "{args:?}");
    }
}

#[rstest]
#[case(&["--ttl"], "heartbeat: ttl has no value (flag --ttl): write whole seconds")]
#[case(&["serve", "--ttl", "--grace", "3s"], "heartbeat: ttl has no value (flag --ttl): write whole seconds")]
#[case(&["--config"], "heartbeat: config has no value (flag --config): write the path of a TOML file")]
#[case(&["--ttl", "-7s"], "heartbeat: ttl cannot be `-7s` (flag --ttl): write whole seconds")]
#[case(&["--data-dir="], "heartbeat: data-dir has no value (flag --data-dir): write the path of a directory")]
#[case(&["--durability", "sometimes"], "heartbeat: durability cannot be `sometimes` (flag --durability): write process, interval or always")]
#[case(&["--sync-interval", "-1s"], "heartbeat: sync-interval cannot be `-1s` (flag --sync-interval): write a duration")]
#[case(&["--restart-grace=off"], "heartbeat: restart-grace cannot be `off` (flag --restart-grace): write true or false")]
#[case(&["--snapshot-journal-bytes", "1MiB"], "heartbeat: snapshot-journal-bytes cannot be `1MiB` (flag --snapshot-journal-bytes), which is less")]
#[case(&["--no-auth=perhaps"], "heartbeat: no-auth cannot be `perhaps` (flag --no-auth): write true or false")]
#[case(&["--listen", "127.0.0.1:0", "--listen", "here"], "heartbeat: listen cannot be `127.0.0.1:0,here` (flag --listen)")]
#[case(&["--config", "/nonexistent"], "heartbeat: config cannot be `/nonexistent` (flag --config), No such file")]
fn a_flag_without_a_good_value_is_78(#[case] args: &[&str], #[case] start: &str) {
    let (code, sentence) = refused(&mut heartbeat(args));
    assert_eq!(code, 78, "{sentence}");
    assert!(sentence.starts_with(start), "{sentence}");
}

#[rstest]
#[case("HEARTBEAT_GRACE", "soon", "heartbeat: grace cannot be `soon` (env HEARTBEAT_GRACE): write ")]
#[case(
    "HEARTBEAT_GRASE",
    "1s",
    "heartbeat: `HEARTBEAT_GRASE` is not a setting (env HEARTBEAT_GRASE): write HEARTBEAT_GRACE"
)]
fn a_bad_variable_is_78(#[case] name: &str, #[case] value: &str, #[case] start: &str) {
    let (code, sentence) = refused(heartbeat(&["config", "--check"]).env(name, value));
    assert_eq!(code, 78, "{sentence}");
    assert!(sentence.starts_with(start), "{sentence}");
}

#[rstest]
#[case("ttl = 7", "ttl cannot be `7` (file:")]
#[case("tll = \"7s\"", "`tll` is not a setting (file:")]
#[case("ttl 7s", "config cannot be `")]
fn a_bad_file_is_78(#[case] text: &str, #[case] part: &str) {
    let file = file(text);
    let path = file.path().to_str().unwrap();
    for args in [&["--config", path][..], &["config", "--check", "--config", path]] {
        let (code, sentence) = refused(&mut heartbeat(args));
        assert_eq!(code, 78, "{sentence}");
        assert!(sentence.contains(part), "{sentence}");
    }
}

/// The exit code is all that is left to say it with.
#[test]
fn a_bad_setting_is_78_even_if_nobody_reads_the_sentence() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = std::process::Command::new(process::BINARY);
    let status = command.env_clear().args(["--ttl", "7"]).stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(78));
}

#[test]
fn off_loopback_without_leave_is_78() {
    let (code, sentence) = refused(&mut heartbeat(&["--listen", "0.0.0.0:0"]));
    assert_eq!(code, 78);
    assert!(sentence.contains("`0.0.0.0:0` (flag --listen)") && sentence.contains("--no-auth"), "{sentence}");
}

#[test]
fn a_port_in_use_is_74() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, sentence) = refused(&mut heartbeat(&["--listen", &address]));
    assert_eq!(code, 74, "{sentence}");
    assert!(sentence.contains(&address) && sentence.contains("in use"), "{sentence}");
}

#[rstest]
#[case(&["--tll", "7s"], "--ttl")]
#[case(&["serve", "--max-user", "3"], "--max-users")]
#[case(&["confg"], "config")]
#[case(&["completions", "bsh"], "bash")]
#[case(&["config", "--json", "--check"], "cannot be used with")]
#[case(&["healthcheck", "--url", "https://x"], "http://")]
fn an_unknown_flag_or_subcommand_is_2_with_the_nearest(#[case] args: &[&str], #[case] meant: &str) {
    let output = heartbeat(args).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains(meant), "{stderr}");
}

#[test]
fn config_prints_value_and_origin_of_every_setting() {
    let file = file("grace = \"2s\"\nlisten = [\"127.0.0.1:1\", \"[::1]:2\"]\n");
    let path = file.path().to_str().unwrap();
    let mut command = heartbeat(&["config", "--config", path, "--ttl", "9s", "--threads", "2"]);
    command.env("HEARTBEAT_LOG", "debug").env("HEARTBEAT_PORT", "tcp://10.0.0.1:3519");
    let table = printed(&mut command);

    let expected = format!(
        "\
setting                  value                source
listen                   127.0.0.1:1,[::1]:2  file:{path}
metrics-listen           same port            default
no-auth                  false                default
max-connections          100000               default
header-timeout           5s                   default
idle-timeout             75s                  default
drain-timeout            10s                  default
max-body-bytes           4MiB                 default
cors-origin              none                 default
ttl                      9s                   flag --ttl
grace                    2s                   file:{path}
restart-grace            true                 default
max-users                unlimited            default
retain                   forever              default
retain-sessions          unlimited            default
events-held              1048576              default
data-dir                 snapshots            default
durability               interval             default
sync-interval            1s                   default
snapshot-interval        300s                 default
snapshot-journal-bytes   1GiB                 default
segment-bytes            64MiB                default
allow-unsafe-filesystem  false                default
allow-future-journal     false                default
threads                  2                    flag --threads
log                      debug                env HEARTBEAT_LOG
log-format               json                 default
"
    );
    assert_eq!(table, expected);
}

#[test]
fn config_as_json_has_the_same_rows() {
    let text = printed(heartbeat(&["config", "--json", "--no-auth"]).env("HEARTBEAT_TTL", "9s"));
    let rows: serde_json::Value = serde_json::from_str(&text).unwrap();
    let rows = rows.as_array().unwrap();
    let ttl = serde_json::json!({"setting": "ttl", "value": "9s", "source": "env HEARTBEAT_TTL"});
    let no_auth = serde_json::json!({"setting": "no-auth", "value": "true", "source": "flag --no-auth"});
    assert_eq!(rows.len(), 27);
    assert!(rows.contains(&ttl) && rows.contains(&no_auth), "{text}");
}

/// Leaving out the flag of something that is on does not switch it off.
#[rstest]
#[case(&["--restart-grace=false"], None, "", "flag --restart-grace")]
#[case(&[], Some("false"), "restart-grace = true", "env HEARTBEAT_RESTART_GRACE")]
#[case(&[], None, "restart-grace = false", "file:")]
fn restart_grace_can_be_switched_off(
    #[case] flags: &[&str],
    #[case] variable: Option<&str>,
    #[case] text: &str,
    #[case] origin: &str,
) {
    let file = file(text);
    let mut command = heartbeat(&["config", "--config", file.path().to_str().unwrap()]);
    command.args(flags).envs(variable.map(|value| ("HEARTBEAT_RESTART_GRACE", value)));
    let table = printed(&mut command);
    let row = table.lines().find(|line| line.starts_with("restart-grace ")).unwrap();
    assert!(row.contains(" false ") && row.contains(origin), "{row}");
}

#[test]
fn config_check_says_nothing_when_all_is_well() {
    assert_eq!(printed(&mut heartbeat(&["config", "--check"])), "");
}

#[test]
fn help_shows_default_and_variable_of_every_setting_and_two_examples() {
    let settings = [
        ("--listen <ADDRESS>", "127.0.0.1:3519", "HEARTBEAT_LISTEN"),
        ("--no-auth[=<BOOL>]", "false", "HEARTBEAT_NO_AUTH"),
        ("--max-connections <COUNT>", "100000", "HEARTBEAT_MAX_CONNECTIONS"),
        ("--header-timeout <DURATION>", "5s", "HEARTBEAT_HEADER_TIMEOUT"),
        ("--idle-timeout <DURATION>", "75s", "HEARTBEAT_IDLE_TIMEOUT"),
        ("--drain-timeout <DURATION>", "10s", "HEARTBEAT_DRAIN_TIMEOUT"),
        ("--max-body-bytes <SIZE>", "4MiB", "HEARTBEAT_MAX_BODY_BYTES"),
        ("--ttl <DURATION>", "7s", "HEARTBEAT_TTL"),
        ("--grace <DURATION>", "0s", "HEARTBEAT_GRACE"),
        ("--restart-grace[=<BOOL>]", "true", "HEARTBEAT_RESTART_GRACE"),
        ("--max-users <COUNT>", "unlimited", "HEARTBEAT_MAX_USERS"),
        ("--retain <DURATION>", "forever", "HEARTBEAT_RETAIN"),
        ("--retain-sessions <COUNT>", "unlimited", "HEARTBEAT_RETAIN_SESSIONS"),
        ("--data-dir <DIRECTORY>", "snapshots", "HEARTBEAT_DATA_DIR"),
        ("--durability <MODE>", "interval", "HEARTBEAT_DURABILITY"),
        ("--sync-interval <DURATION>", "1s", "HEARTBEAT_SYNC_INTERVAL"),
        ("--snapshot-interval <DURATION>", "300s", "HEARTBEAT_SNAPSHOT_INTERVAL"),
        ("--snapshot-journal-bytes <SIZE>", "1GiB", "HEARTBEAT_SNAPSHOT_JOURNAL_BYTES"),
        ("--segment-bytes <SIZE>", "64MiB", "HEARTBEAT_SEGMENT_BYTES"),
        ("--allow-unsafe-filesystem[=<BOOL>]", "false", "HEARTBEAT_ALLOW_UNSAFE_FILESYSTEM"),
        ("--allow-future-journal[=<BOOL>]", "false", "HEARTBEAT_ALLOW_FUTURE_JOURNAL"),
        ("--threads <COUNT>", "number of cores", "HEARTBEAT_THREADS"),
        ("--log <FILTER>", "info", "HEARTBEAT_LOG"),
        ("--log-format <FORMAT>", "pretty on a terminal, else json", "HEARTBEAT_LOG_FORMAT"),
        ("--config <FILE>", "none", "HEARTBEAT_CONFIG"),
    ];
    for args in [&["--help"][..], &["serve", "--help"]] {
        let help = printed(&mut heartbeat(args));
        // Without the line breaks that depend on the width of the terminal.
        let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for (flag, default, variable) in settings {
            assert!(words.contains(flag), "{flag}: {help}");
            assert!(words.contains(&format!("[default: {default}] [env: {variable}]")), "{flag}: {help}");
        }
        for heading in ["Network:", "Presence:", "Durability:", "Process:"] {
            assert!(help.contains(heading), "{heading}: {help}");
        }
        let ways_off = words.match_indices("=false switches it off").count();
        assert!(words.contains("; --restart-grace=false switches it off [default: true]"), "{help}");
        assert_eq!(ways_off, 1, "for what is on by default: {help}");
        let (_, examples) = help.split_once("Examples:\n").unwrap();
        assert_eq!(examples.lines().filter(|line| line.starts_with("  heartbeat ")).count(), 2);
        assert!(!help.contains("until-stdin-closes"));
    }
}

#[test]
fn the_examples_of_the_help_hold() {
    let file = file("");
    let path = file.path().to_str().unwrap();
    printed(&mut heartbeat(&["config", "--check", "--ttl", "10s", "--max-users", "1,000,000"]));
    printed(&mut heartbeat(&[
        "config",
        "--check",
        "--listen",
        "0.0.0.0:3519",
        "--no-auth",
        "--config",
        path,
    ]));
}

#[rstest]
#[case("bash")]
#[case("zsh")]
#[case("fish")]
fn completions_know_the_flags(#[case] shell: &str) {
    assert!(printed(&mut heartbeat(&["completions", shell])).contains("max-users"));
}

#[test]
fn version_is_the_packages() {
    assert_eq!(printed(&mut heartbeat(&["--version"])), format!("heartbeat {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn healthcheck_of_nobody_is_1() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, sentence) = refused(&mut heartbeat(&["healthcheck", "--listen", &free.to_string()]));
    assert_eq!(code, 1);
    assert!(
        sentence.starts_with(&format!("heartbeat: not ready: http://{free}/readyz does not answer")),
        "{sentence}"
    );
}

#[rstest]
#[case("200 OK", "{\"ready\":true}", 0)]
#[case("503 Service Unavailable", "{\"ready\":false}", 1)]
fn healthcheck_is_what_readyz_says(#[case] status: &str, #[case] body: &str, #[case] code: i32) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let server = std::thread::spawn(move || process::answer_once(&listener, &answer));

    let output = heartbeat(&["healthcheck", "--url", &url]).output().unwrap();

    assert!(server.join().unwrap().starts_with("GET /readyz HTTP/1.1\r\n"));
    assert_eq!(output.status.code(), Some(code));
    assert_eq!(String::from_utf8(output.stderr).unwrap().contains(body), code != 0);
}
