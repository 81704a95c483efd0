//! Which name was meant.

/// The name out of `names` that is nearest to `given`, however far: for a place where every name has to be known.
pub(super) fn nearest<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names.min_by_key(|name| strsim::damerau_levenshtein(given, name))
}

/// The name that `given` is a misspelling of: for a place where other names are none of our business.
pub(super) fn misspelt<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    nearest(given, names).filter(|name| strsim::damerau_levenshtein(given, name) <= slips_max(name))
}

/// How many slips make a misspelling of `name`, and one more makes another word: one in three letters, at most three.
fn slips_max(name: &str) -> usize {
    (name.len() / 3).clamp(1, 3)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const NAMES: [&str; 5] = ["TTL", "LOG", "LISTEN", "MAX_USERS", "MAX_CONNECTIONS"];

    #[rstest]
    #[case("TLT", Some("TTL"))]
    #[case("TTLS", Some("TTL"))]
    #[case("MAXUSERS", Some("MAX_USERS"))]
    #[case("MAX_CONECTION", Some("MAX_CONNECTIONS"))]
    #[case("LISTENER", Some("LISTEN"))]
    #[case("HOST", None)]
    #[case("PORT", None)]
    #[case("LOG_LEVEL", None)]
    #[case("", None)]
    fn misspellings(#[case] given: &str, #[case] meant: Option<&str>) {
        assert_eq!(misspelt(given, NAMES.into_iter()), meant);
    }
}
