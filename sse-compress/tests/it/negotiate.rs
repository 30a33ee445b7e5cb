use proptest::prelude::*;
use sse_compress::{AcceptEncoding, Coding, Quality};

const OFFERED: [Coding; 2] = [Coding::Gzip, Coding::Identity];

#[test]
fn the_header_decides() {
    use Coding::{Gzip, Identity};
    for (header, expected) in [
        ("gzip", Some(Gzip)),
        ("gzip, deflate, br, zstd", Some(Gzip)), // Chrome
        ("GZIP", Some(Gzip)),
        ("x-gzip", Some(Gzip)),
        ("*", Some(Gzip)),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", Some(Gzip)),
        ("gzip;q=0.001", Some(Gzip)),
        ("gzip ; q=0.5", Some(Gzip)),
        ("gzip;Q=0.5", Some(Gzip)),
        ("", Some(Identity)),
        ("br", Some(Identity)),
        ("zstd", Some(Identity)),
        ("identity", Some(Identity)),
        ("gzip;q=0", Some(Identity)),
        ("gzip;q=0.000, *;q=1", Some(Identity)),
        ("identity;q=1, gzip;q=0.5", Some(Identity)),
        ("identity;q=0.5, gzip;q=0.5", Some(Gzip)), // among equals, the first offered
        ("identity;q=0, gzip;q=0", None),
        ("*;q=0", None),
        ("identity;q=0, br", None),
        ("*;q=0, identity;q=0.1", Some(Identity)),
        // Weights that are not weights: such a member is as good as absent.
        ("gzip;q=2", Some(Identity)),
        ("gzip;q=0.1234", Some(Identity)),
        ("gzip;q=-1", Some(Identity)),
        ("gzip;q=", Some(Identity)),
        ("gzip;level=9", Some(Identity)),
        ("gzip;q=1.001", Some(Identity)),
        // Said twice: the first counts.
        ("gzip;q=0, gzip", Some(Identity)),
        (", ,gzip,,", Some(Gzip)),
    ] {
        assert_eq!(
            AcceptEncoding::parse(header).choose(&OFFERED),
            expected,
            "{header:?}"
        );
    }
    assert_eq!(AcceptEncoding::absent().choose(&OFFERED), Some(Identity));
}

#[test]
fn several_lines_are_one_list() {
    let header = AcceptEncoding::parse("br").and("gzip;q=0.5");
    assert_eq!(header, AcceptEncoding::parse("br, gzip;q=0.5"));
    assert_eq!(header.quality(Coding::Gzip).thousandths(), 500);
    assert_eq!(header.quality(Coding::Deflate), Quality::NONE);
}

#[test]
fn deflate_is_chosen_only_where_it_is_offered() {
    let header = AcceptEncoding::parse("deflate, gzip;q=0.5");
    assert_eq!(header.choose(&OFFERED), Some(Coding::Gzip));
    assert_eq!(
        header.choose(&[Coding::Deflate, Coding::Gzip]),
        Some(Coding::Deflate)
    );
    assert_eq!(header.choose(&[]), None);
}

#[test]
fn names_are_read_back() {
    for coding in [Coding::Identity, Coding::Gzip, Coding::Deflate] {
        assert_eq!(Coding::from_name(coding.name()), Some(coding));
    }
    assert_eq!(Coding::from_name("br"), None);
    assert_eq!(Coding::from_name("zstd"), None);
}

proptest! {
    #[test]
    fn no_header_is_an_error(header in "\\PC*|([a-z*-]{0,8}(;q=[0-9.]{0,6})?,? ?){0,100}") {
        let parsed = AcceptEncoding::parse(&header);
        for coding in OFFERED {
            prop_assert!(parsed.quality(coding) <= Quality::FULL);
        }
        if let Some(chosen) = parsed.choose(&OFFERED) {
            prop_assert!(parsed.quality(chosen) > Quality::NONE);
            prop_assert!(OFFERED.iter().all(|&other| parsed.quality(other) <= parsed.quality(chosen)));
        }
    }
}
