//! Digests of whole files on request: `Want-Repr-Digest` (RFC 9530 §4), and whether a declared digest is that of what
//! stands there. What was computed once is kept by the store; here is decided when it is worth reading a file for it.

use hapax_proto::digest::{Algorithm, Digest, Digests, Preferences, WANT_REPR_DIGEST};
use hapax_proto::span::Length;
use hapax_store::catalog::Blob;
use http::HeaderMap;

use crate::call::{Call, Declared, bad_field};
use crate::respond::Refusal;

/// The most stored bytes read for one digest.
pub const READ_MAX: Length = Length::new(8 << 30);

/// Reads what a request wants.
///
/// # Errors
/// 400 for a field that cannot be read.
pub fn preferences(fields: &HeaderMap) -> Result<Preferences, Refusal> {
    let preferences = Preferences::parse_field(fields.get_all(WANT_REPR_DIGEST).iter());
    preferences.map_err(|_| bad_field(WANT_REPR_DIGEST))
}

/// Returns the digest of a file that the request wants most and that can be had: known, or computed now from at most
/// [`READ_MAX`] bytes. If the account has as many computed as may be, one that is known stands in for it.
///
/// # Errors
/// 400 for a field that cannot be read.
pub async fn wanted(call: &Call<'_>, blob: &Blob) -> Result<Option<Digest>, Refusal> {
    let preferences = preferences(&call.parts.headers)?;
    if preferences.choose(Algorithm::ALL).is_none() {
        return Ok(None);
    }
    let known = known(call, blob).await?;
    let computed = match choose(&preferences, &known, blob.size <= READ_MAX) {
        None => return Ok(None),
        Some(Choice::Known(digest)) => return Ok(Some(digest)),
        Some(Choice::Computed(algorithm)) => computed(call, blob, algorithm).await?,
    };
    match (computed, choose(&preferences, &known, false)) {
        (Some(digest), _) | (None, Some(Choice::Known(digest))) => Ok(Some(digest)),
        (None, _) => Ok(None),
    }
}

/// What a preference comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// This is known.
    Known(Digest),
    /// This has to be computed.
    Computed(Algorithm),
}

/// Chooses what is wanted most among what is known or, if the bytes may be read for it, among all. Which ones are known says
/// nothing then: it would tell that somebody else had the content before.
pub fn choose(preferences: &Preferences, known: &Digests, may_read: bool) -> Option<Choice> {
    let chosen = if may_read {
        preferences.choose(Algorithm::ALL)
    } else {
        preferences.choose(&known.algorithms().collect::<Vec<_>>())
    }?;
    Some(known.get(chosen).map_or(Choice::Computed(chosen), Choice::Known))
}

/// Tells whether a file is what a request declares it to be, by a digest that nobody can forge. Everything declared
/// that can be compared has to agree, in both fields.
pub(super) async fn is_what_was_declared(
    call: &Call<'_>,
    blob: &Blob,
    declared: &Declared,
) -> Result<bool, Refusal> {
    let mut ours = known(call, blob).await?;
    let proof: Vec<Algorithm> =
        declared.whole().algorithms().filter(|algorithm| algorithm.is_collision_resistant()).collect();
    let Some(first) = proof.first() else { return Ok(false) };
    if !proof.iter().any(|algorithm| ours.get(*algorithm).is_some()) {
        if blob.size > READ_MAX {
            return Ok(false);
        }
        let Some(digest) = computed(call, blob, *first).await? else { return Ok(false) };
        ours.insert(digest);
    }
    let fields = [&declared.content, &declared.representation];
    Ok(fields.into_iter().all(|field| field.disagreement(&ours).is_none()))
}

async fn known(call: &Call<'_>, blob: &Blob) -> Result<Digests, Refusal> {
    let blob = blob.clone();
    call.store(move |store| store.known_digests(&blob)).await
}

/// Reads a file for one digest; `None` if the account has as many computed as may be.
async fn computed(call: &Call<'_>, blob: &Blob, algorithm: Algorithm) -> Result<Option<Digest>, Refusal> {
    let Some(pass) = call.app.digests.enter(call.who()?.user) else { return Ok(None) };
    let blob = blob.clone();
    let computed = call.store(move |store| {
        let computed = store.compute_digests(&blob, [algorithm]);
        // Held until the reading ends, which it does not when the client goes away.
        drop(pass);
        computed
    });
    Ok(computed.await?.get(algorithm))
}
