//! "Did you mean": the nearest known word to a mistyped one.

/// Longer words are not compared: nobody mistypes one that long, and the cost grows with its square.
const MAX_COMPARED: usize = 64;

/// No more words than this are listed when none is near.
const MAX_LISTED: usize = 12;

/// What to write instead of `word`, given what is known in its place.
#[must_use]
pub fn instead_of<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let meant = meant_by(word, &known);
    if let [only] = meant.as_slice() {
        return format!("did you mean `{only}`?");
    }
    let offered = if meant.is_empty() { &known } else { &meant };
    let listed: Vec<String> =
        offered.iter().take(MAX_LISTED).map(|name| format!("`{name}`")).collect();
    let rest = offered.len() - listed.len();
    match (listed.split_last(), rest) {
        (None, _) => "nothing is known by that kind of name; define it or leave it out".to_owned(),
        (Some((only, [])), _) => format!("write {only}"),
        (Some((last, others)), 0) => format!("write one of {} or {last}", others.join(", ")),
        (Some(_), _) => format!("write one of {} or {rest} others", listed.join(", ")),
    }
}

/// The known words that may have been meant: the nearest one, or else all that begin with `word`.
#[must_use]
pub fn meant_by<'a>(word: &str, known: &[&'a str]) -> Vec<&'a str> {
    if let Some(near) = nearest(word, known) {
        return vec![near];
    }
    let begins = |name: &&&str| word.len() >= 2 && name.starts_with(word);
    known.iter().filter(begins).copied().collect()
}

/// The known word that is near enough to `word` to be it mistyped; the first of the nearest.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().take(MAX_COMPARED + 1).collect();
    if word.len() > MAX_COMPARED {
        return None;
    }
    let near = known.iter().filter_map(|name| {
        let candidate: Vec<char> = name.to_lowercase().chars().take(MAX_COMPARED).collect();
        let distance = distance(&word, &candidate);
        let allowed = word.len().max(candidate.len()).div_ceil(3).min(4);
        (distance <= allowed).then_some((distance, *name))
    });
    near.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// Edit distance (Levenshtein), a swap of neighbours counting as one edit (optimal string
/// alignment).
fn distance(left: &[char], right: &[char]) -> usize {
    let width = right.len() + 1;
    let mut before: Vec<usize> = vec![0; width];
    let mut above: Vec<usize> = (0..width).collect();
    let cell = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX / 2);
    for (row, from) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, to) in right.iter().enumerate() {
            let replaced = cell(&above, column) + usize::from(from != to);
            let mut best =
                replaced.min(cell(&above, column + 1) + 1).min(cell(&current, column) + 1);
            let swapped = column > 0
                && row > 0
                && left.get(row - 1) == Some(to)
                && right.get(column - 1) == Some(from);
            if swapped {
                best = best.min(cell(&before, column - 1) + 1);
            }
            current.push(best);
        }
        before = above;
        above = current;
    }
    cell(&above, right.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested() {
        let known = ["prefixes", "never-touch", "as", "router-id"];
        for (word, meant) in [
            ("prefixs", Some("prefixes")),
            ("prefix", Some("prefixes")),
            ("router_id", Some("router-id")),
            ("Never-Touch", Some("never-touch")),
            ("sa", Some("as")),
            ("asn", Some("as")),
            ("thresholds", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, &known), meant, "{word}");
        }
        assert_eq!(nearest(&"x".repeat(10_000), &known), None);
    }

    #[test]
    fn far_words_get_the_list() {
        assert_eq!(
            instead_of("zzzzzz", ["low", "high", "top"]),
            "write one of `low`, `high` or `top`"
        );
        assert_eq!(instead_of("zzzzzz", ["low"]), "write `low`");
        assert!(instead_of("zzzzzz", []).contains("define it"));
        let families = ["ipv4-unicast", "ipv6-unicast", "ipv4-flowspec"];
        assert_eq!(instead_of("ipv4", families), "write one of `ipv4-unicast` or `ipv4-flowspec`");
        assert_eq!(
            instead_of("ntp", ["ntp-amplification", "x"]),
            "did you mean `ntp-amplification`?"
        );
        let many: Vec<String> = (0..20).map(|number| format!("name-{number}")).collect();
        assert!(instead_of("z", many.iter().map(String::as_str)).ends_with("or 8 others"));
    }

    #[test]
    fn distances() {
        let measure = |left: &str, right: &str| {
            distance(&left.chars().collect::<Vec<_>>(), &right.chars().collect::<Vec<_>>())
        };
        for (left, right, expected) in
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("kitten", "sitting", 3), ("ab", "ba", 1)]
        {
            assert_eq!(measure(left, right), expected, "{left} {right}");
        }
    }
}
