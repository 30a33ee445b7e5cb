//! One member of a JSON object, without reading the others.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A member of a JSON object, as it is written there; of several with this name the last, as in JavaScript.
///
/// # Errors
///
/// When the text is not a JSON object.
pub(crate) fn member<'a>(json: &'a str, name: &str) -> Result<Option<&'a str>, serde_json::Error> {
    struct Member<'n>(&'n str);

    impl<'a> Visitor<'a> for Member<'_> {
        type Value = Option<&'a RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = None;
            while let Some(key) = map.next_key::<Cow<'a, str>>()? {
                if key == self.0 {
                    found = Some(map.next_value()?);
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(found)
        }
    }

    let mut deserializer = serde_json::Deserializer::from_str(json);
    let found = deserializer.deserialize_map(Member(name))?;
    deserializer.end()?;
    Ok(found.map(RawValue::get))
}
