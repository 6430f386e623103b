//! What a command says: results and NDJSON events on standard output, notes and progress on standard error. Owns the
//! choice between people, machines and silence; decides no words of its own.

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use indicatif::{MultiProgress, ProgressDrawTarget};
use serde::Serialize;

use crate::args::Global;
use crate::exit::Failure;
use crate::words::printable;

/// For whom a command talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// People: lines of text.
    People,
    /// Programs: one JSON object a line on standard output.
    Programs,
    /// Nobody: errors only.
    Nobody,
}

/// Where a command talks. Clones share the bars.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    audience: Audience,
    bars: Option<Arc<MultiProgress>>,
    /// Whether standard output carries the bytes of a file, so that nothing else may stand there.
    output_taken: bool,
}

impl Screen {
    /// Makes the screen that the flags ask for.
    pub(crate) fn new(global: &Global) -> Self {
        let audience = match (global.json, global.quiet) {
            (true, _) => Audience::Programs,
            (false, true) => Audience::Nobody,
            (false, false) => Audience::People,
        };
        let draws = audience == Audience::People && std::io::stderr().is_terminal();
        let bars =
            draws.then(|| Arc::new(MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10))));
        Self { audience, bars, output_taken: false }
    }

    /// Gives standard output to the bytes of a file: what people are told goes to standard error from now on, and
    /// what programs are told is left out.
    #[must_use]
    pub(crate) fn without_output(mut self) -> Self {
        self.output_taken = true;
        self
    }

    /// Returns for whom this is.
    pub(crate) fn audience(&self) -> Audience {
        self.audience
    }

    /// Returns the bars, if standard error is a terminal that people look at.
    pub(crate) fn bars(&self) -> Option<&MultiProgress> {
        self.bars.as_deref()
    }

    /// Writes a line of a result that was asked for: it is never left out, but for programs it is an event instead.
    pub(crate) fn result(&self, line: &str, event: &impl Serialize) {
        match self.audience {
            Audience::Programs => self.event(event),
            Audience::People | Audience::Nobody => self.output(line),
        }
    }

    /// Says in a line what came of something.
    pub(crate) fn outcome(&self, line: &str, event: &impl Serialize) {
        match self.audience {
            Audience::Programs => self.event(event),
            Audience::People if self.output_taken => self.note(line),
            Audience::People => self.output(&printable_lines(line)),
            Audience::Nobody => {}
        }
    }

    /// Tells programs that something happened.
    pub(crate) fn event(&self, event: &impl Serialize) {
        if self.audience == Audience::Programs && !self.output_taken {
            self.output(&serde_json::to_string(event).expect("events are plain values"));
        }
    }

    /// Tells people something on standard error.
    pub(crate) fn note(&self, line: &str) {
        if self.audience == Audience::People {
            self.above_the_bars(|| error_line(line));
        }
    }

    /// Says what went wrong, and what to do next.
    pub(crate) fn failure(&self, failure: &Failure) {
        self.failed(failure);
        if let Some(hint) = &failure.hint {
            self.hint(hint);
        }
    }

    /// Says what to do next.
    pub(crate) fn hint(&self, hint: &str) {
        self.above_the_bars(|| error_line(&format!("hint: {hint}")));
    }

    /// Says in one line what went wrong, and leaves what to do next to be said for several failures at once; programs are
    /// told that, too.
    pub(crate) fn failed(&self, failure: &Failure) {
        self.event(&FailureEvent {
            event: "error",
            code: failure.code.number(),
            name: failure.code.name(),
            message: &failure.sentence,
            hint: failure.hint.as_deref(),
        });
        self.above_the_bars(|| error_line(&format!("hapax: {failure}")));
    }

    /// Takes the bars off the terminal.
    pub(crate) fn clear(&self) {
        if let Some(bars) = &self.bars {
            // A terminal that is gone needs no clearing.
            let _ = bars.clear();
        }
    }

    fn output(&self, line: &str) {
        self.above_the_bars(|| {
            let mut output = anstream::stdout().lock();
            // Whoever reads may have heard enough; the command goes on, and its exit code tells how it went.
            let _ = writeln!(output, "{line}").and_then(|()| output.flush());
        });
    }

    fn above_the_bars(&self, write: impl FnOnce()) {
        match &self.bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }
}

/// Escapes what names bring into the lines of a text.
fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// Writes a line to standard error, and only one whatever names are in it.
pub(crate) fn error_line(line: &str) {
    let line = printable(line);
    // There is nobody left to tell it if that fails.
    let _ = writeln!(anstream::stderr().lock(), "{line}");
}

#[derive(Serialize)]
struct FailureEvent<'a> {
    event: &'static str,
    code: u8,
    name: &'static str,
    message: &'a str,
    hint: Option<&'a str>,
}
