//! Numbers as people read them: sizes, durations, shares and the bar of a transfer; and names that a terminal may show. Pure functions over values.

use std::time::Duration;

const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// Escapes what could move the cursor or colour the terminal, turn the direction of what stands behind it, or be there
/// without being seen: names come from other people. Doing it twice changes nothing more.
pub(crate) fn printable(text: &str) -> String {
    let escaped = |c: char| c.is_control() || is_deceiving(c);
    text.chars()
        .flat_map(|c| if escaped(c) { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

/// Tells whether a character is one of Unicode's format characters that make a name look like another one. Joiners (U+200C,
/// U+200D) and variation selectors are not meant: scripts and emoji need them.
fn is_deceiving(c: char) -> bool {
    matches!(c,
        // What turns the direction of text (UAX #9).
        '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
        // What breaks lines.
        | '\u{2028}'..='\u{2029}'
        // What is not seen: soft hyphen, blanks without width, annotations, tags.
        | '\u{ad}' | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Writes a number of bytes with two or three significant digits.
pub(crate) fn bytes(count: u64) -> String {
    let mut unit = 0;
    let mut whole = count;
    while whole >= 1_024 && unit + 1 < UNITS.len() {
        whole /= 1_024;
        unit += 1;
    }
    if unit == 0 {
        return format!("{count} B");
    }
    let scale = 1u64 << (10 * unit);
    let tenths = u128::from(count) * 10 / u128::from(scale);
    if tenths < 100 && !tenths.is_multiple_of(10) {
        format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    } else {
        format!("{whole} {}", UNITS[unit])
    }
}

/// Reads a number of bytes: digits, and a unit if any.
pub(crate) fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim_start() {
        "" => "B",
        unit => unit,
    };
    let power = UNITS.iter().position(|known| known.eq_ignore_ascii_case(unit))?;
    number.parse::<u64>().ok()?.checked_mul(1 << (10 * power))
}

/// Returns how many hundredths of the whole a part is, rounded down; all of nothing is everything.
pub(crate) fn percent(part: u64, whole: u64) -> u64 {
    if whole == 0 {
        return 100;
    }
    u64::try_from(u128::from(part.min(whole)) * 100 / u128::from(whole)).expect("a share is at most 100")
}

/// Writes a duration in its two largest units.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// Writes a number with the right form of its noun.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Draws a bar of `width` cells: solid what is safe, hatched what was sent, dotted what is to come.
pub(crate) fn bar(width: u64, solid: u64, sent: u64, whole: u64) -> String {
    let cells = |part: u64| {
        if whole == 0 {
            return width;
        }
        let cells = u128::from(part.min(whole)) * u128::from(width) / u128::from(whole);
        u64::try_from(cells).expect("no more cells than the bar has")
    };
    let solid_cells = cells(solid);
    let sent_cells = cells(sent.max(solid)) - solid_cells;
    let repeat = |text: &str, cells: u64| text.repeat(usize::try_from(cells).unwrap_or_default());
    let rest = width - solid_cells - sent_cells;
    repeat("█", solid_cells) + &repeat("▒", sent_cells) + &repeat("·", rest)
}

/// A speed as a moving average: what happened long ago counts ever less.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Speed {
    bytes_per_second: f64,
    /// How much of the average was filled yet: early on it is the plain mean.
    weight: f64,
}

impl Speed {
    /// After this long a sample counts a third of what it did.
    const MEMORY: Duration = Duration::from_secs(5);

    /// Takes in how many bytes were moved in an interval.
    #[expect(clippy::cast_precision_loss, reason = "a speed is shown with two digits")]
    pub(crate) fn sample(&mut self, bytes: u64, interval: Duration) {
        let seconds = interval.as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let fades = (-seconds / Self::MEMORY.as_secs_f64()).exp();
        self.bytes_per_second = self.bytes_per_second * fades + bytes as f64 / seconds * (1.0 - fades);
        self.weight = self.weight * fades + (1.0 - fades);
    }

    /// Returns whole bytes a second.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a speed is finite and positive"
    )]
    pub(crate) fn per_second(self) -> u64 {
        if self.weight > 0.0 { (self.bytes_per_second / self.weight) as u64 } else { 0 }
    }

    /// Returns how long the rest takes at this speed, if it gets anywhere.
    pub(crate) fn rest(self, bytes: u64) -> Option<Duration> {
        Some(Duration::from_secs(bytes.checked_div(self.per_second())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_show_what_is_in_them() {
        #[track_caller]
        fn check(name: &str, shown: &str) {
            assert_eq!(printable(name), shown);
            assert_eq!(printable(shown), shown);
        }
        check("a b.txt", "a b.txt");
        check("a\n\u{1b}[31m\u{7f}\u{85}", "a\\n\\u{1b}[31m\\u{7f}\\u{85}");
        check("invoice\u{202e}fdp.exe", "invoice\\u{202e}fdp.exe");
        for c in
            "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}"
                .chars()
        {
            check(&format!("a{c}b"), &format!("a\\u{{{:x}}}b", u32::from(c)));
        }
        check("a\u{200b}b\u{2060}c\u{feff}d\u{ad}e", "a\\u{200b}b\\u{2060}c\\u{feff}d\\u{ad}e");
        check("a\u{2028}b\u{e0061}c", "a\\u{2028}b\\u{e0061}c");
        // Persian, Devanagari and a family need their joiners, a heart its selector.
        check("\u{645}\u{6cc}\u{200c}\u{62e}", "\u{645}\u{6cc}\u{200c}\u{62e}");
        check("\u{915}\u{94d}\u{200d}\u{937}", "\u{915}\u{94d}\u{200d}\u{937}");
        check("\u{1f468}\u{200d}\u{1f467} \u{2764}\u{fe0f}", "\u{1f468}\u{200d}\u{1f467} \u{2764}\u{fe0f}");
        check("\u{5e9}\u{5dc}\u{5d5}\u{5dd}", "\u{5e9}\u{5dc}\u{5d5}\u{5dd}");
    }

    #[test]
    fn sizes_are_short() {
        #[track_caller]
        fn check(count: u64, text: &str) {
            assert_eq!(bytes(count), text);
        }
        check(0, "0 B");
        check(1_023, "1023 B");
        check(1_024, "1 KiB");
        check(1_536, "1.5 KiB");
        check(10_239, "9.9 KiB");
        check(10_240, "10 KiB");
        check(20 << 30, "20 GiB");
        check(37 << 28, "9.2 GiB");
        check(u64::MAX, "16383 PiB");
    }

    #[test]
    fn sizes_are_read() {
        #[track_caller]
        fn check(text: &str, count: Option<u64>) {
            assert_eq!(parse_bytes(text), count);
        }
        check("0", Some(0));
        check("17", Some(17));
        check("5GiB", Some(5 << 30));
        check("5 gib", Some(5 << 30));
        check("5GB", None);
        check("GiB", None);
        check("-1", None);
        check("99999999PiB", None);
    }

    #[test]
    fn shares_are_rounded_down() {
        #[track_caller]
        fn check(part: u64, whole: u64, share: u64) {
            assert_eq!(percent(part, whole), share);
        }
        check(0, 0, 100);
        check(0, 5, 0);
        check(999, 1_000, 99);
        check(u64::MAX, u64::MAX, 100);
        check(7, 5, 100);
    }

    #[test]
    fn durations_have_two_units() {
        #[track_caller]
        fn check(seconds: u64, text: &str) {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
        check(0, "0 s");
        check(59, "59 s");
        check(61, "1 min 1 s");
        check(3_660, "1 h 1 min");
        check(90_000, "1 d 1 h");
    }

    #[test]
    fn a_bar_is_solid_then_hatched_then_dotted() {
        #[track_caller]
        fn check(solid: u64, sent: u64, whole: u64, drawn: &str) {
            assert_eq!(bar(5, solid, sent, whole), drawn);
        }
        check(0, 0, 100, "·····");
        check(40, 60, 100, "██▒··");
        check(40, 10, 100, "██···");
        check(100, 100, 100, "█████");
        check(200, 300, 100, "█████");
        check(0, 0, 0, "█████");
        check(19, 20, 100, "▒····");
    }

    #[test]
    fn a_speed_follows_what_happens() {
        let mut speed = Speed::default();
        assert_eq!((speed.per_second(), speed.rest(5)), (0, None));
        let second = Duration::from_secs(1);
        speed.sample(1_000, second);
        assert!((999..=1_000).contains(&speed.per_second()), "the first sample is the speed");
        for _ in 0..50 {
            speed.sample(3_000, second);
        }
        assert!((2_990..=3_000).contains(&speed.per_second()), "{speed:?}");
        assert!(speed.rest(30_000).is_some_and(|rest| rest.as_secs() == 10));
        speed.sample(1, Duration::ZERO);
        assert!((2_990..=3_000).contains(&speed.per_second()));
    }
}
