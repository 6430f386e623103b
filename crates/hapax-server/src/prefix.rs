//! The prefix of an unfinished upload: its entity tag, and digests of it and of other spans that are there. Here is
//! decided what is worth reading for a digest; the reading ends when the client that asked goes away.

use hapax_proto::digest::{Algorithm, Digest, Digests, Hasher};
use hapax_proto::problem::Kind;
use hapax_proto::span::{Length, Offset, Span};
use hapax_proto::upload::State;
use hapax_proto::validator::EntityTag;
use hapax_store::catalog::{Upload, UploadId};
use hapax_store::durable::{Durable, DurableReader};
use hapax_store::error::StoreError;

use crate::app::PrefixKey;
use crate::call::Call;
use crate::files::{Choice, READ_MAX, choose, preferences};
use crate::metrics;
use crate::refuse::ended;
use crate::respond::Refusal;

/// How much is read and hashed between two looks whether anybody still waits for it.
const SLICE: Length = Length::new(8 << 20);

/// An open upload and where it stands, of one moment, with the digest of its prefix that the request wants.
pub struct Prefix {
    /// The upload.
    pub upload: Upload,
    /// Where its prefix ends.
    pub offset: Offset,
    /// What the bytes before that hash to.
    pub digest: Option<Digest>,
}

/// Returns the entity tag of the prefix that ends at `offset`. It changes whenever the prefix does, also when a part
/// was stored anew with other bytes of the same number; it may change without.
pub fn tag(upload: &Upload, offset: Offset) -> EntityTag {
    let tag = format!("{}.{}-{offset}", upload.generation, upload.content_version);
    EntityTag::strong(&tag).expect("digits, dots and dashes may stand in an entity tag")
}

/// Tells whether a request wants a digest of the representation.
///
/// # Errors
/// 400 for a field that cannot be read.
pub fn is_digest_wanted(call: &Call<'_>) -> Result<bool, Refusal> {
    Ok(preferences(&call.parts.headers)?.choose(Algorithm::ALL).is_some())
}

/// Looks where an upload stands, with the digest that the request wants most and that can be had: BLAKE3 where no object
/// need be read for it, one that was computed lately, or one computed now from at most [`READ_MAX`] bytes.
///
/// # Errors
/// 400 for a field that cannot be read; 409 and 410 for an upload that ended.
pub async fn look(call: &Call<'_>, id: UploadId) -> Result<Prefix, Refusal> {
    let (upload, (offset, root)) = call
        .store(move |store| {
            store.at_one_moment(id, |upload| {
                let offset = store.durable_offset(upload)?;
                let root = store.prefix_root(upload, length_of(offset))?;
                Ok((offset, root))
            })
        })
        .await?;
    if upload.state != State::Open {
        return Err(ended(upload.state).into());
    }
    let mut known = kept(call, &upload);
    if let Some(root) = root {
        known.insert(Digest::from(root));
    }
    let preferences = preferences(&call.parts.headers)?;
    let is_small = length_of(offset) <= READ_MAX;
    let mut choice = choose(&preferences, &known, is_small);
    if let Some(Choice::Computed(algorithm)) = choice {
        if let Some(prefix) = computed(call, id, algorithm).await? {
            return Ok(prefix);
        }
        choice = choose(&preferences, &known, false);
    }
    let digest = match choice {
        Some(Choice::Known(digest)) => Some(digest),
        Some(Choice::Computed(_)) | None => None,
    };
    Ok(Prefix { upload, offset, digest })
}

fn length_of(offset: Offset) -> Length {
    offset.since(Offset::ZERO).unwrap_or_default()
}

/// Returns the digests of a prefix that were computed lately.
fn kept(call: &Call<'_>, upload: &Upload) -> Digests {
    let get = |algorithm: &Algorithm| call.app.prefixes.get(&key(upload, *algorithm));
    Algorithm::ALL.iter().filter_map(get).collect()
}

fn key(upload: &Upload, algorithm: Algorithm) -> PrefixKey {
    let Upload { id, generation, content_version, .. } = *upload;
    PrefixKey { upload: id, generation, content_version, algorithm }
}

/// Reads a prefix for one digest; `None` if the account has as many computed as may be, or if more is there by now
/// than is read.
async fn computed(call: &Call<'_>, id: UploadId, algorithm: Algorithm) -> Result<Option<Prefix>, Refusal> {
    let Some(_pass) = call.app.digests.enter(call.who()?.user) else { return Ok(None) };
    let (upload, looked) = call
        .store(move |store| {
            store.at_one_moment(id, |upload| {
                let offset = store.durable_offset(upload)?;
                let is_small = length_of(offset) <= READ_MAX;
                let durable = is_small.then(|| store.read_durable(upload, Span::whole(length_of(offset))));
                Ok((offset, durable.transpose()?))
            })
        })
        .await?;
    let (offset, Some(Durable::Held(reader))) = looked else { return Ok(None) };
    let digest = digest_of(call, &upload, *reader, algorithm).await?;
    call.app.prefixes.keep(key(&upload, algorithm), digest);
    Ok(Some(Prefix { upload, offset, digest: Some(digest) }))
}

/// Reads and hashes what an upload held when the reader was made, for as long as somebody waits for it.
///
/// # Errors
/// 409 `superseded` if the bytes were given up meanwhile; 409 and 410 if the upload ended; 503 if the peer ended its
/// side, in case it still reads.
pub async fn digest_of(
    call: &Call<'_>,
    upload: &Upload,
    reader: DurableReader,
    algorithm: Algorithm,
) -> Result<Digest, Refusal> {
    tokio::select! {
        digest = hash(call, upload, reader, algorithm) => digest,
        () = call.peer.gone() => Err(Kind::Unavailable.into()),
    }
}

/// Reads and hashes it slice by slice. Dropping the future ends it with the present slice.
async fn hash(
    call: &Call<'_>,
    upload: &Upload,
    mut reader: DurableReader,
    algorithm: Algorithm,
) -> Result<Digest, Refusal> {
    let mut hasher = Hasher::new([algorithm]);
    let mut rest = reader.span();
    while !rest.is_empty() {
        let slice = Span::at(rest.start(), rest.length().min(SLICE)).expect("a slice lies within the rest");
        let read = call.try_store(move |_| {
            reader.hash(slice, &mut hasher)?;
            Ok((reader, hasher))
        });
        (reader, hasher) = match read.await {
            Err(StoreError::MissingObject { name }) => return Err(given_up(call, upload, name).await),
            read => read?,
        };
        metrics::upload_read(slice.length().get());
        rest = Span::new(slice.end(), rest.end()).expect("a slice lies within the rest");
    }
    Ok(hasher.digests().get(algorithm).expect("the hasher was made for it"))
}

/// Says why an object is not there any more: the upload ended or went on without it, or it is lost.
async fn given_up(call: &Call<'_>, upload: &Upload, name: String) -> Refusal {
    let (id, seen) = (upload.id, upload.clone());
    let now = call.store(move |store| Ok((store.upload(id)?, store.has_changed(&seen)?))).await;
    match now {
        Ok((now, _)) if now.state != State::Open => ended(now.state).into(),
        Ok((_, true)) => Kind::Superseded.into(),
        Ok((_, false)) => StoreError::MissingObject { name }.into(),
        Err(refusal) => refusal,
    }
}
