//! Doing what is planned, so that a kill between any two steps loses nothing.

use std::cell::Cell;
use std::fs::File;
use std::path::Path;

use super::RepairError;
use super::mend::{Mend, Patch, Work};
use super::plan::Plan;
use super::survey::{Segment, Survey};
use crate::calls;
use crate::directory::{Directory, FileError, Name, Quarantine};
use crate::journal::{self, Mark, MarkFound, SLOT_BYTES, SLOTS_AT, Slot, write_segment};
use crate::snapshot::Writer;
use crate::time::Ttl;

/// Length of a segment that stands in for another: it is empty and stays so.
const STAND_IN_BYTES: u64 = 16 << 10;

/// Counts what changes something, so that a test can end between any two.
#[derive(Debug)]
pub(super) struct Steps {
    left: Cell<Option<u32>>,
}

impl Steps {
    pub const fn all() -> Self {
        Self { left: Cell::new(None) }
    }

    /// So many, and no more.
    #[cfg(test)]
    pub const fn first(steps: u32) -> Self {
        Self { left: Cell::new(Some(steps)) }
    }

    /// Called before each change.
    #[cfg_attr(not(test), allow(clippy::unnecessary_wraps, reason = "a test ends here"))]
    fn next(&self) -> Result<(), RepairError> {
        match self.left.get() {
            #[cfg(test)]
            Some(0) => Err(RepairError::Stopped),
            left => {
                self.left.set(left.map(|left| left.saturating_sub(1)));
                Ok(())
            }
        }
    }
}

impl Plan {
    pub fn apply(
        &self,
        directory: &Directory,
        quarantine: &Quarantine<'_>,
        steps: &Steps,
    ) -> Result<(), RepairError> {
        let Some(survey) = self.survey() else { return Ok(()) };
        let work = Worker { directory, quarantine, steps, survey, plan: self };
        self.mends().iter().try_for_each(|mend| work.mend(mend))
    }
}

struct Worker<'a> {
    directory: &'a Directory,
    quarantine: &'a Quarantine<'a>,
    steps: &'a Steps,
    survey: &'a Survey,
    plan: &'a Plan,
}

impl Worker<'_> {
    fn mend(&self, mend: &Mend) -> Result<(), RepairError> {
        self.steps.next()?;
        match &mend.work {
            Work::PutAside(_) => {
                self.quarantine.put_aside(&mend.path, || self.steps.next())?;
                Ok(())
            }
            Work::Rename(to) => {
                self.directory.check_place()?;
                self.directory.rename_new(&mend.path, to)?;
                Ok(self.directory.sync()?)
            }
            Work::Patch(patch) => {
                let segment = self.survey.segments.values().find(|segment| segment.path == mend.path);
                segment.map_or(Ok(()), |segment| self.patch(segment, patch))
            }
            Work::StandIn { previous } => self.stand_in(&mend.path, *previous),
            Work::Rewrite(_) => self.rewrite(),
        }
    }

    /// In place: what is written comes out the same if it is written twice, and a full disk does not stop it.
    fn patch(&self, segment: &Segment, work: &Patch) -> Result<(), RepairError> {
        self.quarantine.keep_copy(&segment.path, || self.steps.next())?;
        self.directory.check_place()?;
        let (path, header) = (segment.path.as_path(), &segment.file.header);
        let file = calls::open_to_change(path).map_err(FileError::while_doing("open", path))?;
        for index in work.voids.iter().cloned().flatten() {
            let words = Slot::void().encode(index, header.salt);
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            write_at(&file, path, &bytes, SLOTS_AT + u64::from(index) * SLOT_BYTES)?;
        }
        if !work.voids.is_empty() {
            self.sync(&file, path)?;
        }
        if let Some((_, length)) = work.length {
            // The mark first: it must not speak of places that are not there yet, and hold nothing when they are.
            mark(&file, segment, work)?;
            file.set_len(length).map_err(FileError::while_doing("cut", path))?;
            self.sync(&file, path)?;
        }
        if work.header.is_some() {
            // The header last: as long as it is damaged, all this is found again. The marks of another salt go with it.
            write_at(&file, path, &*header.encode(), 0)?;
            if segment.file.alive == MarkFound::Unreadable {
                write_at(&file, path, &[0; 8], journal::ALIVE_AT)?;
            }
        }
        mark(&file, segment, work)?;
        self.sync(&file, path)
    }

    fn sync(&self, file: &File, path: &Path) -> Result<(), RepairError> {
        calls::sync_file(file).map_err(FileError::while_doing("sync", path))?;
        self.steps.next()
    }

    fn stand_in(&self, path: &Path, previous: u64) -> Result<(), RepairError> {
        let number = path.file_name().and_then(|name| Name::parse(name.to_str()?)).map_or(0, Name::number);
        let beside = self.survey.segments.range(..number).next_back();
        let beside = beside.or_else(|| self.survey.segments.range(number..).next());
        let rules = beside.map(|(_, segment)| (segment.file.header.ttl, segment.file.header.grace));
        let (ttl, grace) = rules.unwrap_or((Ttl::DEFAULT, 0));
        let header = journal::Header {
            directory: self.survey.id,
            number,
            previous,
            salt: journal::random_salt()?,
            length: STAND_IN_BYTES,
            ttl,
            grace,
        };
        write_segment(self.directory, &header).map_err(FileError::while_doing("write", path))?;
        Ok(())
    }

    fn rewrite(&self) -> Result<(), RepairError> {
        let Some(header) = self.plan.new_snapshot() else { return Ok(()) };
        self.plan.merge_of(self.survey, |merge| {
            let mut writer = Writer::create(self.directory, header)?;
            let merged = merge.run(Some(&mut writer))?;
            self.steps.next()?;
            writer.finish(merged.engine_time, &merged.outages)?;
            Ok::<_, RepairError>(())
        })?;
        Ok(())
    }
}

fn mark(file: &File, segment: &Segment, work: &Patch) -> Result<(), FileError> {
    let Some(synced) = work.synced else { return Ok(()) };
    let header = &segment.file.header;
    let encoded = Mark::Synced.encode(synced, header.salt, header.number);
    write_at(file, &segment.path, &encoded.to_ne_bytes(), Mark::Synced.offset() as u64)
}

fn write_at(file: &File, path: &Path, bytes: &[u8], at: u64) -> Result<(), FileError> {
    calls::write_at(file, bytes, at).map_err(FileError::while_doing("write", path))
}
