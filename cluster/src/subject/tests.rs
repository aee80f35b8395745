use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn different_identities_never_share_a_token(a in "\\PC{0,20}", b in "\\PC{0,20}") {
        prop_assert_eq!(a == b, SubjectToken::new(&a) == SubjectToken::new(&b));
    }

    #[test]
    fn a_token_has_only_characters_that_are_legal_in_subjects_and_keys(identity: String) {
        let token = SubjectToken::new(&identity);
        prop_assert!(!token.as_str().is_empty());
        prop_assert!(token.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
    }
}

#[test]
fn awkward_users_are_ordinary_users() {
    assert_eq!(SubjectToken::new("*").as_str(), "_2A");
    assert_eq!(SubjectToken::new("a.b").as_str(), "a_2Eb");
    assert_eq!(SubjectToken::new("_2A").as_str(), "_5F2A");
    assert_eq!(SubjectToken::new("").as_str(), "_");
}
