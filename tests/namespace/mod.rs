//! A file system of one's own, in a mount namespace that nobody else sees.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::process::{self, Service};

/// A process that holds the namespace.
pub struct Namespace {
    holder: Child,
    folder: TempDir,
}

impl Namespace {
    /// `script` mounts below the folder that it is given as $0, says so, and ends with its standard input.
    pub fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", script])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(
            line, "mounted\n",
            "nothing could be mounted: these tests need root, and some of them loop devices"
        );
        Self { holder, folder }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder with what is mounted in it.
    #[allow(dead_code, reason = "each test binary uses a part of this")]
    pub fn seen_from_outside(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.folder().strip_prefix("/").unwrap())
    }

    /// A service whose data is in this folder.
    pub fn start(&self, data: &Path, settings: &[&str]) -> Service {
        let arguments = [&["--data-dir", data.to_str().unwrap(), "--threads", "2"], settings].concat();
        Service::start(&arguments, |command| {
            let inner: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
            *command = self.inside(process::BINARY);
            command.args(inner);
        })
    }

    /// A program that sees it.
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &self.holder.id().to_string(), "--", program]);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
