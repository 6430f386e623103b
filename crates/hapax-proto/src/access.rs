//! Who may do what: the only authorisation. Every door (files, uploads, tus, WebDAV, shares, the API) asks this
//! one function; none has a check of its own. It does not authenticate: the subject is already known.
//!
//! Four things are weighed, in this order: is anybody there, is the object theirs, does their role allow it, does
//! the token they use allow it. What belongs to others is *hidden*, never forbidden, so that an answer does not
//! tell whether it exists.
//!
//! An admin runs the service and its accounts. The role opens nobody's files: an admin reads another's space no
//! more than anybody else does.

/// Which account: the catalog's number, never reused.
pub type UserId = u64;

/// What an account is in the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Manages accounts and runs the service.
    Admin,
    /// Has a space.
    User,
}

/// What a token was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// To see entries and their content.
    Read,
    /// To create, change and delete entries.
    Write,
    /// To manage tokens and, with the role of an admin, accounts and the service.
    Admin,
}

/// The scopes that a session or token has. A session begun with a password has all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes {
    bits: u8,
}

impl Scopes {
    /// Every scope.
    pub const ALL: Self = Self::NONE.with(Scope::Read).with(Scope::Write).with(Scope::Admin);
    /// No scope.
    pub const NONE: Self = Self { bits: 0 };

    /// Returns these scopes and one more.
    #[must_use]
    pub const fn with(self, scope: Scope) -> Self {
        Self { bits: self.bits | 1 << scope as u8 }
    }

    /// Tells whether the scope is among these.
    pub const fn has(self, scope: Scope) -> bool {
        self.bits & 1 << scope as u8 != 0
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Nobody who gave credentials.
    Anonymous,
    /// An account, by a session or a token.
    User {
        /// Which account.
        id: UserId,
        /// What it is in the service.
        role: Role,
        /// What the session or token was made for.
        scopes: Scopes,
    },
}

/// What is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// The service itself.
    Service,
    /// A space, with every entry in it.
    Space {
        /// Whose it is.
        owner: UserId,
    },
    /// An upload.
    Upload {
        /// Who began it.
        owner: UserId,
    },
    /// An account, with its tokens and its list of uploads.
    Account {
        /// Whose it is.
        owner: UserId,
    },
}

macro_rules! verbs {
    ($($verb:ident $about:literal)*) => {
        /// What can be done.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Verb { $(#[doc = $about] $verb,)* }

        impl Verb {
            /// Every verb.
            pub const ALL: &'static [Self] = &[$(Self::$verb,)*];
        }
    };
}

verbs! {
    ReadEntry "Reads an entry of a space: its content, hash tree or description."
    WriteEntry "Creates, replaces, moves or describes an entry of a space."
    DeleteEntry "Deletes an entry of a space."
    ListFolder "Lists a folder of a space."
    CreateUpload "Begins an upload into a space."
    Claim "Claims content into a space without sending it. It tells what the caller holds, so it reads too."
    ReadUpload "Reads the state of an upload, its prefix digests included. Its finished file is an entry."
    WriteUpload "Appends to an upload, or finishes it."
    CancelUpload "Ends an upload."
    ListUploads "Lists the unfinished uploads of an account."
    ManageOwnTokens "Makes, lists and revokes the tokens of one's own account."
    ManageAnyTokens "Lists and revokes the tokens of any account."
    ManageUsers "Lists, creates, changes and removes accounts."
    Housekeep "Checks, sweeps and measures the store."
    ReadMetrics "Reads the metrics of the service."
    ReadService "Reads what the service is and whether it is well; open to everybody."
}

/// The answer to who may do what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It may be done.
    Allowed,
    /// 404: for this subject the object does not exist.
    Hidden,
    /// 403: the subject may know of the object, but not do this.
    Forbidden,
    /// 401: the subject has to say who it is.
    Unauthenticated,
}

/// Decides whether the subject may do this to the object.
pub fn decide_access(subject: &Subject, verb: Verb, object: &Object) -> Access {
    if verb == Verb::ReadService && *object == Object::Service {
        return Access::Allowed;
    }
    let Subject::User { id, role, scopes } = *subject else {
        return Access::Unauthenticated;
    };
    let is_theirs = match *object {
        Object::Service => true,
        Object::Space { owner } | Object::Upload { owner } | Object::Account { owner } => owner == id,
    };
    let oversees = role == Role::Admin && is_oversight(verb);
    if !applies(verb, object) || !(is_theirs || oversees) {
        return Access::Hidden;
    }
    if is_allowed_by_role(verb, role) && is_allowed_by_scopes(verb, scopes) {
        Access::Allowed
    } else {
        Access::Forbidden
    }
}

/// Tells whether such an object has such a verb. What has not is hidden: no route should ask, and a route that
/// asks wrongly must not open anything.
fn applies(verb: Verb, object: &Object) -> bool {
    match verb {
        Verb::ReadEntry
        | Verb::WriteEntry
        | Verb::DeleteEntry
        | Verb::ListFolder
        | Verb::CreateUpload
        | Verb::Claim => matches!(object, Object::Space { .. }),
        Verb::ReadUpload | Verb::WriteUpload | Verb::CancelUpload => matches!(object, Object::Upload { .. }),
        Verb::ListUploads | Verb::ManageOwnTokens => matches!(object, Object::Account { .. }),
        Verb::ManageAnyTokens | Verb::ManageUsers => {
            matches!(object, Object::Service | Object::Account { .. })
        }
        Verb::Housekeep | Verb::ReadMetrics | Verb::ReadService => matches!(object, Object::Service),
    }
}

/// Tells whether an admin does this to what belongs to others.
fn is_oversight(verb: Verb) -> bool {
    matches!(verb, Verb::ManageAnyTokens | Verb::ManageUsers)
}

fn is_allowed_by_role(verb: Verb, role: Role) -> bool {
    match verb {
        Verb::ManageAnyTokens | Verb::ManageUsers | Verb::Housekeep | Verb::ReadMetrics => {
            role == Role::Admin
        }
        Verb::ReadEntry
        | Verb::WriteEntry
        | Verb::DeleteEntry
        | Verb::ListFolder
        | Verb::CreateUpload
        | Verb::Claim
        | Verb::ReadUpload
        | Verb::WriteUpload
        | Verb::CancelUpload
        | Verb::ListUploads
        | Verb::ManageOwnTokens
        | Verb::ReadService => true,
    }
}

/// Tells whether the token allows it. Tokens are managed with the scope of an admin only, also one's own: else a
/// token could make itself a mightier one.
fn is_allowed_by_scopes(verb: Verb, scopes: Scopes) -> bool {
    let (reads, writes) = (scopes.has(Scope::Read), scopes.has(Scope::Write));
    match verb {
        Verb::ReadEntry | Verb::ListFolder => reads,
        Verb::WriteEntry
        | Verb::DeleteEntry
        | Verb::CreateUpload
        | Verb::WriteUpload
        | Verb::CancelUpload => writes,
        Verb::Claim => reads && writes,
        Verb::ReadUpload | Verb::ListUploads => reads || writes,
        Verb::ManageOwnTokens
        | Verb::ManageAnyTokens
        | Verb::ManageUsers
        | Verb::Housekeep
        | Verb::ReadMetrics => scopes.has(Scope::Admin),
        Verb::ReadService => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: UserId = 7;
    const FOREIGN: UserId = 8;

    const OBJECTS: [Object; 7] = [
        Object::Service,
        Object::Space { owner: OWN },
        Object::Space { owner: FOREIGN },
        Object::Upload { owner: OWN },
        Object::Upload { owner: FOREIGN },
        Object::Account { owner: OWN },
        Object::Account { owner: FOREIGN },
    ];

    /// Every role with every set of scopes, in the order of [`row`].
    fn users() -> Vec<Subject> {
        let sets = [
            Scopes::NONE,
            Scopes::NONE.with(Scope::Read),
            Scopes::NONE.with(Scope::Write),
            Scopes::NONE.with(Scope::Read).with(Scope::Write),
            Scopes::NONE.with(Scope::Admin),
            Scopes::NONE.with(Scope::Read).with(Scope::Admin),
            Scopes::NONE.with(Scope::Write).with(Scope::Admin),
            Scopes::ALL,
        ];
        [Role::User, Role::Admin]
            .into_iter()
            .flat_map(|role| sets.map(|scopes| Subject::User { id: OWN, role, scopes }))
            .collect()
    }

    /// What each verb must give: one word per object, in the order of [`OBJECTS`], and in it one letter per set of scopes (none, r, w,
    /// rw, a, ra, wa, rwa), first for a user, then for an admin. `+` allowed, `H` hidden, `F` forbidden.
    ///
    /// A new verb does not compile before it has its row.
    fn row(verb: Verb) -> [&'static str; 2] {
        match verb {
            Verb::ReadEntry | Verb::ListFolder => {
                ["HHHHHHHH  F+F+F+F+  HHHHHHHH  HHHHHHHH  HHHHHHHH  HHHHHHHH  HHHHHHHH"; 2]
            }
            Verb::WriteEntry | Verb::DeleteEntry | Verb::CreateUpload => {
                ["HHHHHHHH  FF++FF++  HHHHHHHH  HHHHHHHH  HHHHHHHH  HHHHHHHH  HHHHHHHH"; 2]
            }
            Verb::Claim => ["HHHHHHHH  FFF+FFF+  HHHHHHHH  HHHHHHHH  HHHHHHHH  HHHHHHHH  HHHHHHHH"; 2],
            Verb::ReadUpload => ["HHHHHHHH  HHHHHHHH  HHHHHHHH  F+++F+++  HHHHHHHH  HHHHHHHH  HHHHHHHH"; 2],
            Verb::WriteUpload | Verb::CancelUpload => {
                ["HHHHHHHH  HHHHHHHH  HHHHHHHH  FF++FF++  HHHHHHHH  HHHHHHHH  HHHHHHHH"; 2]
            }
            Verb::ListUploads => ["HHHHHHHH  HHHHHHHH  HHHHHHHH  HHHHHHHH  HHHHHHHH  F+++F+++  HHHHHHHH"; 2],
            Verb::ManageOwnTokens => {
                ["HHHHHHHH  HHHHHHHH  HHHHHHHH  HHHHHHHH  HHHHHHHH  FFFF++++  HHHHHHHH"; 2]
            }
            Verb::ManageAnyTokens | Verb::ManageUsers => [
                "FFFFFFFF  HHHHHHHH  HHHHHHHH  HHHHHHHH  HHHHHHHH  FFFFFFFF  HHHHHHHH",
                "FFFF++++  HHHHHHHH  HHHHHHHH  HHHHHHHH  HHHHHHHH  FFFF++++  FFFF++++",
            ],
            Verb::Housekeep | Verb::ReadMetrics => [
                "FFFFFFFF  HHHHHHHH  HHHHHHHH  HHHHHHHH  HHHHHHHH  HHHHHHHH  HHHHHHHH",
                "FFFF++++  HHHHHHHH  HHHHHHHH  HHHHHHHH  HHHHHHHH  HHHHHHHH  HHHHHHHH",
            ],
            Verb::ReadService => ["++++++++  HHHHHHHH  HHHHHHHH  HHHHHHHH  HHHHHHHH  HHHHHHHH  HHHHHHHH"; 2],
        }
    }

    fn letter(access: Access) -> char {
        match access {
            Access::Allowed => '+',
            Access::Hidden => 'H',
            Access::Forbidden => 'F',
            Access::Unauthenticated => 'U',
        }
    }

    #[test]
    fn the_matrix_of_users_verbs_and_objects() {
        for &verb in Verb::ALL {
            for (subjects, expected) in users().chunks(8).zip(row(verb)) {
                let words = OBJECTS.map(|object| {
                    subjects
                        .iter()
                        .map(|subject| letter(decide_access(subject, verb, &object)))
                        .collect::<String>()
                });
                assert_eq!(words.join("  "), expected, "{verb:?} by {:?}", subjects[0]);
            }
        }
    }

    #[test]
    fn nobody_has_to_say_who_they_are_except_to_read_the_service() {
        for &verb in Verb::ALL {
            for object in OBJECTS {
                let open = verb == Verb::ReadService && object == Object::Service;
                let expected = if open { Access::Allowed } else { Access::Unauthenticated };
                assert_eq!(
                    decide_access(&Subject::Anonymous, verb, &object),
                    expected,
                    "{verb:?} {object:?}"
                );
            }
        }
    }

    #[test]
    fn foreign_spaces_and_uploads_are_hidden_from_everybody() {
        for subject in users() {
            for &verb in Verb::ALL {
                for object in [Object::Space { owner: FOREIGN }, Object::Upload { owner: FOREIGN }] {
                    assert_eq!(
                        decide_access(&subject, verb, &object),
                        Access::Hidden,
                        "{subject:?} {verb:?}"
                    );
                }
            }
        }
    }
}
