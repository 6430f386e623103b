//! Preconditions (RFC 9110 §13). Owns the order in which they are weighed and what each means; `If-Range`, which
//! only chooses between a part and the whole, belongs to `download`.

use http::HeaderMap;
use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE};

use crate::validator::{EntityTag, HttpDate, TagCondition};

/// What a request wants, as far as preconditions care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MethodKind {
    /// GET and HEAD.
    Read,
    /// Every method that changes its target.
    Write,
}

/// The preconditions of a request, each as stated or absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    /// `If-Match`.
    pub if_match: Option<TagCondition>,
    /// `If-Unmodified-Since`, if it is one valid date.
    pub if_unmodified_since: Option<HttpDate>,
    /// `If-None-Match`.
    pub if_none_match: Option<TagCondition>,
    /// `If-Modified-Since`, if it is one valid date.
    pub if_modified_since: Option<HttpDate>,
}

impl Conditions {
    /// Reads the four fields. A date that is not valid is ignored, as §13.1.3 and §13.1.4 demand.
    pub fn parse(fields: &HeaderMap) -> Self {
        Self {
            if_match: TagCondition::parse(fields, &IF_MATCH),
            if_unmodified_since: HttpDate::parse_field(fields, &IF_UNMODIFIED_SINCE),
            if_none_match: TagCondition::parse(fields, &IF_NONE_MATCH),
            if_modified_since: HttpDate::parse_field(fields, &IF_MODIFIED_SINCE),
        }
    }
}

/// What validates the present representation of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validators {
    /// Its entity tag.
    pub etag: EntityTag,
    /// When the target got this content; `None` while that second is not over, or not later than an earlier
    /// one handed out, because two contents would then share a date.
    pub last_modified: Option<HttpDate>,
}

/// What the preconditions say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// Do what was asked.
    Proceed,
    /// 304: the reader holds it already.
    NotModified,
    /// 412: the target is not what the request takes it for.
    Failed,
}

/// Weighs the preconditions against the present representation, if the target has one, in the order of §13.2.2:
/// `If-Match`, else `If-Unmodified-Since`; then `If-None-Match`, else `If-Modified-Since`.
///
/// A read of a target that has no representation proceeds to its 404 whatever the conditions say (§13.2.1).
/// The caller refuses a DELETE of nothing before it asks here, for the same reason.
pub fn decide_precondition(
    kind: MethodKind,
    conditions: &Conditions,
    current: Option<&Validators>,
) -> Precondition {
    if kind == MethodKind::Read && current.is_none() {
        return Precondition::Proceed;
    }
    if !is_what_was_expected(conditions, current) {
        return Precondition::Failed;
    }
    match kind {
        MethodKind::Read if is_held_already(conditions, current) => Precondition::NotModified,
        MethodKind::Write if is_there_already(conditions, current) => Precondition::Failed,
        MethodKind::Read | MethodKind::Write => Precondition::Proceed,
    }
}

/// Steps 1 and 2 of §13.2.2. Tags compare strongly; a target without a date ignores `If-Unmodified-Since`.
fn is_what_was_expected(conditions: &Conditions, current: Option<&Validators>) -> bool {
    match &conditions.if_match {
        Some(TagCondition::Any) => current.is_some(),
        Some(TagCondition::Tags(tags)) => {
            current.is_some_and(|current| tags.iter().any(|tag| tag.matches_strongly(&current.etag)))
        }
        Some(TagCondition::Unreadable) => false,
        None => match (conditions.if_unmodified_since, last_modified(current)) {
            (Some(since), Some(modified)) => modified <= since,
            _ => true,
        },
    }
}

/// Steps 3 and 4 of §13.2.2 for a read. A present `If-None-Match` settles it, so that a date with its whole
/// seconds never hides a change from a reader who stated a tag.
fn is_held_already(conditions: &Conditions, current: Option<&Validators>) -> bool {
    match &conditions.if_none_match {
        Some(condition) => matches_weakly(condition, current),
        None => match (conditions.if_modified_since, last_modified(current)) {
            (Some(since), Some(modified)) => modified <= since,
            _ => false,
        },
    }
}

/// Step 3 of §13.2.2 for a write; `If-Modified-Since` does not count there. A guard that cannot be read is
/// taken to fail: a write that should not have happened cannot be taken back, one that did not can be repeated.
fn is_there_already(conditions: &Conditions, current: Option<&Validators>) -> bool {
    match &conditions.if_none_match {
        Some(TagCondition::Unreadable) => true,
        Some(condition) => matches_weakly(condition, current),
        None => false,
    }
}

fn matches_weakly(condition: &TagCondition, current: Option<&Validators>) -> bool {
    match condition {
        TagCondition::Any => current.is_some(),
        TagCondition::Tags(tags) => {
            current.is_some_and(|current| tags.iter().any(|tag| tag.matches_weakly(&current.etag)))
        }
        TagCondition::Unreadable => false,
    }
}

fn last_modified(current: Option<&Validators>) -> Option<HttpDate> {
    current.and_then(|current| current.last_modified)
}

#[cfg(test)]
mod tests {
    use super::Precondition::{Failed, NotModified, Proceed};
    use super::*;

    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn validators(dated: bool) -> Validators {
        let last_modified = dated.then(|| HttpDate::parse(THEN.as_bytes()).unwrap());
        Validators { etag: EntityTag::strong("a").unwrap(), last_modified }
    }

    fn conditions(fields: &[(&'static str, &'static str)]) -> Conditions {
        let pairs = fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        Conditions::parse(&pairs.collect())
    }

    /// Checks against a target tagged `"a"` and modified at `THEN`.
    #[track_caller]
    fn check(fields: &[(&'static str, &'static str)], read: Precondition, write: Precondition) {
        let (conditions, current) = (conditions(fields), validators(true));
        assert_eq!(decide_precondition(MethodKind::Read, &conditions, Some(&current)), read);
        assert_eq!(decide_precondition(MethodKind::Write, &conditions, Some(&current)), write);
    }

    #[test]
    fn rfc9110_13_1_1_if_match() {
        check(&[("if-match", "*")], Proceed, Proceed);
        check(&[("if-match", "\"a\"")], Proceed, Proceed);
        check(&[("if-match", "\"b\", \"a\"")], Proceed, Proceed);
        check(&[("if-match", "\"b\"")], Failed, Failed);
        check(&[("if-match", "W/\"a\"")], Failed, Failed);
        check(&[("if-match", "")], Failed, Failed);
        check(&[("if-match", "a")], Failed, Failed);
    }

    #[test]
    fn rfc9110_13_1_2_if_none_match() {
        check(&[("if-none-match", "*")], NotModified, Failed);
        check(&[("if-none-match", "\"a\"")], NotModified, Failed);
        check(&[("if-none-match", "W/\"a\"")], NotModified, Failed);
        check(&[("if-none-match", "\"b\", W/\"a\"")], NotModified, Failed);
        check(&[("if-none-match", "\"b\"")], Proceed, Proceed);
        check(&[("if-none-match", "")], Proceed, Proceed);
        check(&[("if-none-match", "a")], Proceed, Failed);
    }

    #[test]
    fn rfc9110_13_1_3_if_modified_since() {
        check(&[("if-modified-since", BEFORE)], Proceed, Proceed);
        check(&[("if-modified-since", THEN)], NotModified, Proceed);
        check(&[("if-modified-since", AFTER)], NotModified, Proceed);
        check(&[("if-modified-since", "yesterday")], Proceed, Proceed);
    }

    #[test]
    fn rfc9110_13_1_4_if_unmodified_since() {
        check(&[("if-unmodified-since", BEFORE)], Failed, Failed);
        check(&[("if-unmodified-since", THEN)], Proceed, Proceed);
        check(&[("if-unmodified-since", AFTER)], Proceed, Proceed);
        check(&[("if-unmodified-since", "yesterday")], Proceed, Proceed);
    }

    #[test]
    fn rfc9110_13_2_2_order() {
        check(&[], Proceed, Proceed);
        check(&[("if-match", "\"a\""), ("if-unmodified-since", BEFORE)], Proceed, Proceed);
        check(&[("if-match", "\"b\""), ("if-unmodified-since", AFTER)], Failed, Failed);
        check(&[("if-none-match", "\"b\""), ("if-modified-since", AFTER)], Proceed, Proceed);
        check(&[("if-none-match", "\"a\""), ("if-modified-since", BEFORE)], NotModified, Failed);
        check(&[("if-none-match", "a"), ("if-modified-since", AFTER)], Proceed, Failed);
        check(&[("if-match", "\"b\""), ("if-none-match", "\"a\"")], Failed, Failed);
        check(&[("if-match", "\"a\""), ("if-none-match", "\"a\"")], NotModified, Failed);
        check(&[("if-match", "\"a\""), ("if-modified-since", THEN)], NotModified, Proceed);
        check(&[("if-unmodified-since", BEFORE), ("if-none-match", "\"a\"")], Failed, Failed);
        check(&[("if-unmodified-since", THEN), ("if-modified-since", THEN)], NotModified, Proceed);
    }

    /// §13.2.2 as it is written, step by step, over conditions that are known to hold, to fail, or to be absent.
    fn steps_of_the_rfc(read: bool, [im, ius, inm, ims]: [Option<bool>; 4]) -> Precondition {
        // 1. If-Match; 2. when it is not present, If-Unmodified-Since.
        if im.or(ius) == Some(false) {
            return Failed;
        }
        // 3. If-None-Match: false is 304 to GET and HEAD, 412 to all else.
        if inm == Some(false) {
            return if read { NotModified } else { Failed };
        }
        // 4. When it is not present and the method is GET or HEAD: If-Modified-Since.
        if read && inm.is_none() && ims == Some(false) { NotModified } else { Proceed }
    }

    /// The values of a field, each with whether the condition then holds for a dated target; a field that is
    /// ignored counts as absent.
    type Values = [(Option<&'static str>, Option<bool>)];

    const IF_MATCHES: &Values = &[
        (None, None),
        (Some("*"), Some(true)),
        (Some("\"a\""), Some(true)),
        (Some("\"b\", \"a\""), Some(true)),
        (Some("\"b\""), Some(false)),
        (Some("W/\"a\""), Some(false)),
        (Some("a"), Some(false)),
    ];
    const IF_UNMODIFIED: &Values = &[
        (None, None),
        (Some(BEFORE), Some(false)),
        (Some(THEN), Some(true)),
        (Some(AFTER), Some(true)),
        (Some("never"), None),
    ];
    const IF_NONE_MATCHES: &Values = &[
        (None, None),
        (Some("*"), Some(false)),
        (Some("\"a\""), Some(false)),
        (Some("W/\"a\""), Some(false)),
        (Some("\"b\", W/\"a\""), Some(false)),
        (Some("\"b\""), Some(true)),
    ];
    const IF_MODIFIED: &Values = &[
        (None, None),
        (Some(BEFORE), Some(true)),
        (Some(THEN), Some(false)),
        (Some(AFTER), Some(false)),
        (Some("never"), None),
    ];

    #[test]
    fn rfc9110_13_2_2_every_combination() {
        let mut seen = 0;
        for im in IF_MATCHES {
            for ius in IF_UNMODIFIED {
                for inm in IF_NONE_MATCHES {
                    for ims in IF_MODIFIED {
                        check_combination([*im, *ius, *inm, *ims]);
                        seen += 1;
                    }
                }
            }
        }
        assert_eq!(seen, 7 * 5 * 6 * 5);
    }

    #[track_caller]
    fn check_combination(set: [(Option<&'static str>, Option<bool>); 4]) {
        let names = ["if-match", "if-unmodified-since", "if-none-match", "if-modified-since"];
        let fields: Vec<_> =
            names.into_iter().zip(set).filter_map(|(name, (value, _))| Some((name, value?))).collect();
        let conditions = conditions(&fields);
        let [im, ius, inm, ims] = set.map(|(_, holds)| holds);
        for (is_dated, facts) in [(true, [im, ius, inm, ims]), (false, [im, None, inm, None])] {
            let current = validators(is_dated);
            for (kind, read) in [(MethodKind::Read, true), (MethodKind::Write, false)] {
                let decided = decide_precondition(kind, &conditions, Some(&current));
                assert_eq!(decided, steps_of_the_rfc(read, facts), "{kind:?}, dated {is_dated}: {fields:?}");
            }
        }
    }

    #[test]
    fn a_content_replaced_within_a_second_is_told_by_its_tag_alone() {
        let (old, new) = ("\"a\"", "\"b\"");
        let conditions = |fields: &[(&'static str, &'static str)]| conditions(fields);
        let current = Validators { etag: EntityTag::strong("b").unwrap(), last_modified: None };
        let check = |fields: &[(&'static str, &'static str)], read, write| {
            let conditions = conditions(fields);
            assert_eq!(
                decide_precondition(MethodKind::Read, &conditions, Some(&current)),
                read,
                "{fields:?}"
            );
            assert_eq!(
                decide_precondition(MethodKind::Write, &conditions, Some(&current)),
                write,
                "{fields:?}"
            );
        };
        // Whoever kept the date of the old content is not told that it is still there.
        check(&[("if-modified-since", THEN)], Proceed, Proceed);
        check(&[("if-none-match", old), ("if-modified-since", THEN)], Proceed, Proceed);
        check(&[("if-none-match", new), ("if-modified-since", THEN)], NotModified, Failed);
        check(&[("if-match", old), ("if-unmodified-since", THEN)], Failed, Failed);
        check(&[("if-match", new), ("if-unmodified-since", THEN)], Proceed, Proceed);
    }

    #[test]
    fn a_date_weak_target_ignores_dated_conditions() {
        #[track_caller]
        fn check(fields: &[(&'static str, &'static str)]) {
            let (conditions, current) = (conditions(fields), validators(false));
            for kind in [MethodKind::Read, MethodKind::Write] {
                assert_eq!(decide_precondition(kind, &conditions, Some(&current)), Proceed);
            }
        }
        check(&[("if-modified-since", AFTER)]);
        check(&[("if-unmodified-since", BEFORE)]);
    }

    #[test]
    fn a_target_without_representation() {
        #[track_caller]
        fn check(fields: &[(&'static str, &'static str)], write: Precondition) {
            let conditions = conditions(fields);
            assert_eq!(decide_precondition(MethodKind::Write, &conditions, None), write);
            assert_eq!(decide_precondition(MethodKind::Read, &conditions, None), Proceed);
        }
        check(&[], Proceed);
        check(&[("if-match", "*")], Failed);
        check(&[("if-match", "\"a\"")], Failed);
        check(&[("if-none-match", "*")], Proceed);
        check(&[("if-none-match", "\"a\"")], Proceed);
        check(&[("if-none-match", "a")], Failed);
        check(&[("if-unmodified-since", BEFORE)], Proceed);
        check(&[("if-modified-since", AFTER)], Proceed);
    }
}
