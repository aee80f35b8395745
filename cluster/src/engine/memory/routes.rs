//! Routing of messages to listeners: subjects, patterns and groups.
//!
//! Owns: matching, and the rotation within a group. Pure: listeners are numbers, and nothing is sent here.

use std::collections::BTreeMap;

/// A listener's number.
pub(super) type Listener = u64;

#[derive(Debug)]
struct GroupMember {
    listener: Listener,
    group: Option<String>,
}

/// All listeners of a Bus. Subjects without wildcards are found by a map lookup. Patterns are tried one by
/// one, because a process has few of them.
#[derive(Debug, Default)]
pub(super) struct Routes {
    last: Listener,
    literal: BTreeMap<String, Vec<GroupMember>>,
    patterns: Vec<(String, GroupMember)>,
    turn: usize,
}

impl Routes {
    /// Adds a listener. Numbers are never reused.
    pub(super) fn add(&mut self, pattern: &str, group: Option<&str>) -> Listener {
        self.last += 1;
        let member = GroupMember { listener: self.last, group: group.map(str::to_owned) };
        if has_wildcard(pattern) {
            self.patterns.push((pattern.to_owned(), member));
        } else {
            self.literal.entry(pattern.to_owned()).or_default().push(member);
        }
        self.last
    }

    /// Removes the listeners for which `stays` is false.
    pub(super) fn retain(&mut self, stays: impl Fn(Listener) -> bool) {
        self.patterns.retain(|(_, member)| stays(member.listener));
        self.literal.retain(|_, members| {
            members.retain(|member| stays(member.listener));
            !members.is_empty()
        });
    }

    /// Returns the recipients of a message: every live listener outside groups, and one live member of each
    /// group, in rotation.
    pub(super) fn recipients(&mut self, subject: &str, is_open: impl Fn(Listener) -> bool) -> Vec<Listener> {
        let literal = self.literal.get(subject).into_iter().flatten();
        let patterns = self.patterns.iter().filter(|(pattern, _)| matches(pattern, subject)).map(|(_, m)| m);
        let mut recipients = Vec::new();
        let mut groups: BTreeMap<&str, Vec<Listener>> = BTreeMap::new();
        for member in literal.chain(patterns).filter(|member| is_open(member.listener)) {
            match &member.group {
                None => recipients.push(member.listener),
                Some(group) => groups.entry(group).or_default().push(member.listener),
            }
        }
        if !groups.is_empty() {
            self.turn = self.turn.wrapping_add(1);
            recipients.extend(groups.values().map(|members| members[self.turn % members.len()]));
        }
        recipients
    }
}

/// Returns whether a pattern can match more than one subject. `*` and `>` are wildcards only as whole tokens.
fn has_wildcard(pattern: &str) -> bool {
    pattern.split('.').any(|token| token == "*" || token == ">")
}

/// Returns whether a subject matches a pattern: `*` matches any one token, a final `>` matches one or more
/// tokens. Wildcards in the subject have no special meaning. A subject with an empty token matches nothing.
pub(super) fn matches(pattern: &str, subject: &str) -> bool {
    if subject.split('.').any(str::is_empty) {
        return false;
    }
    let mut tokens = subject.split('.');
    let mut wanted = pattern.split('.').peekable();
    while let Some(want) = wanted.next() {
        match (want, tokens.next()) {
            (_, None) => return false,
            (">", Some(_)) if wanted.peek().is_none() => return true,
            ("*", Some(_)) => {}
            (want, Some(token)) if want == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::subject::SubjectToken;

    /// The definition of a match, implemented a second time by recursion on tokens.
    fn fits(pattern: &[&str], subject: &[&str]) -> bool {
        match (pattern, subject) {
            ([], []) => true,
            ([">"], [_, ..]) => true,
            (["*", pattern @ ..], [_, subject @ ..]) => fits(pattern, subject),
            ([want, pattern @ ..], [token, subject @ ..]) => want == token && fits(pattern, subject),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn a_message_reaches_exactly_the_patterns_that_fit(
            patterns in prop::collection::vec("(a|b|\\*)(\\.(a|b|\\*)){0,3}(\\.>)?", 1..12),
            subject in "(a|b|\\*|>)(\\.(a|b|\\*|>)){0,4}",
        ) {
            let mut routes = Routes::default();
            let listeners: Vec<_> = patterns.iter().map(|pattern| routes.add(pattern, None)).collect();
            let tokens: Vec<_> = subject.split('.').collect();
            let mut expected: Vec<_> = listeners
                .iter()
                .zip(&patterns)
                .filter(|(_, pattern)| fits(&pattern.split('.').collect::<Vec<_>>(), &tokens))
                .map(|(listener, _)| *listener)
                .collect();
            let mut reached = routes.recipients(&subject, |_| true);
            expected.sort_unstable();
            reached.sort_unstable();
            prop_assert_eq!(reached, expected);
        }

        #[test]
        fn awkward_users_never_hear_each_other(a in "\\PC{0,12}|[*>.]{0,3}", b in "\\PC{0,12}|[*>.]{0,3}") {
            let mut routes = Routes::default();
            let listener = routes.add(&format!("user.{}", SubjectToken::new(&a)), None);
            let reached = routes.recipients(&format!("user.{}", SubjectToken::new(&b)), |_| true);
            prop_assert_eq!(reached == [listener], a == b);
        }

        #[test]
        fn one_living_member_of_each_group_gets_a_message(
            members in prop::collection::vec((0u8..3, any::<bool>()), 0..10),
        ) {
            let mut routes = Routes::default();
            for (group, _) in &members {
                routes.add("a.*", Some(&group.to_string()));
            }
            let is_open = |listener: Listener| members[listener as usize - 1].1;
            let groups_of = |listeners: &[Listener]| -> Vec<u8> {
                let mut groups: Vec<_> = listeners.iter().map(|l| members[*l as usize - 1].0).collect();
                groups.sort_unstable();
                groups
            };
            let living: Vec<_> = (1..=members.len() as u64).filter(|l| is_open(*l)).collect();
            let mut expected = groups_of(&living);
            expected.dedup();
            let reached = routes.recipients("a.b", is_open);
            prop_assert!(reached.iter().all(|listener| is_open(*listener)));
            prop_assert_eq!(groups_of(&reached), expected);
        }
    }

    #[test]
    fn a_group_takes_turns_across_its_patterns() {
        let mut routes = Routes::default();
        let literal = routes.add("a.b", Some("g"));
        let wild = routes.add("a.>", Some("g"));
        let mut reached: Vec<_> = (0..4).flat_map(|_| routes.recipients("a.b", |_| true)).collect();
        reached.sort_unstable();
        assert_eq!(reached, [literal, literal, wild, wild]);
    }

    #[test]
    fn a_wildcard_in_the_subject_of_a_message_is_only_a_character() {
        let mut routes = Routes::default();
        routes.add("a.b", None);
        for subject in ["a.*", "a.>", ">", "*.b", "a", "a.", ".b", "a..b", ""] {
            assert_eq!(routes.recipients(subject, |_| true), [0u64; 0], "{subject}");
        }
    }

    #[test]
    fn forgotten_listeners_hear_nothing() {
        let mut routes = Routes::default();
        let gone = [routes.add("a", None), routes.add("*", None)];
        let stays = routes.add("a", None);
        routes.retain(|listener| !gone.contains(&listener));
        assert_eq!(routes.recipients("a", |_| true), [stays]);
    }
}
