//! How transfers look while they run: a total bar and a row for each file on a terminal, plain lines elsewhere,
//! events for programs. Owns the sums and the drawing; moves no byte.
//!
//! ```text
//!   film.mkv   ██████████▒▒▒·············   41 %  3.7 GiB of 9.2 GiB  84 MiB/s  1 min 6 s left
//!              └ safe ──┘└─┘ sent, not safe yet
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hapax_client::progress::{Event, Progress};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::screen::{Audience, Screen};
use crate::words::{self, Speed};

/// How many files have a row of their own.
const ROWS_MAX: usize = 4;
/// How many cells a bar has at least and at most; in between it takes what the rest of the row leaves.
const BAR_CELLS: (usize, usize) = (8, 40);
/// How many characters of a file's name are shown at most.
const NAME_CHARS: usize = 24;
/// How often a row is drawn anew at most, and a line written where there are no rows.
const DRAW_PERIOD: Duration = Duration::from_millis(100);
const LINE_PERIOD: Duration = Duration::from_secs(5);

/// The sums of one transfer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    /// How large the whole is, once known.
    pub(crate) size: Option<u64>,
    /// What was there when the latest round began.
    pub(crate) kept: u64,
    /// What is safe.
    pub(crate) solid: u64,
    /// What went over the wire and counts, in the latest round.
    round: u64,
    /// What went over the wire at all.
    pub(crate) moved: u64,
    /// How often the source turned out to be another version.
    pub(crate) changes: u32,
}

impl Sums {
    /// Takes an event into the sums.
    pub(crate) fn add(&mut self, event: &Event) {
        match event {
            Event::Begun { size, kept } => {
                let kept = kept.get();
                *self = Self {
                    size: size.map(hapax_proto::span::Length::get),
                    kept,
                    solid: kept,
                    round: 0,
                    ..*self
                };
            }
            Event::Moved(length) => {
                self.round = self.round.saturating_add(length.get());
                self.moved = self.moved.saturating_add(length.get());
            }
            Event::Lost(length) => self.round = self.round.saturating_sub(length.get()),
            Event::Solid(length) => self.solid = self.solid.saturating_add(length.get()),
            Event::Instant | Event::Done => self.solid = self.size.unwrap_or(self.solid),
            Event::Changed => self.changes += 1,
            _ => {}
        }
    }

    /// Returns how much went over the wire, or was there, in the latest round: never less than what is safe.
    fn sent(&self) -> u64 {
        self.kept.saturating_add(self.round).max(self.solid)
    }
}

/// What a program is told about a transfer.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Told<'a> {
    Begun { file: &'a str, size: Option<u64>, kept: u64 },
    Progress { file: &'a str, size: Option<u64>, solid: u64, moved: u64 },
    HashingFirst { file: &'a str },
    Instant { file: &'a str },
    Changed { file: &'a str },
    Damaged { file: &'a str, part: String },
    Retrying { file: &'a str, after_ms: u64, reason: &'a str },
}

/// Says an event in the words for programs; `None` for what only moves a bar.
fn told<'a>(file: &'a str, event: &'a Event, sums: &Sums) -> Option<Told<'a>> {
    Some(match event {
        Event::Begun { .. } => Told::Begun { file, size: sums.size, kept: sums.kept },
        Event::Solid(_) => Told::Progress { file, size: sums.size, solid: sums.solid, moved: sums.moved },
        Event::HashingFirst => Told::HashingFirst { file },
        Event::Instant => Told::Instant { file },
        Event::Changed => Told::Changed { file },
        Event::Damaged(part) => Told::Damaged { file, part: part.to_string() },
        Event::Retrying { after, reason } => {
            Told::Retrying { file, after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX), reason }
        }
        _ => return None,
    })
}

/// Shows the transfers of one command.
pub(crate) struct Board {
    screen: Screen,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rows: BTreeMap<u64, Row>,
    next: u64,
    total: Option<Row>,
    /// Bytes of files that are through already.
    through: u64,
}

struct Row {
    name: String,
    sums: Sums,
    speed: Speed,
    /// When the row was drawn last, and how much was sent then.
    drawn: (Instant, u64),
    bar: Option<ProgressBar>,
}

impl Board {
    /// Makes an empty board.
    pub(crate) fn new(screen: Screen) -> Arc<Self> {
        Arc::new(Self { screen, state: Mutex::default() })
    }

    /// Adds a bar for the sum of several files of this size together.
    pub(crate) fn expect(&self, files: u64, bytes: u64) {
        let name = words::count(files, "file", "files");
        let row = self.row(name, Sums { size: Some(bytes), ..Sums::default() });
        self.lock().total = Some(row);
    }

    /// Begins to show a file.
    pub(crate) fn file(self: &Arc<Self>, name: &str) -> Watcher {
        let mut row = self.row(name.to_owned(), Sums::default());
        let mut state = self.lock();
        if state.rows.len() >= ROWS_MAX
            && let Some(bar) = row.bar.take()
        {
            bar.finish_and_clear();
        }
        state.next += 1;
        let id = state.next;
        state.rows.insert(id, row);
        Watcher { board: Arc::clone(self), id }
    }

    fn row(&self, name: String, sums: Sums) -> Row {
        let bar = self.screen.bars().map(|bars| {
            let style = ProgressStyle::with_template("{wide_msg}").expect("the template is well-formed");
            bars.add(ProgressBar::no_length().with_style(style))
        });
        Row { name, sums, speed: Speed::default(), drawn: (Instant::now(), 0), bar }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, id: u64, event: &Event) {
        let mut state = self.lock();
        let Some(row) = state.rows.get_mut(&id) else { return };
        row.sums.add(event);
        match self.screen.audience() {
            Audience::Nobody => {}
            Audience::Programs => {
                if let Some(told) = told(&row.name, event, &row.sums) {
                    self.screen.event(&told);
                }
            }
            Audience::People => {
                self.note(&row.name, event);
                let period = if row.bar.is_some() { DRAW_PERIOD } else { LINE_PERIOD };
                if let Some(line) = row.line_after(period) {
                    self.draw(row, &line);
                }
                Self::draw_total(&mut state);
            }
        }
    }

    /// Says what people should know although it moves no bar.
    fn note(&self, name: &str, event: &Event) {
        match event {
            Event::Retrying { after, reason } => {
                self.screen.note(&format!("{name}: {reason}; trying again in {}", words::duration(*after)));
            }
            Event::HashingFirst => {
                self.screen.note(&format!("{name}: the server may have it; hashing it before sending more"));
            }
            Event::Changed => self.screen.note(&format!("{name} changed; comparing again")),
            Event::Damaged(part) => {
                self.screen.note(&format!("{name}: part {part} arrived damaged; fetching it again"));
            }
            _ => {}
        }
    }

    fn draw(&self, row: &Row, line: &str) {
        match &row.bar {
            Some(bar) => bar.set_message(line.to_owned()),
            None if self.screen.bars().is_none() => self.screen.note(line),
            None => {}
        }
    }

    fn draw_total(state: &mut State) {
        let (solid, sent) = state
            .rows
            .values()
            .fold((0, 0), |(solid, sent), row| (solid + row.sums.solid, sent + row.sums.sent()));
        let through = state.through;
        let Some(total) = &mut state.total else { return };
        total.sums.solid = through + solid;
        total.sums.round = through + sent;
        if total.bar.is_some()
            && let Some(line) = total.line_after(DRAW_PERIOD)
            && let Some(bar) = &total.bar
        {
            bar.set_message(line);
        }
    }

    fn end(&self, id: u64) -> Sums {
        let mut state = self.lock();
        let Some(row) = state.rows.remove(&id) else { return Sums::default() };
        if let Some(bar) = &row.bar {
            bar.finish_and_clear();
        }
        state.through += row.sums.solid;
        row.sums
    }
}

impl Row {
    /// Returns the row as a line, unless it was drawn less than `period` ago.
    fn line_after(&mut self, period: Duration) -> Option<String> {
        let (then, sent_then) = self.drawn;
        let interval = then.elapsed();
        if interval < period {
            return None;
        }
        self.speed.sample(self.sums.moved.max(self.sums.round).saturating_sub(sent_then), interval);
        self.drawn = (Instant::now(), self.sums.moved.max(self.sums.round));
        Some(line(&self.name, &self.sums, self.speed, self.bar.as_ref().map(|_| columns())))
    }
}

/// Returns how wide the terminal behind standard error is; what all terminals have if it does not say.
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr()).map(|size| usize::from(size.ws_col));
    size.ok().filter(|columns| *columns > 0).unwrap_or(80)
}

/// Writes what is known of a transfer in one line: with a bar where a terminal is so many columns wide.
fn line(name: &str, sums: &Sums, speed: Speed, columns: Option<usize>) -> String {
    let name = &words::printable(name);
    let Some(size) = sums.size else {
        return format!("{name}: {} at {}/s", words::bytes(sums.sent()), words::bytes(speed.per_second()));
    };
    let share = words::percent(sums.solid, size);
    let amount = format!("{} of {}", words::bytes(sums.solid), words::bytes(size));
    let rest = speed.rest(size.saturating_sub(sums.sent()));
    let rest = rest.map(|rest| format!("  {} left", words::duration(rest))).unwrap_or_default();
    let pace = format!("{}/s{rest}", words::bytes(speed.per_second()));
    let Some(columns) = columns else {
        return format!("{name}: {share} %, {amount}, {pace}");
    };
    let name_chars = NAME_CHARS.min(columns / 4);
    let behind = format!("{share:>3} %  {amount}  {pace}");
    let (least, most) = BAR_CELLS;
    let cells = columns.saturating_sub(name_chars + behind.chars().count() + 5).clamp(least, most);
    let bar = words::bar(cells as u64, sums.solid, sums.sent(), size);
    format!("{:name_chars$}  {bar}  {behind}", shortened(name, name_chars))
}

/// Cuts a name in its middle, where names differ least.
fn shortened(name: &str, chars_max: usize) -> String {
    let chars: Vec<char> = name.chars().collect();
    if chars.len() <= chars_max {
        return name.to_owned();
    }
    let head = chars_max / 2;
    let tail = chars_max.saturating_sub(head + 1);
    let parts = [&chars[..head], &['…'], &chars[chars.len() - tail..]];
    parts.concat().into_iter().collect()
}

/// Shows one file for as long as it lives.
pub(crate) struct Watcher {
    board: Arc<Board>,
    id: u64,
}

impl Watcher {
    /// Returns the sums of the transfer as they are now.
    pub(crate) fn sums(&self) -> Sums {
        self.board.lock().rows.get(&self.id).map(|row| row.sums).unwrap_or_default()
    }
}

impl Progress for Watcher {
    fn event(&self, event: Event) {
        self.board.take(self.id, &event);
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.board.end(self.id);
    }
}

#[cfg(test)]
mod tests {
    use hapax_proto::span::Length;

    use super::*;

    fn length(bytes: u64) -> Length {
        Length::new(bytes)
    }

    fn sums(events: &[Event]) -> Sums {
        let mut sums = Sums::default();
        for event in events {
            sums.add(event);
        }
        sums
    }

    fn begun(size: u64, kept: u64) -> Event {
        Event::Begun { size: Some(length(size)), kept: length(kept) }
    }

    #[test]
    fn events_add_up() {
        #[track_caller]
        fn check(events: &[Event], solid: u64, sent: u64, moved: u64) {
            let sums = sums(events);
            assert_eq!((sums.solid, sums.sent(), sums.moved), (solid, sent, moved));
        }
        let (moved, lost, solid) =
            (Event::Moved(length(30)), Event::Lost(length(20)), Event::Solid(length(30)));
        check(&[begun(100, 0)], 0, 0, 0);
        check(&[begun(100, 40)], 40, 40, 0);
        check(&[begun(100, 40), moved.clone()], 40, 70, 30);
        check(&[begun(100, 40), moved.clone(), lost], 40, 50, 30);
        check(&[begun(100, 40), moved.clone(), solid.clone()], 70, 70, 30);
        check(&[begun(100, 40), solid.clone()], 70, 70, 0);
        check(&[begun(100, 0), moved.clone(), Event::Changed, begun(90, 30)], 30, 30, 30);
        check(&[begun(100, 40), Event::Instant], 100, 100, 0);
        check(&[Event::Begun { size: None, kept: Length::ZERO }, moved, solid, Event::Done], 30, 30, 30);
    }

    #[test]
    fn a_line_says_how_far_and_how_fast() {
        let mut speed = Speed::default();
        speed.sample(10 << 20, Duration::from_secs(1));
        let state = sums(&[begun(100 << 20, 40 << 20), Event::Moved(length(10 << 20))]);
        assert_eq!(line("a", &state, speed, None), "a: 40 %, 40 MiB of 100 MiB, 10 MiB/s  5 s left");
        let drawn = line("a", &state, speed, Some(80));
        assert!(drawn.starts_with("a                     ███"), "{drawn}");
        assert!(drawn.ends_with("···   40 %  40 MiB of 100 MiB  10 MiB/s  5 s left"), "{drawn}");
        assert!(drawn.contains("█▒") && drawn.chars().count() < 80, "{drawn}");
        let wide = line("a", &state, speed, Some(200));
        assert_eq!(wide.matches(['█', '▒', '·']).count(), 40);
        assert_eq!(line("a", &state, speed, Some(0)).matches(['█', '▒', '·']).count(), 8);
        let stream = sums(&[Event::Begun { size: None, kept: Length::ZERO }, Event::Moved(length(2_048))]);
        assert_eq!(line("-", &stream, Speed::default(), Some(80)), "-: 2 KiB at 0 B/s");
    }

    #[test]
    fn long_names_are_cut_in_the_middle() {
        assert_eq!(shortened("film.mkv", NAME_CHARS), "film.mkv");
        let long = shortened("a very long name of a film that nobody knows.mkv", NAME_CHARS);
        assert_eq!(long.chars().count(), NAME_CHARS);
        assert!(
            long.starts_with("a very long ") && long.ends_with("knows.mkv") && long.contains('…'),
            "{long}"
        );
    }

    #[test]
    fn programs_are_told_in_json() {
        #[track_caller]
        fn check(event: &Event, json: Option<&str>) {
            let sums = sums(&[begun(9, 4)]);
            let told = told("f", event, &sums);
            assert_eq!(told.map(|told| serde_json::to_string(&told).unwrap()).as_deref(), json);
        }
        check(&begun(9, 4), Some(r#"{"event":"begun","file":"f","size":9,"kept":4}"#));
        check(
            &Event::Solid(length(1)),
            Some(r#"{"event":"progress","file":"f","size":9,"solid":4,"moved":0}"#),
        );
        check(&Event::HashingFirst, Some(r#"{"event":"hashing-first","file":"f"}"#));
        check(&Event::Instant, Some(r#"{"event":"instant","file":"f"}"#));
        check(
            &Event::Retrying { after: Duration::from_millis(5), reason: "why".to_owned() },
            Some(r#"{"event":"retrying","file":"f","after_ms":5,"reason":"why"}"#),
        );
        check(&Event::Moved(length(1)), None);
        check(&Event::Done, None);
    }
}
