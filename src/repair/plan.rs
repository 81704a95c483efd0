//! Which snapshot to begin from, and what has to be done so that a start can.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::RepairError;
use super::mend::{Loss, Mend, Patch, Rewrite, Why, Work};
use super::survey::{Kept, Segment, Survey};
use super::walk::{Link, Walk};
use crate::directory::{Directory, Name, unpublished_at};
use crate::engine::{Merge, Merged, Verification};
use crate::snapshot::Header;

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    survey: Option<Survey>,
    base: Base,
    /// The new snapshot, if there is one.
    rewrite: Option<Mend>,
    /// Segments that are changed in place.
    patches: Vec<Mend>,
    /// Segments that stand in for missing ones.
    stand_ins: Vec<Mend>,
    /// Put aside when all else is done.
    last: Vec<Mend>,
}

/// Where a start is to begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Base {
    /// From nothing.
    #[default]
    Nothing,
    /// From this snapshot, which is whole.
    Whole(u64),
    /// From what is left of the first, and the second for everybody else.
    Merge(u64, Option<u64>),
}

impl Plan {
    pub fn of(directory: &Directory, before: &Verification) -> Result<Self, RepairError> {
        let mut survey = Survey::of(directory, before)?;
        let mut plan = Self { base: base(&survey), ..Self::default() };
        if let Base::Merge(later, earlier) = plan.base {
            let merged = plan.merge_of(&survey, |merge| merge.run(None))?;
            plan.rewrite = merged.map(|merged| rewrite(directory, &survey, (later, earlier), &merged));
        }
        plan.mend_segments(directory, &survey);
        plan.put_snapshots_aside(&survey);
        if !plan.is_all_in_the_journal(&survey) {
            survey.mends.iter_mut().filter(|mend| plan.is_later_snapshot(mend)).for_each(|mend| {
                mend.loss.unknown_users = true;
            });
        }
        plan.survey = Some(survey);
        Ok(plan)
    }

    /// In the order in which they are done.
    pub fn mends(&self) -> Vec<Mend> {
        let first = self.survey.iter().flat_map(|survey| &survey.mends);
        let then = self.rewrite.iter().chain(&self.patches).chain(&self.stand_ins).chain(&self.last);
        first.chain(then).cloned().collect()
    }

    /// Whether all that would get a new name can have it.
    ///
    /// # Errors
    /// [`RepairError::InTheWay`]: a pipe, a link or a folder has it, or a file that is left alone.
    pub fn check_names(&self) -> Result<(), RepairError> {
        let mends = self.mends();
        let goes = |path: &Path| {
            let is_moved = |mend: &Mend| matches!(mend.work, Work::PutAside(_) | Work::Rename(_));
            mends.iter().any(|mend| mend.path == path && is_moved(mend))
        };
        for mend in &mends {
            let (name, is_written) = match &mend.work {
                Work::Rename(to) => (to, false),
                Work::StandIn { .. } => (&mend.path, true),
                Work::Rewrite(rewrite) => (&rewrite.to, true),
                Work::PutAside(_) | Work::Patch(_) => continue,
            };
            if name.symlink_metadata().is_ok() && !goes(name) {
                return Err(RepairError::InTheWay(name.clone()));
            }
            // One of ours is overwritten.
            let unpublished = unpublished_at(name);
            if is_written && unpublished.symlink_metadata().is_ok_and(|found| !found.is_file()) {
                return Err(RepairError::InTheWay(unpublished));
            }
        }
        Ok(())
    }

    pub(super) fn survey(&self) -> Option<&Survey> {
        self.survey.as_ref()
    }

    /// The header of the new snapshot, and what is to be merged into it.
    pub(super) fn new_snapshot(&self) -> Option<Header> {
        let (survey, Base::Merge(later, _)) = (self.survey.as_ref()?, self.base) else { return None };
        let header = survey.snapshots.get(&later)?.header;
        Some(Header { number: survey.snapshot_max + 1, ..header })
    }

    /// Hands over what a new snapshot is made of.
    pub(super) fn merge_of<R, E>(
        &self,
        survey: &Survey,
        f: impl FnOnce(Merge<'_>) -> Result<R, E>,
    ) -> Result<Option<R>, E> {
        let Base::Merge(later, earlier) = self.base else { return Ok(None) };
        let kept = |number| survey.snapshots.get(&number);
        let Some(later) = kept(later).and_then(|later| later.damaged.as_ref()) else { return Ok(None) };
        let earlier = earlier.and_then(kept);
        let whole = earlier.filter(|earlier| earlier.damaged.is_none());
        let whole = whole.and_then(|earlier| crate::snapshot::Salvage::of(&earlier.path, &[]).ok().flatten());
        let salvage = whole.as_ref().or(earlier.and_then(|earlier| earlier.damaged.as_ref()));
        let from = earlier.map_or(0, |earlier| earlier.header.first_segment);
        let walk = Walk::of(&links(survey), Some(from).filter(|&from| from > 0));
        let between = survey.segments.range(from..later.snapshot.header().first_segment.max(from));
        let between = between.filter(|(number, _)| walk.there.contains(number));
        let between: Vec<_> = between.map(|(_, segment)| (&segment.file, segment.places)).collect();
        f(Merge { later, earlier: salvage, between: &between }).map(Some)
    }

    /// Whether the journal says all that came after the snapshot to begin from.
    fn is_all_in_the_journal(&self, survey: &Survey) -> bool {
        let first = self.first(survey);
        let walk = Walk::of(&links(survey), first);
        let begins = first.is_some() || walk.there.last() == Some(&1);
        let is_aside = |mend: &Mend| {
            matches!(mend.work, Work::PutAside(_)) && matches!(name_of(mend), Some(Name::Segment(_)))
        };
        begins && walk.missing.is_empty() && walk.beside.is_empty() && !survey.mends.iter().any(is_aside)
    }

    /// Whether a snapshot is put aside of which nobody knows what it had, and the one to begin from is older.
    fn is_later_snapshot(&self, mend: &Mend) -> bool {
        let is_unknown = matches!(mend.work, Work::PutAside(Why::Unreadable | Why::Misnamed(_)));
        let base = match self.base {
            Base::Nothing => 0,
            Base::Whole(number) | Base::Merge(number, _) => number,
        };
        is_unknown && matches!(name_of(mend), Some(Name::Snapshot(number)) if number > base)
    }

    fn first(&self, survey: &Survey) -> Option<u64> {
        let (Base::Whole(number) | Base::Merge(number, _)) = self.base else { return None };
        survey.snapshots.get(&number).map(|kept| kept.header.first_segment)
    }

    fn mend_segments(&mut self, directory: &Directory, survey: &Survey) {
        let first = self.first(survey);
        let walk = Walk::of(&links(survey), first);
        for (&number, segment) in &survey.segments {
            let is_needed = first.is_none_or(|first| number >= first);
            let (mends, why) = match () {
                () if walk.beside.contains(&number) => (&mut self.patches, Why::Unlinked),
                () if segment.is_whole() => continue,
                () if is_needed && !(is_unused(segment) && is_unnamed(survey, number, first)) => {
                    self.patches.push(patched(segment));
                    continue;
                }
                () => (&mut self.last, Why::NotNeeded),
            };
            let all = Loss::writes(segment.good).and(segment.loss);
            let loss = if why == Why::Unlinked { all } else { Loss::default() };
            mends.push(Mend { path: segment.path.clone(), work: Work::PutAside(why), loss });
        }
        for &(number, previous) in walk.missing.iter().rev() {
            let mut mend = stand_in(directory, survey, (number, previous), first);
            // Whoever came after it is missing too.
            mend.loss.unknown_writes |= walk.there.is_empty();
            self.stand_ins.push(mend);
        }
    }

    fn put_snapshots_aside(&mut self, survey: &Survey) {
        for (&number, kept) in survey.snapshots.iter().filter(|(_, kept)| kept.damaged.is_some()) {
            let why = match self.base {
                Base::Merge(later, earlier) if number == later || Some(number) == earlier => Why::Rewritten,
                _ => Why::NotNeeded,
            };
            self.last.push(Mend {
                path: kept.path.clone(),
                work: Work::PutAside(why),
                loss: Loss::default(),
            });
        }
    }
}

fn name_of(mend: &Mend) -> Option<Name> {
    mend.path.file_name().and_then(|name| Name::parse(name.to_str()?))
}

fn links(survey: &Survey) -> BTreeMap<u64, Link> {
    survey.segments.iter().map(|(&number, segment)| (number, segment.link())).collect()
}

fn is_unused(segment: &Segment) -> bool {
    segment.good == 0 && segment.loss.is_nothing()
}

/// Prepared and never used, and no other segment needs it, nor the snapshot.
fn is_unnamed(survey: &Survey, number: u64, first: Option<u64>) -> bool {
    first != Some(number) && survey.segments.values().all(|segment| segment.file.header.previous != number)
}

/// The newest snapshot that is whole, unless a damaged one knows more.
fn base(survey: &Survey) -> Base {
    let newest = |is: &dyn Fn(&Kept) -> bool| survey.snapshots.iter().rev().find(|(_, kept)| is(kept));
    let whole = newest(&|kept| kept.damaged.is_none());
    let knows = |kept: &Kept| {
        kept.damaged.as_ref().is_some_and(|left| left.is_told || !left.snapshot.sections().is_empty())
    };
    let later = newest(&knows).filter(|(number, _)| whole.is_none_or(|(whole, _)| whole < *number));
    let base = whole.map_or(Base::Nothing, |(&number, _)| Base::Whole(number));
    let Some((&later, kept)) = later else { return base };
    if is_unbroken(survey, whole.map(|(_, kept)| kept.header.first_segment), kept.header.first_segment) {
        return base;
    }
    let damaged = || survey.snapshots.range(..later).rev().find(|(_, kept)| knows(kept));
    Base::Merge(later, whole.or_else(damaged).map(|(&number, _)| number))
}

/// Whether the journal from `first` on is whole up to `end`, so that it and the older snapshot say all that the later one says.
fn is_unbroken(survey: &Survey, first: Option<u64>, end: u64) -> bool {
    let walk = Walk::of(&links(survey), first);
    let mut between = survey.segments.range(first.unwrap_or(0)..end.max(first.unwrap_or(0)));
    let begins = first.is_some() || walk.there.last().is_some_and(|&number| number < end);
    begins && walk.is_whole_to(end) && between.all(|(_, segment)| segment.loss.is_nothing())
}

fn rewrite(
    directory: &Directory,
    survey: &Survey,
    (later, earlier): (u64, Option<u64>),
    merged: &Merged,
) -> Mend {
    let kept = &survey.snapshots[&later];
    let left = kept.damaged.as_ref();
    let sections: Vec<_> =
        left.iter().flat_map(|left| &left.lost).map(|lost| (lost.shard, lost.users)).collect();
    let is_told = left.is_some_and(|left| left.is_told);
    let users: u64 = sections.iter().map(|&(_, users)| u64::from(users)).sum();
    let to: PathBuf = directory.path_of(Name::Snapshot(survey.snapshot_max + 1));
    let earlier = earlier.map(|number| survey.snapshots[&number].path.clone());
    let loss = Loss {
        writes: 0,
        users: users.saturating_sub(merged.taken),
        outdated: merged.taken,
        foreign: 0,
        unknown_users: !is_told,
        unknown_writes: false,
    };
    let rewrite = Rewrite { to, kept: merged.kept, taken: merged.taken, earlier, lost: sections, is_told };
    Mend { path: kept.path.clone(), work: Work::Rewrite(rewrite), loss }
}

fn patched(segment: &Segment) -> Mend {
    let patch: Patch = segment.patch.clone();
    Mend { path: segment.path.clone(), work: Work::Patch(patch), loss: segment.loss }
}

/// What was in it is told already if it is there and is put aside.
fn stand_in(
    directory: &Directory,
    survey: &Survey,
    (number, previous): (u64, u64),
    first: Option<u64>,
) -> Mend {
    let path = directory.path_of(Name::Segment(number));
    let is_aside =
        survey.mends.iter().any(|mend| mend.path == path && mend.work == Work::PutAside(Why::Unreadable));
    let gap = if first == Some(number) { 1 } else { number - previous };
    let writes = if is_aside { gap - 1 } else { gap }.saturating_mul(survey.capacity_max);
    let unknown_users = first.is_none() && previous == 0;
    let unknown_writes = survey.capacity_max == 0;
    let loss = Loss { unknown_users, unknown_writes, ..Loss::writes(writes) };
    Mend { path, work: Work::StandIn { previous }, loss }
}
