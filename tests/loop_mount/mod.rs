//! A file system of one's own that can be frozen: ext4 in a file, mounted in a mount namespace that nobody else sees.
//!
//! Whoever touches a frozen file system hangs in the kernel, and no signal ends that. So nothing stays frozen: not when a test
//! fails ([`Frozen`] thaws when it is dropped, before the service that hangs is waited for), and not when it is killed: the
//! process that holds the namespace thaws and unmounts when the test is gone, or has taken longer than it may.

use std::path::PathBuf;

use crate::namespace::Namespace;
use crate::process::Service;

/// $0: a folder. Unmounting lazily is for a service that outlives its test.
const SCRIPT: &str = r#"
truncate -s 96M "$0/image" && mkfs.ext4 -q -F "$0/image" && mkdir "$0/mounted" &&
mount -t ext4 -o loop "$0/image" "$0/mounted" && mkdir "$0/mounted/data" && echo mounted || exit 1
timeout 120 cat >/dev/null
fsfreeze -u "$0/mounted" 2>/dev/null
umount "$0/mounted" 2>/dev/null || umount -l "$0/mounted"
"#;

pub struct LoopMount(Namespace);

impl LoopMount {
    pub fn new() -> Self {
        Self(Namespace::new(SCRIPT))
    }

    /// A service whose data is there.
    pub fn start(&self, settings: &[&str]) -> Service {
        self.0.start(&self.mounted().join("data"), settings)
    }

    /// No store gets through from now on, until what this gives is dropped.
    pub fn freeze(&self) -> Frozen<'_> {
        let frozen = Frozen(self);
        assert!(self.fsfreeze("--freeze"), "it could not be frozen");
        frozen
    }

    fn fsfreeze(&self, how: &str) -> bool {
        self.0.inside("fsfreeze").arg(how).arg(self.mounted()).status().unwrap().success()
    }

    fn mounted(&self) -> PathBuf {
        self.0.folder().join("mounted")
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
