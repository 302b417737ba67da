use proptest::prelude::*;

use super::*;

fn last(pieces: &[&[u8]]) -> String {
    let mut last = LastLine::default();
    pieces.iter().for_each(|piece| last.take(piece));
    last.text()
}

#[test]
fn the_last_line_with_something_in_it_is_kept() {
    assert_eq!(last(&[]), "");
    assert_eq!(last(&[b"one\ntwo\n"]), "two");
    assert_eq!(last(&[b"one\r\n\n  \n"]), "one");
    assert_eq!(last(&[b"one\ntw", b"o"]), "two");
    assert_eq!(last(&[b"one\n", b"  "]), "one");
    assert_eq!(last(&[b"\x1b[31mred\x07\xff\n"]), "\\u{1b}[31mred\\u{7}\u{fffd}");
}

#[test]
fn a_long_line_is_cut_off() {
    let text = last(&[&[b'x'; 1_000], b"y\n"]);
    assert_eq!((text.len(), text.ends_with("x…")), (LAST_LINE, true));
    // The ellipsis disappears once another line follows.
    assert_eq!(last(&[&[b'x'; 1_000], b"\nend\n"]), "end");
    let cut = last(&["ä".repeat(1_000).as_bytes()]);
    assert!(cut.len() <= LAST_LINE && cut.ends_with("ä…"), "{cut}");
    assert_eq!(last(&[&[b'x'; LAST_LINE]]).len(), LAST_LINE);
}

proptest! {
    #[test]
    fn it_is_the_same_in_whatever_pieces_and_bounded(bytes in prop::collection::vec(any::<u8>(), 0..600), cut in 0usize..600) {
        let cut = cut.min(bytes.len());
        let whole = last(&[&bytes]);
        prop_assert_eq!(&last(&[&bytes[..cut], &bytes[cut..]]), &whole);
        prop_assert!(whole.len() <= LAST_LINE && !whole.contains(is_hidden), "{:?}", whole);
    }
}
