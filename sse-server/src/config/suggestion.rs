//! What somebody meant who wrote the name of a setting wrongly.

/// The name that is most like `word`, if one is; all in lower case, with `-` between the parts.
pub(super) fn closest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase().replace('_', "-");
    let usual = USUAL.iter().find(|(other, _)| *other == word);
    let word = usual.map_or(word.as_str(), |(_, ours)| ours);
    names
        .into_iter()
        .map(|name| (distance(word, name), name))
        .min()
        .filter(|(distance, name)| *distance <= (name.len() / 4).max(1))
        .map(|(_, name)| name)
}

/// How many letters must be added, taken away, changed or swapped with their neighbour.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<_>, Vec<_>) = (one.chars().collect(), other.chars().collect());
    let mut rows = vec![vec![0; other.len() + 1]; one.len() + 1];
    for i in 0..=one.len() {
        for j in 0..=other.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let change = usize::from(one[i - 1] != other[j - 1]);
                let is_swap =
                    i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1];
                let swapped = if is_swap {
                    rows[i - 2][j - 2] + 1
                } else {
                    usize::MAX
                };
                (rows[i - 1][j] + 1)
                    .min(rows[i][j - 1] + 1)
                    .min(rows[i - 1][j - 1] + change)
                    .min(swapped)
            };
        }
    }
    rows[one.len()][other.len()]
}

/// What other programs call it, and what it is called here.
const USUAL: &[(&str, &str)] = &[
    ("addr", "listen"),
    ("address", "listen"),
    ("bind", "listen"),
    ("cert", "tls-cert"),
    ("cors", "allowed-origin"),
    ("cors-origins", "allowed-origin"),
    ("data", "data-dir"),
    ("host", "listen"),
    ("key", "tls-key"),
    ("log-filter", "log"),
    ("log-level", "log"),
    ("port", "listen"),
    ("retention", "retain"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_understood_and_another_word_is_not() {
        let names = [
            "listen",
            "max-connections",
            "max-connections-per-ip",
            "allowed-host",
        ];
        for (word, name) in [
            ("max-conections", Some("max-connections")),
            ("max_connections", Some("max-connections")),
            ("MAX_CONNECTIONS_PERIP", Some("max-connections-per-ip")),
            ("lisetn", Some("listen")),
            ("LISTN", Some("listen")),
            ("allowed-hosts", Some("allowed-host")),
            ("port", Some("listen")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(closest(word, names), name, "{word}");
        }
    }
}
