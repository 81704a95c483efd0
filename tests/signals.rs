//! A running service and what reaches it from outside: signals, the end of its stdin, systemd.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod process;

use std::fs;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use process::Service;
use rstest::rstest;
use rustix::process::Signal;

fn listening(args: &[&str]) -> Service {
    let mut service = Service::start(args, |_| ());
    service.logged("listening");
    service
}

#[test]
fn the_first_lines_say_version_directory_ttl_what_was_recovered_and_addresses() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().to_str().unwrap();
    let arguments = ["--ttl", "9s", "--grace", "2s", "--listen", "[::1]:0", "--data-dir", path];
    let mut service = Service::start(&arguments, |_| ());
    assert_eq!(service.logged("heartbeat has started")["fields"]["version"], env!("CARGO_PKG_VERSION"));
    let line = service.logged("recovering");
    assert_eq!(
        (&line["fields"]["data_dir"], &line["fields"]["durability"]),
        (&path.into(), &"interval".into())
    );
    let rules = service.logged("a heal keeps");
    assert_eq!((&rules["fields"]["ttl_seconds"], &rules["fields"]["grace_seconds"]), (&9.into(), &2.into()));
    let line = service.logged("recovered");
    assert_eq!((&line["fields"]["users"], &line["fields"]["segments"]), (&0.into(), &0.into()));

    let line = service.logged("listening");
    let addresses = line["fields"]["addresses"].as_str().unwrap();
    assert_eq!(addresses.split(',').count(), 2);
    for address in addresses.split(',') {
        TcpStream::connect(address).unwrap();
    }
}

#[rstest]
#[case(Signal::TERM, "SIGTERM")]
#[case(Signal::INT, "SIGINT")]
fn term_and_int_drain_and_exit_0(#[case] signal: Signal, #[case] reason: &str) {
    let mut service = listening(&[]);
    service.signal(signal);
    assert_eq!(service.logged("draining")["fields"]["reason"], reason);
    service.logged("stopped");
    assert_eq!(service.wait().code(), Some(0));
}

#[test]
fn the_end_of_stdin_drains_and_exits_0_when_asked_for() {
    let mut service = listening(&["--until-stdin-closes"]);
    service.close_stdin();
    assert_eq!(service.logged("draining")["fields"]["reason"], "end of stdin");
    assert_eq!(service.wait().code(), Some(0));
}

/// A service in the background has its stdin at `/dev/null`.
#[test]
fn the_end_of_stdin_means_nothing_otherwise() {
    let mut service = listening(&[]);
    service.close_stdin();
    service.signal(Signal::USR1);
    service.logged("a snapshot was taken");
    service.signal(Signal::TERM);
    assert_eq!(service.logged("draining")["fields"]["reason"], "SIGTERM");
}

#[test]
fn usr1_takes_a_snapshot() {
    let mut service = listening(&[]);
    for number in 1..=2 {
        service.signal(Signal::USR1);
        assert_eq!(service.logged("a snapshot was taken")["fields"]["number"], number);
    }
    service.signal(Signal::TERM);
    assert_eq!(service.wait().code(), Some(0));
}

#[test]
fn hup_takes_the_log_level_from_the_file_as_it_is_now() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("heartbeat.toml");
    fs::write(&path, "log = \"warn\"\n").unwrap();
    // At this level nothing says that it is ready; but it tells systemd.
    let notify = directory.path().join("notify");
    let socket = UnixDatagram::bind(&notify).unwrap();
    let mut service = Service::start(&["--config", path.to_str().unwrap()], |command| {
        command.env("NOTIFY_SOCKET", &notify);
    });
    socket.recv(&mut [0; 512]).unwrap();

    fs::write(&path, "log = \"inof\"\n").unwrap();
    service.signal(Signal::HUP);
    let refusal = service.logged("settings were not reloaded: log cannot be `inof`");
    assert_eq!(refusal["level"], "ERROR");

    fs::write(&path, "log = \"info\"\nttl = \"9s\"\n").unwrap();
    service.signal(Signal::HUP);
    assert_eq!(service.logged("the log level was reloaded")["fields"]["log"], "info");
    assert_eq!(service.logged("other settings have changed")["fields"]["settings"], "ttl");

    service.signal(Signal::TERM);
    assert_eq!(service.logged("draining")["level"], "INFO");
    assert_eq!(service.wait().code(), Some(0));
}

/// 64 descriptors stay reserved, 4 for the worker thread, and one for its listener.
#[test]
fn the_limit_on_open_files_is_raised_and_a_setting_above_it_lowered_with_a_warning() {
    let mut service = Service::start(&["--threads", "1"], |command| {
        let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        *command = Command::new("/bin/sh");
        let script = "ulimit -Sn 100 && ulimit -Hn 200 && exec \"$0\" \"$@\"";
        command.env_clear().args(["-c", script, process::BINARY]).args(args);
    });
    let line = service.logged("max-connections was lowered");
    let limits = fs::read_to_string(format!("/proc/{}/limits", service.id())).unwrap();
    let open_files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(
        open_files.split_whitespace().collect::<Vec<_>>(),
        ["Max", "open", "files", "200", "200", "files"]
    );
    let fields = &line["fields"];
    assert_eq!(fields["from"], 100_000);
    assert_eq!(fields["to"], 131);
    assert_eq!(fields["open_files_max"], 200);
}

/// 12 open files are enough for the listener, and not for the threads: no service is better than one that answers nobody.
#[test]
fn too_few_open_files_to_serve_anybody_end_the_start() {
    let script = "ulimit -n 12 && exec \"$0\" --listen 127.0.0.1:0 --threads 4";
    let output = Command::new("/bin/sh").env_clear().args(["-c", script, process::BINARY]).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(74), "{errors}");
    assert!(errors.contains("cannot start the thread \"worker-"), "{errors}");
}

#[test]
fn a_log_that_nobody_reads_any_more_ends_nothing() {
    let mut service = listening(&[]);
    service.stop_reading_log();
    service.signal(Signal::USR1);
    service.signal(Signal::TERM);
    assert_eq!(service.wait().code(), Some(0));
}

#[test]
fn systemd_is_told_that_we_are_ready_alive_and_stopping() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let told = || {
        let mut text = [0; 512];
        let length = socket.recv(&mut text).unwrap();
        String::from_utf8(text[..length].to_vec()).unwrap()
    };

    let service = Service::start(&[], |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000");
    });
    // While it recovers the watchdog is fed already.
    let ready = std::iter::repeat_with(told).find(|text| !text.starts_with("WATCHDOG=1")).unwrap();
    assert!(ready.contains("READY=1") && ready.contains("STATUS=listening on 127.0.0.1:"), "{ready}");
    assert_eq!(told().trim_end(), "WATCHDOG=1");
    assert_eq!(told().trim_end(), "WATCHDOG=1");

    service.signal(Signal::TERM);
    let stopping = std::iter::repeat_with(told).find(|text| !text.starts_with("WATCHDOG=1")).unwrap();
    assert!(stopping.contains("STOPPING=1"), "{stopping}");
}
