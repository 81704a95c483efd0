//! Query parameters: those that a call knows, each at most once, and no others.

use std::ops::RangeInclusive;

use axum::extract::{FromRequestParts, Query};
use axum::http::Uri;
use axum::http::request::Parts;

use super::cursor::Cursor;
use super::error::Error;
use super::json::IdFormat;
use crate::time::UnixSeconds;

/// The parameters that every `/v1` call takes, for those that take no others.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Common {
    pub id_format: IdFormat,
}

impl<S: Sync> FromRequestParts<S> for Common {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        let mut parameters = Parameters::of(&parts.uri)?;
        let id_format = parameters.id_format()?;
        parameters.end()?;
        Ok(Self { id_format })
    }
}

/// The parameters of one request. A call takes those that it knows, one after the other, and then says that this was all.
#[derive(Debug)]
pub(super) struct Parameters(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Parameters {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        Self::of(&parts.uri)
    }
}

impl Parameters {
    fn of(uri: &Uri) -> Result<Self, Error> {
        let Query(pairs) = Query::try_from_uri(uri)
            .map_err(|_| Error::bad_request("the query is not made of name=value pairs"))?;
        Ok(Self(pairs))
    }

    /// The parameter's text, if it was given.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, Error> {
        let Some(at) = self.0.iter().position(|(given, _)| given == name) else { return Ok(None) };
        let (_, value) = self.0.remove(at);
        if self.0.iter().any(|(given, _)| given == name) {
            return Err(Error::bad_request(format!("{name}: given more than once")));
        }
        Ok(Some(value))
    }

    /// A number within `range`.
    pub fn number(&mut self, name: &str, range: RangeInclusive<u32>) -> Result<Option<u32>, Error> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let number = Some(&text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let number = number.and_then(|text| text.parse().ok()).filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| {
            Error::bad_request(format!("{name}: write a number from {} to {}", range.start(), range.end()))
        })
    }

    /// A Unix second.
    pub fn second(&mut self, name: &str) -> Result<Option<UnixSeconds>, Error> {
        Ok(self.number(name, 0..=u32::MAX)?.map(UnixSeconds::new))
    }

    /// One of `choices`, by its name; the first one if none was given.
    pub fn choice<T: Copy>(&mut self, name: &str, choices: &[(&str, T)]) -> Result<T, Error> {
        let text = self.text(name)?;
        let chosen = match &text {
            None => choices.first(),
            Some(text) => choices.iter().find(|(choice, _)| choice == text),
        };
        chosen.map(|&(_, choice)| choice).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|&(name, _)| name).collect();
            Error::bad_request(format!("{name}: write {}", names.join(" or ")))
        })
    }

    pub fn id_format(&mut self) -> Result<IdFormat, Error> {
        self.choice("id_format", &[("number", IdFormat::Number), ("string", IdFormat::String)])
    }

    /// How many entries a page may have: 1,000 by default, 10,000 at most.
    pub fn limit(&mut self) -> Result<usize, Error> {
        Ok(self.number("limit", 1..=LIMIT_MAX)?.unwrap_or(LIMIT) as usize)
    }

    /// Where the page before this one ended: a cursor that a call of this kind has given out.
    pub fn after<const NUMBERS: usize>(&mut self, kind: char) -> Result<Option<[u64; NUMBERS]>, Error> {
        let Some(text) = self.text("after")? else { return Ok(None) };
        Cursor::read(kind, &text)
            .map(Some)
            .ok_or_else(|| Error::bad_request("after: write what `next` said in the page before"))
    }

    /// `from` and `to`, `[from, to)`: by default from the beginning to `now`.
    pub fn range(&mut self, now: UnixSeconds) -> Result<TimeRange, Error> {
        let from = self.second("from")?;
        let to = self.second("to")?;
        let range = TimeRange { from: from.unwrap_or(UnixSeconds::new(0)), to: to.unwrap_or(now) };
        if range.from >= range.to {
            return Err(Error::bad_request(match to {
                Some(_) => "from: write a second before that of to",
                None => "from: write a second before now, or a later one for to",
            }));
        }
        Ok(range)
    }

    /// There are no others.
    pub fn end(self) -> Result<(), Error> {
        self.0.first().map_or(Ok(()), |(name, _)| {
            Err(Error::bad_request(format!("{}: no such parameter here", shorten(name))))
        })
    }
}

/// Entries in a page.
const LIMIT: u32 = 1_000;
const LIMIT_MAX: u32 = 10_000;

/// `from <= t < to`, never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeRange {
    pub from: UnixSeconds,
    pub to: UnixSeconds,
}

/// A name that a client made up is repeated only so far.
fn shorten(name: &str) -> String {
    name.chars().take(32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(query: &str) -> Parameters {
        Parameters::of(&format!("/v1/x?{query}").parse().expect("a target")).expect("pairs")
    }

    fn said<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
        result.expect_err("it must be refused").sentence.into_owned()
    }

    #[test]
    fn a_number_is_digits_within_its_range() {
        assert_eq!(parameters("n=0&m=1").number("n", 0..=5), Ok(Some(0)));
        assert_eq!(parameters("m=1").number("n", 0..=5), Ok(None));
        for text in ["6", "", "+1", "-1", "1.0", "1e0", "%31%20", "99999999999"] {
            let said = said(parameters(&format!("n={text}")).number("n", 1..=5));
            assert_eq!(said, "n: write a number from 1 to 5", "{text}");
        }
        assert_eq!(said(parameters("n=1&n=1").number("n", 0..=5)), "n: given more than once");
    }

    #[test]
    fn a_range_has_a_second_in_it_at_least() {
        let now = UnixSeconds::new(1_000);
        let second = UnixSeconds::new;
        let range = |query| parameters(query).range(now).map(|range| (range.from, range.to));
        assert_eq!(range(""), Ok((second(0), now)));
        assert_eq!(range("from=5&to=6"), Ok((second(5), second(6))));
        assert_eq!(range("to=2000"), Ok((second(0), second(2_000))));
        assert_eq!(said(range("from=6&to=6")), "from: write a second before that of to");
        assert_eq!(said(range("from=7&to=6")), "from: write a second before that of to");
        assert_eq!(said(range("to=0")), "from: write a second before that of to");
        assert_eq!(said(range("from=1000")), "from: write a second before now, or a later one for to");
    }

    #[test]
    fn what_a_call_does_not_know_is_refused_by_name() {
        assert_eq!(parameters("").end(), Ok(()));
        assert_eq!(said(parameters("limt=1").end()), "limt: no such parameter here");
        assert_eq!(
            said(parameters("order=up").choice("order", &[("asc", 1), ("desc", 2)])),
            "order: write asc or desc"
        );
        assert_eq!(parameters("").choice("order", &[("asc", 1), ("desc", 2)]), Ok(1));
        assert_eq!(
            said(parameters("after=x").after::<2>('h')),
            "after: write what `next` said in the page before"
        );
    }
}
