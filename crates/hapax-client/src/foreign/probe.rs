//! The first answer. Owns the question and its repetition, until an answer brings a file or none can be had; what an
//! answer is good for is decided by `decide_first`.

use hapax_proto::digest::Digests;
use hapax_proto::pin::Response;
use hapax_proto::pin::foreign::{First, Opening, Version, decide_first};
use hapax_proto::pin::naming::file_name;

use super::line::{Body, Line};
use crate::attempt::Attempts;
use crate::error::TransferError;
use crate::wire;

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

/// Asks until the file begins to come.
pub(super) async fn open(
    line: &Line,
    mut opening: Opening,
    known: &Digests,
) -> Result<Opened, TransferError> {
    let mut attempts = Attempts::new(line.policy(), line.progress(), 0);
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
        return Ok(Opened { version, body: line.body(answer, announced), is_whole, name });
    }
}
