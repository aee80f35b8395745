//! Who may have what: owners and generations.

use super::*;

#[test]
fn what_has_a_user_needs_that_user() {
    assert!(check_owner(None, None).is_ok() && check_owner(None, Some("ann")).is_ok());
    assert!(check_owner(Some("ann"), Some("ann")).is_ok());
    assert_eq!(check_owner(Some("ann"), Some("bob")).map_err(|c| c.code), Err(CloseCode::Forbidden));
    assert_eq!(check_owner(Some("ann"), None).map_err(|c| c.code), Err(CloseCode::Unauthenticated));
}

#[test]
fn the_token_before_the_newest_resumes_only_until_the_newest_was_used() {
    assert!(check_generation(3, 3, true).is_ok());
    assert!(check_generation(2, 3, false).is_ok());
    assert!(check_generation(2, 3, true).is_err());
    assert!(check_generation(1, 3, false).is_err());
    assert!(check_generation(u32::MAX, 3, false).is_err());
}
