//! The footer, taken apart, and whether all that it says fits together and into the file.

use bincode::error::DecodeError;

use super::read::Section;
use super::source::{decode, undecodable};
use super::{
    FOOTER_BYTES_MIN, OUTAGE_BYTES, Outage, OutageRecord, SECTION_BYTES_MAX, SECTION_FRAME_BYTES,
    SECTIONS_AT, SectionRecord, TABLE_ROW_BYTES, TableRecord, TotalsRecord, USER_BYTES_MAX,
};
use crate::damage::{Flaw, Part};
use crate::time::UnixSeconds;

/// What the file holds, by its own account.
pub(super) struct Footer {
    pub totals: TotalsRecord,
    pub outages: Vec<Outage>,
    pub sections: Vec<Section>,
}

impl Footer {
    /// Takes the footer that begins at `footer_at` apart and sees whether everything in it fits together.
    pub fn parse(footer_at: u64, footer: &[u8]) -> Result<Self, (u64, Flaw)> {
        let wrong = |what| (footer_at, Flaw::Contradiction(Part::Footer, what));
        let undecodable = |_: DecodeError| (footer_at, undecodable(Part::Footer));

        let (totals, rest) = footer.split_at(FOOTER_BYTES_MIN);
        let totals: TotalsRecord = decode(totals).map_err(undecodable)?;
        let lists = product(totals.outages, OUTAGE_BYTES).zip(product(totals.sections, TABLE_ROW_BYTES));
        let Some((outages, _)) =
            lists.filter(|(outages, table)| outages.checked_add(*table) == Some(rest.len()))
        else {
            return Err(wrong("does not have the length of its lists"));
        };
        let (outages, table) = rest.split_at(outages);
        let outages: Result<_, _> = outages.chunks_exact(OUTAGE_BYTES).map(outage).collect();
        let table: Result<Vec<_>, _> = table.chunks_exact(TABLE_ROW_BYTES).map(section).collect();
        let (outages, sections) = (outages.map_err(undecodable)?, table.map_err(undecodable)?);

        check_sections(footer_at, &sections)?;
        let users: u64 = sections.iter().map(|section| u64::from(section.users)).sum();
        let sessions: u64 = sections.iter().map(|section| section.sessions).sum();
        if (users, sessions) != (totals.users, totals.sessions) {
            return Err(wrong("counts other users or sessions than its sections"));
        }
        Ok(Self { totals, outages, sections })
    }
}

fn outage(record: &[u8]) -> Result<Outage, DecodeError> {
    let OutageRecord { from, to } = decode(record)?;
    Ok((UnixSeconds::new(from), UnixSeconds::new(to)))
}

fn section(row: &[u8]) -> Result<Section, DecodeError> {
    let TableRecord { offset, section: SectionRecord { bytes, shard, users, sessions } } = decode(row)?;
    Ok(Section { offset, bytes, shard, users, sessions })
}

/// Whether the sections fill the file from the header to the footer, and each has the length of its users. That bounds all
/// counts by the file's length.
fn check_sections(footer_at: u64, sections: &[Section]) -> Result<(), (u64, Flaw)> {
    let wrong = |index, what| (footer_at, Flaw::Contradiction(Part::Section(index), what));
    let mut at = SECTIONS_AT;
    for (index, section) in sections.iter().enumerate() {
        if section.offset != at {
            return Err(wrong(index, "does not begin where the part before it ends"));
        }
        if !section.has_length_of_its_users() {
            return Err(wrong(index, "does not have the length of its users"));
        }
        let bytes_max = if section.users == 1 { USER_BYTES_MAX } else { SECTION_BYTES_MAX };
        if section.bytes > bytes_max as u64 {
            return Err(wrong(index, "is larger than a section may be"));
        }
        at = section.bytes.saturating_add(SECTION_FRAME_BYTES as u64).saturating_add(at);
    }
    if at != footer_at {
        return Err((
            footer_at,
            Flaw::Contradiction(Part::Footer, "does not begin where the last section ends"),
        ));
    }
    Ok(())
}

/// `None` if it is more than memory could hold.
fn product(count: u64, bytes: usize) -> Option<usize> {
    usize::try_from(count).ok()?.checked_mul(bytes)
}
