//! The first answer. Owns the question and its repetition, until an answer brings a file or none can be had; what an
//! answer is good for is decided by `decide_first`.

use hapax_proto::digest::Digests;
use hapax_proto::pin::foreign::{First, Opening, Version, decide_first};
use hapax_proto::pin::naming::file_name;
use hapax_proto::pin::{Refusal, Response};

use super::line::{Body, Line};
use crate::attempt::Attempts;
use crate::error::TransferError;
use crate::wire;

/// How often an answer of no use is asked for again, before it is believed.
pub(super) const AGAIN_MAX: u32 = 3;

/// Makes an error of a kind that is waited for, of one that may pass although it does not look like it.
pub(super) fn passing(error: &TransferError) -> TransferError {
    TransferError::Disconnected { doing: error.to_string(), source: None }
}

/// A file whose first answer is coming in.
pub(super) struct Opened {
    pub(super) version: Version,
    /// The bytes from the first one on.
    pub(super) body: Body,
    /// Whether they are all there is to come: the server does no ranges.
    pub(super) is_whole: bool,
    /// A safe name for it.
    pub(super) name: String,
}

/// Asks until the file begins to come. A page is not taken for what was something else `before`, as far as is known.
pub(super) async fn open(
    line: &Line,
    mut opening: Opening,
    (known, before): (&Digests, Option<&Version>),
) -> Result<Opened, TransferError> {
    let mut attempts = Attempts::new(line.policy(), line.progress(), 0);
    let mut pages = 0;
    loop {
        let answer = match line.ask_first(opening).await {
            Ok(answer) => answer,
            Err(error) => {
                attempts.after(error, 0).await?;
                continue;
            }
        };
        let response = Response { status: answer.status(), fields: answer.fields(), received: wire::now() };
        let name = file_name(answer.fields(), line.address().path());
        let (version, announced, is_whole) = match decide_first(opening, &response) {
            // Without anything that pins it, no second answer could bring the rest.
            First::Part { version, span }
                if version.size != Some(span.length()) && version.held(known).is_none() =>
            {
                opening = Opening::Plain;
                continue;
            }
            First::Part { version, span } => (version, Some(span.length()), false),
            First::Whole { version } => {
                let size = version.size;
                (version, size, true)
            }
            First::AskPlainly => {
                opening = Opening::Plain;
                continue;
            }
            First::Retry { .. } => {
                attempts.after(answer.refusal().await, 0).await?;
                continue;
            }
            First::Refuse(refusal) if answer.status().is_success() => return Err(line.unusable(refusal)),
            // A refusal by status says more in its body.
            First::Refuse(_) => return Err(answer.refusal().await),
        };
        if before.is_some_and(|before| version.is_page_instead_of(before)) {
            pages += 1;
            let error = line.unusable(Refusal::Interposed);
            if pages >= AGAIN_MAX {
                return Err(error);
            }
            attempts.after(passing(&error), 0).await?;
            continue;
        }
        return Ok(Opened { version, body: line.body(answer, announced), is_whole, name });
    }
}
