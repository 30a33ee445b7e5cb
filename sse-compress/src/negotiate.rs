//! The choice of a content coding.

/// A way to encode a response body, as `Content-Encoding` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Coding {
    /// No encoding.
    #[default]
    Identity,
    /// gzip (RFC 1952).
    Gzip,
    /// Deflate in zlib's wrapper (RFC 1950). Readable here; better not offered, since implementations differ on the wrapper.
    Deflate,
}

impl Coding {
    /// The name in a `Content-Encoding` header.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// The coding of a `Content-Encoding` or `Accept-Encoding` name, in any letter case; `x-gzip` is `gzip`
    /// (RFC 9110, section 8.4.1.3).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("x-gzip") {
            return Some(Self::Gzip);
        }
        Self::ALL
            .iter()
            .copied()
            .find(|coding| coding.name().eq_ignore_ascii_case(name))
    }

    const ALL: &[Self] = &[Self::Identity, Self::Gzip, Self::Deflate];
}

/// How much a client wants something, in thousandths: 0 (not at all) to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quality(u16);

impl Quality {
    /// Not acceptable: `q=0`.
    pub const NONE: Self = Self(0);
    /// Wanted most: `q=1`, which is also what leaving it out means.
    pub const FULL: Self = Self(1000);

    /// The quality in thousandths.
    #[must_use]
    pub const fn thousandths(self) -> u16 {
        self.0
    }

    /// Reads `qvalue` (RFC 9110, section 12.4.2): `0` to `1` with at most three decimals.
    fn parse(text: &str) -> Option<Self> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        if decimals.len() > 3 || !decimals.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let decimals = [100, 10, 1]
            .iter()
            .zip(decimals.bytes())
            .map(|(worth, digit)| worth * u16::from(digit - b'0'))
            .sum();
        match (whole, decimals) {
            ("0", decimals) => Some(Self(decimals)),
            ("1", 0) => Some(Self::FULL),
            _ => None,
        }
    }
}

/// What the `Accept-Encoding` header of a request says (RFC 9110, section 12.5.3).
///
/// Members that are not understood are skipped: a header is never an error, it can only ask for less.
///
/// ```
/// use sse_compress::{AcceptEncoding, Coding};
///
/// let offered = [Coding::Gzip, Coding::Identity];
/// assert_eq!(AcceptEncoding::parse("br, gzip;q=0.8").choose(&offered), Some(Coding::Gzip));
/// assert_eq!(AcceptEncoding::parse("gzip;q=0").choose(&offered), Some(Coding::Identity));
/// assert_eq!(AcceptEncoding::absent().choose(&offered), Some(Coding::Identity));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptEncoding {
    identity: Option<Quality>,
    gzip: Option<Quality>,
    deflate: Option<Quality>,
    any: Option<Quality>,
}

impl AcceptEncoding {
    /// A request without the header. Anything is acceptable then, but a client that does not ask for compression may not be
    /// able to undo it, so only identity is chosen.
    #[must_use]
    pub const fn absent() -> Self {
        Self {
            identity: None,
            gzip: None,
            deflate: None,
            any: None,
        }
    }

    /// Reads the value of one header line.
    #[must_use]
    pub fn parse(value: &str) -> Self {
        Self::absent().and(value)
    }

    /// Adds the value of another header line, which counts as if it stood behind a comma.
    #[must_use]
    pub fn and(mut self, value: &str) -> Self {
        for member in value.split(',').take(MAX_MEMBERS) {
            let mut parts = member.split(';').map(str::trim_ascii);
            let name = parts.next().unwrap_or_default();
            let slot = match Coding::from_name(name) {
                Some(Coding::Identity) => &mut self.identity,
                Some(Coding::Gzip) => &mut self.gzip,
                Some(Coding::Deflate) => &mut self.deflate,
                None if name == "*" => &mut self.any,
                None => continue,
            };
            let quality = match parts.next() {
                None => Some(Quality::FULL),
                Some(weight) => weight
                    .split_once('=')
                    .filter(|(name, _)| name.trim_ascii_end().eq_ignore_ascii_case("q"))
                    .and_then(|(_, value)| Quality::parse(value.trim_ascii_start())),
            };
            // A coding that is named twice: the first counts, so nothing behind it can widen what was refused.
            *slot = slot.or(quality);
        }
        self
    }

    /// How much the client wants `coding`. Identity is acceptable unless refused by name or by `*;q=0`.
    #[must_use]
    pub fn quality(&self, coding: Coding) -> Quality {
        match coding {
            Coding::Gzip => self.gzip.or(self.any).unwrap_or(Quality::NONE),
            Coding::Deflate => self.deflate.or(self.any).unwrap_or(Quality::NONE),
            Coding::Identity => match (self.identity, self.any) {
                (Some(quality), _) => quality,
                (None, Some(Quality::NONE)) => Quality::NONE,
                // Acceptable, but behind everything that was asked for.
                (None, _) => Quality(1),
            },
        }
    }

    /// The coding of `offered` that the client wants most; among equals the one offered first.
    ///
    /// `None` when the client refuses all of them, which it can do only by refusing identity in so many words. Sending
    /// identity all the same is then allowed, and kinder than 406 (RFC 9110, section 12.5.3).
    #[must_use]
    pub fn choose(&self, offered: &[Coding]) -> Option<Coding> {
        let mut best = None;
        for &coding in offered {
            let quality = self.quality(coding);
            if quality > best.map_or(Quality::NONE, |(quality, _)| quality) {
                best = Some((quality, coding));
            }
        }
        best.map(|(_, coding)| coding)
    }
}

/// Members looked at in one header line. Browsers send five; the rest of an endless list is not read.
const MAX_MEMBERS: usize = 64;
