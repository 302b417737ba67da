use proptest::prelude::*;

use std::time::Duration;

use super::{ECHO, Quoted, Span, is_hidden, looked_up, shortened};

proptest! {
    #[test]
    fn whatever_is_repeated_is_short_and_plain(text in any::<String>(), times in 1usize..2_000, most in 0usize..600) {
        let text = text.repeat(times);
        let quoted = Quoted(&text).to_string();
        // An escape takes at most ten bytes per byte.
        prop_assert!(quoted.len() <= 10 * ECHO + 40, "{} bytes", quoted.len());
        prop_assert!(!quoted.contains(is_hidden), "{quoted:?}");
        let short = shortened(&text, most);
        prop_assert!(short.len() <= most, "{} of {most} bytes", short.len());
        prop_assert!(!short.contains(is_hidden));
    }

    #[test]
    fn what_fits_stays_as_it_is(text in "[a-zäß. ]{0,60}") {
        prop_assert_eq!(shortened(&text, 200), text.clone());
        prop_assert_eq!(Quoted(&text).to_string(), format!("{text:?}"));
        prop_assert_eq!(looked_up(text.clone(), 240), text);
    }

    #[test]
    fn a_name_that_is_too_long_stays_too_long(text in "[aé€😀]{1,400}", most in 0usize..300) {
        let kept = looked_up(text.clone(), most);
        prop_assert!(text.starts_with(&kept));
        prop_assert_eq!(kept.len() > most, text.len() > most);
        prop_assert!(kept.len() <= most + 4);
    }
}

#[test]
fn spans_are_written_as_people_write_them() {
    let shown = |nanos| Span(Duration::from_nanos(nanos)).to_string();
    let milli = 1_000_000;
    let second = 1_000 * milli;
    assert_eq!(
        [
            0,
            300_000,
            500 * milli,
            1_800_123_456,
            64 * second,
            119_999_999_999,
            5_400 * second,
            30 * 86_400 * second
        ]
        .map(shown),
        ["0s", "<1ms", "500ms", "1.8s", "64s", "2m", "1h30m", "30d"]
    );
}
