//! A file system of one's own that can be frozen: ext4 in a file, mounted in a mount namespace that nobody else sees.
//!
//! Whoever touches a frozen file system hangs in the kernel, and no signal ends that. So nothing stays frozen: not when a test
//! fails ([`Frozen`] thaws when it is dropped, before the service that hangs is waited for), and not when it is killed: the
//! process that holds the namespace thaws and unmounts when the test is gone, or has taken longer than it may.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::process::{self, Service};

/// $0: a folder. Unmounting lazily is for a service that outlives its test.
const SCRIPT: &str = r#"
truncate -s 96M "$0/image" && mkfs.ext4 -q -F "$0/image" && mkdir "$0/mounted" &&
mount -t ext4 -o loop "$0/image" "$0/mounted" && mkdir "$0/mounted/data" && echo mounted || exit 1
timeout 120 cat >/dev/null
fsfreeze -u "$0/mounted" 2>/dev/null
umount "$0/mounted" 2>/dev/null || umount -l "$0/mounted"
"#;

pub struct LoopMount {
    holder: Child,
    folder: TempDir,
}

impl LoopMount {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", SCRIPT])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "mounted\n", "no ext4 could be mounted: these tests need root and loop devices");
        Self { holder, folder }
    }

    /// A service whose data is there.
    pub fn start(&self, settings: &[&str]) -> Service {
        let data = self.mounted().join("data");
        let arguments = [&["--data-dir", data.to_str().unwrap(), "--threads", "2"], settings].concat();
        Service::start(&arguments, |command| {
            let inner: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
            *command = self.inside(process::BINARY);
            command.args(inner);
        })
    }

    /// No store gets through from now on, until what this gives is dropped.
    pub fn freeze(&self) -> Frozen<'_> {
        let frozen = Frozen(self);
        assert!(self.fsfreeze("--freeze"), "it could not be frozen");
        frozen
    }

    fn fsfreeze(&self, how: &str) -> bool {
        self.inside("fsfreeze").arg(how).arg(self.mounted()).status().unwrap().success()
    }

    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &self.holder.id().to_string(), "--", program]);
        command
    }

    fn mounted(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }
}

impl Drop for LoopMount {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// A frozen file system; dropping it thaws.
pub struct Frozen<'a>(&'a LoopMount);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        // A test that fails here has failed before.
        let thawed = self.0.fsfreeze("--unfreeze");
        assert!(thawed || std::thread::panicking(), "it could not be thawed");
    }
}
