//! The known name that is most similar to an unknown one. Pure.
//!
//! Owns: the similarity of two names, and the choice among the known ones. Never: the message with the choice. A leaf.

/// Returns the most similar known name, the last one of several that are equally similar; `None` if there are no names.
pub(crate) fn most_similar<T>(
    known: impl IntoIterator<Item = T>,
    similarity: impl Fn(&T) -> f64,
) -> Option<T> {
    known.into_iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)))
}

/// Returns the similarity of two names, from 0 to 1. A swap of two neighbouring letters is one difference.
pub(crate) fn similarity(a: &str, b: &str) -> f64 {
    strsim::normalized_damerau_levenshtein(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_similar_name_is_chosen() {
        let nearest =
            |known: &[&'static str]| most_similar(known.iter().copied(), |name| similarity(name, "rendr"));
        assert_eq!(nearest(&["echo", "render", "report"]), Some("render"));
        assert_eq!(nearest(&["aaaaa", "bbbbb"]), Some("bbbbb"), "both are equally far");
        assert_eq!(nearest(&[]), None);
    }
}
