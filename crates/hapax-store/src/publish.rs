//! Publishing: what every verb comes to that makes a content visible under a name. Owns the intent and what it came to;
//! where the bytes are is the verbs' matter.

use hapax_proto::digest::Identity;
use hapax_proto::name::EntryPath;

use crate::catalog::{Expect, Intent, Meta, Outcome, Publish, Source, SpaceId};
use crate::error::StoreError;
use crate::key::Fingerprint;
use crate::store::Store;

/// What a published file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// What it is.
    pub identity: Identity,
    /// Its keyed fingerprint.
    pub fingerprint: Fingerprint,
    /// The version of its entry.
    pub version: u64,
    /// Whether a file of that name was replaced.
    pub replaced: bool,
    /// Whether the content was held already.
    pub known: bool,
}

/// Where a content is to appear.
#[derive(Debug, Clone)]
pub struct Target {
    /// The space.
    pub space: SpaceId,
    /// The path in it; missing parents are made.
    pub path: EntryPath,
    /// What must stand there.
    pub expect: Expect,
    /// What the client says about the file.
    pub meta: Meta,
}

impl Store {
    /// Makes a content visible that is durable already.
    pub(crate) fn publish(
        &self,
        target: Target,
        source: Source,
        identity: Identity,
    ) -> Result<Published, StoreError> {
        let publish = self.publish_intent(target, source, identity)?;
        let pending = self.committer.commit(Intent::Publish(Box::new(publish)));
        Ok(self.published(identity, &pending.wait()?))
    }

    pub(crate) fn publish_intent(
        &self,
        target: Target,
        source: Source,
        identity: Identity,
    ) -> Result<Publish, StoreError> {
        let fingerprint = self.fingerprint(&identity);
        Ok(Publish {
            space: target.space,
            path: target.path,
            expect: target.expect,
            source,
            fingerprint,
            identity: Some(self.seal_identity(&fingerprint, &identity.blake3)?),
            size: identity.size,
            meta: target.meta,
            now: self.now(),
        })
    }

    pub(crate) fn published(&self, identity: Identity, outcome: &Outcome) -> Published {
        match outcome {
            &Outcome::Published { version, replaced, known, .. } => {
                let fingerprint = self.fingerprint(&identity);
                // Of a known content there may be two copies now.
                if known { &self.ailing } else { &self.looked.changed }.notify_one();
                Published { identity, fingerprint, version, replaced, known }
            }
            other => unreachable!("a publication came to {other:?}"),
        }
    }
}
