//! Which commit and which compiler a binary comes from, for `heartbeat_build_info` and `/v1/status`.

use std::process::Command;

fn main() {
    // Outside a repository, as in a packaged source, nobody knows.
    println!("cargo::rerun-if-changed=.git/HEAD");
    println!("cargo::rerun-if-changed=.git/refs/heads");
    println!("cargo::rustc-env=HEARTBEAT_COMMIT={}", commit());
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    println!("cargo::rustc-env=HEARTBEAT_RUSTC={}", first_line(&rustc, &["--version"]));
}

/// A repository further up is another one's.
fn commit() -> String {
    let is_ours = std::env::var("CARGO_MANIFEST_DIR")
        .is_ok_and(|ours| first_line("git", &["rev-parse", "--show-toplevel"]) == ours);
    if is_ours { first_line("git", &["rev-parse", "--short=12", "HEAD"]) } else { "unknown".into() }
}

/// Of what a program prints; `unknown` if it fails.
fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").trim().to_owned()
}
