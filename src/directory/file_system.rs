//! Whether a file system keeps space that it promised to a mapped file.
//!
//! A store into a mapping has no way to be refused: if the file system finds no room for it, the process is killed. So the
//! journal asks for all room beforehand, which helps only where an overwrite goes to the place that was given. A file
//! system that copies on write, or that is another machine's, cannot say so.

use std::fmt;

/// A file system, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// Copies on write.
    Btrfs,
    /// Copies on write.
    Zfs,
    /// Another machine's.
    Nfs,
    /// Another machine's; also called CIFS.
    Smb,
    /// Another machine's, as a rule the one below a virtual machine.
    NineP,
    /// Another machine's.
    Ceph,
    /// Some program's.
    Fuse,
    /// Any other, by its magic number. Those that are in use for data keep space.
    Other(u32),
}

impl FileSystem {
    /// The file system with this magic number, as statfs(2) lists them.
    pub(super) const fn from_magic(magic: u32) -> Self {
        match magic {
            0x9123_683e => Self::Btrfs,
            0x2fc1_2fc1 => Self::Zfs,
            0x0000_6969 => Self::Nfs,
            // SMB 1 by the old driver, SMB 1 and SMB 2 by today's.
            0x0000_517b | 0xff53_4d42 | 0xfe53_4d42 => Self::Smb,
            0x0102_1997 => Self::NineP,
            0x00c3_6400 => Self::Ceph,
            0x6573_5546 => Self::Fuse,
            other => Self::Other(other),
        }
    }

    /// Whether space that was reserved for a file can be relied on when the file is written through a mapping.
    pub const fn is_reservable(self) -> bool {
        matches!(self, Self::Other(_))
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Btrfs => "btrfs",
            Self::Zfs => "ZFS",
            Self::Nfs => "NFS",
            Self::Smb => "SMB",
            Self::NineP => "9p",
            Self::Ceph => "Ceph",
            Self::Fuse => "FUSE",
            Self::Other(magic) => return write!(f, "file system {magic:#x}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_local_file_systems_that_write_in_place_are_reservable() {
        for (magic, name, is_reservable) in [
            (0x9123_683e, "btrfs", false),
            (0x2fc1_2fc1, "ZFS", false),
            (0x6969, "NFS", false),
            (0xff53_4d42, "SMB", false),
            (0xfe53_4d42, "SMB", false),
            (0x517b, "SMB", false),
            (0x0102_1997, "9p", false),
            (0x00c3_6400, "Ceph", false),
            (0x6573_5546, "FUSE", false),
            (0xef53, "file system 0xef53", true),          // ext4
            (0x5846_5342, "file system 0x58465342", true), // XFS
            (0x0102_1994, "file system 0x1021994", true),  // tmpfs
        ] {
            let file_system = FileSystem::from_magic(magic);
            assert_eq!(
                (file_system.to_string().as_str(), file_system.is_reservable()),
                (name, is_reservable)
            );
        }
    }
}
