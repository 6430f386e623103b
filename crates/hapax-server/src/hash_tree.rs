//! The hash tree of a file: the values by which a client proves a download, part by part. It reads no object.

use hapax_proto::dialect::native::Tree;
use hapax_proto::name::UrlPath;
use hapax_proto::problem::{Kind, Problem};
use hapax_proto::tree::{PART, part_count};
use hapax_store::catalog::EntryKind;
use http::StatusCode;

use crate::call::{Call, bad_field};
use crate::files::spell_entity_tag;
use crate::respond::{self, Refusal, Response};

/// Values in one answer at most: 2 MiB of JSON.
const PAGE_MAX: usize = 30_000;

/// `GET /api/v1/tree/<path>?etag=&grain=&from=&count=`.
///
/// # Errors
/// 412 if `etag` is no longer the file's: a client must not mix two versions. 400 for a grain other than the part. 503
/// while the identity of a composed file is computed.
pub async fn read(call: &Call<'_>, named: UrlPath) -> Result<Response, Refusal> {
    let place = call.place(named).await?;
    let (from, count) = (call.parsed::<u32>("from")?.unwrap_or(0), call.parsed::<usize>("count")?);
    if call.parsed::<u64>("grain")?.is_some_and(|grain| grain != PART.get()) {
        return Err(bad_field("grain"));
    }
    let asked = call.parameter("etag")?;
    let tree = call
        .store(move |store| {
            let Some((entry, all)) = store.entry_with_values(place.space.id, &place.path)? else {
                return Ok(Err(Kind::NotFound.into()));
            };
            let EntryKind::File { blob, entity, .. } = entry.kind else {
                return Ok(Err(Kind::IsAFolder.into()));
            };
            let etag = spell_entity_tag(store, &entity);
            if asked.is_some_and(|asked| asked != etag) {
                return Ok(Err(Refusal::from(Problem::new(Kind::Changed).member("etag", etag))));
            }
            let parts = u32::try_from(part_count(blob.size)).expect("a file has at most 2^26 parts");
            let behind = all.into_iter().skip_while(|(part, _)| part.get() < from);
            let values: Vec<_> =
                behind.take(count.unwrap_or(PAGE_MAX).min(PAGE_MAX)).map(|(_, value)| value).collect();
            let told = u32::try_from(values.len()).expect("a page is bounded");
            let end = from.saturating_add(told);
            Ok(Ok(Tree {
                etag,
                size: blob.size.get(),
                blake3: store.identity(&blob)?.blake3,
                part_size: PART.get(),
                grain: PART.get(),
                parts,
                from,
                next: (told > 0 && end < parts).then_some(end),
                values,
            }))
        })
        .await?;
    Ok(respond::json(StatusCode::OK, &tree?))
}
